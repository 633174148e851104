#include "server/rpc/append_stream.h"

#include <utility>

#include "server/rpc/convert.h"
#include "server/rpc/convert_context.h"
#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Answers that may wait for the client. A client that sends without reading is
// held back by them, instead of filling our memory.
constexpr size_t kMaxAnswers = 64;

absl::Status ShuttingDown() { return absl::UnavailableError("the daemon is shutting down"); }

}  // namespace

AppendStream::AppendStream(Gate& gate, ContextEngine& contexts,
                           grpc::CallbackServerContext* context)
    : gate_(gate),
      contexts_(contexts),
      context_(context),
      rule_(RuleOf("mnemo.v1.ContextService/Append")),
      started_(gate.clock().Mono()),
      claim_(gate.bytes()) {
  gate_.watchdog().Add(*this);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AppendStream::Start(
    Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context) {
  auto* stream = new AppendStream(gate, contexts, context);
  stream->Begin();
  return stream;
}

void AppendStream::Begin() {
  const absl::Status status = gate_.Admit(rule_, DeadlineOf(*context_, gate_.clock()), call_);
  if (!status.ok()) return End(status);
  // Who has not even said what to append to is waited for like anybody else.
  reading_wait_.Begin(gate_.clock().Mono());
  Read();
}

void AppendStream::Submit(void (AppendStream::*work)()) {
  const absl::Status status = gate_.Submit(call_, [this, work] { (this->*work)(); });
  if (!status.ok()) End(status);
}

void AppendStream::Read() {
  {
    MutexLock lock(mutex_);
    if (!shutting_down_) {
      reading_ = true;
      StartRead(&incoming_);
      return;
    }
  }
  End(ShuttingDown());
}

void AppendStream::ReadWhenAnswersFit() {
  {
    MutexLock lock(mutex_);
    paused_ = outgoing_.size() >= kMaxAnswers;
    if (paused_) return;
  }
  Read();
}

void AppendStream::OnReadDone(bool ok) {
  {
    MutexLock lock(mutex_);
    // The watchdog may have taken the turn: then the call ends already.
    if (!std::exchange(reading_, false)) return;
  }
  reading_wait_.End(/*progress=*/true);
  if (!ok) return Submit(&AppendStream::HandleEndOfInput);
  switch (claim_.Acquire(incoming_.Length(), [this] { Submit(&AppendStream::Handle); })) {
    case ByteBudget::Claim::Outcome::kGranted:
      return Submit(&AppendStream::Handle);
    case ByteBudget::Claim::Outcome::kQueued:
      return;
    case ByteBudget::Claim::Outcome::kWithdrawn:
      return End(absl::CancelledError("the call was cancelled"));
  }
}

void AppendStream::Handle() {
  if (absl::Status status = CheckGoesOn(call_, gate_.clock()); !status.ok()) return End(status);
  const absl::StatusOr<v1::AppendResponse> answer = Take();
  incoming_.Clear();
  claim_.Release();
  if (!answer.ok()) return Refuse(answer.status());
  Enqueue(*answer);
  ReadWhenAnswersFit();
}

absl::StatusOr<v1::AppendResponse> AppendStream::Take() {
  v1::AppendRequest request;
  if (!DecodeMessage(incoming_, request)) {
    return absl::InvalidArgumentError("the message is not an AppendRequest");
  }
  switch (request.message_case()) {
    case v1::AppendRequest::kStart:
      return Open(request.start());
    case v1::AppendRequest::kTokens:
      return Append(request.tokens());
    case v1::AppendRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("message is absent; it must be start or tokens");
}

absl::StatusOr<v1::AppendResponse> AppendStream::Open(const v1::AppendStart& start) {
  if (session_) {
    return absl::InvalidArgumentError("start came twice; it must be first, and only first");
  }
  MNEMO_ASSIGN_OR_RETURN(const AppendStart asked, FromProto(start));
  MNEMO_ASSIGN_OR_RETURN(session_, contexts_.Append(call_, asked));
  v1::AppendResponse response;
  response.mutable_ready()->set_context_id(session_->context_id());
  response.mutable_ready()->set_next_position(session_->next_position());
  return response;
}

absl::StatusOr<v1::AppendResponse> AppendStream::Append(const v1::TokenBatch& batch) {
  if (!session_) return absl::InvalidArgumentError("tokens came before start");
  MNEMO_ASSIGN_OR_RETURN(const TokenColumns tokens, FromProto(batch, session_->dimension()));
  MNEMO_ASSIGN_OR_RETURN(const AppendResult answer, session_->Append(tokens));
  v1::AppendResponse response;
  response.mutable_ack()->set_next_position(answer.next_position);
  response.mutable_ack()->set_repeated_batch(answer.repeated);
  return response;
}

void AppendStream::HandleEndOfInput() {
  if (call_.cancelled) return End(absl::CancelledError("the call was cancelled"));
  if (!session_) return End(absl::InvalidArgumentError("the stream ended before start"));
  End(absl::OkStatus());
}

void AppendStream::Refuse(const absl::Status& status) {
  v1::AppendResponse response;
  ToProto(status, response.mutable_refusal()->mutable_error());
  if (session_) response.mutable_refusal()->set_next_position(session_->next_position());
  Enqueue(response);
  End(status);
}

void AppendStream::Enqueue(const v1::AppendResponse& response) {
  grpc::ByteBuffer message = EncodeMessage(response);
  MutexLock lock(mutex_);
  outgoing_.push_back(std::move(message));
  if (!std::exchange(writing_, true)) WriteLocked();
}

void AppendStream::WriteLocked() {
  writing_wait_.Begin(gate_.clock().Mono());
  StartWrite(&outgoing_.front());
}

void AppendStream::OnWriteDone(bool ok) {
  writing_wait_.End(/*progress=*/true);
  bool resume = false;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    outgoing_.pop_front();
    if (!ok) outgoing_.clear();
    resume = paused_ && outgoing_.size() < kMaxAnswers;
    if (resume) paused_ = false;
    writing_ = !outgoing_.empty();
    if (writing_) WriteLocked();
    if (!resume) {
      if (writing_ || !ended_) return;
      status = final_;
    }
  }
  if (resume) return Read();
  FinishNow(status);
}

void AppendStream::OnCancel() {
  call_.cancelled = true;
  if (claim_.Withdraw()) End(absl::CancelledError("the call was cancelled"));
}

bool AppendStream::OnStalled() {
  MutexLock lock(mutex_);
  if (std::exchange(stalled_, true)) return false;
  gate_.observer().OnShed(rule_.call_class, "stalled");
  if (!writing_ && std::exchange(reading_, false)) return true;
  // The reason would wait behind answers that are not read.
  context_->TryCancel();
  return false;
}

void AppendStream::EndStalled() {
  End(absl::DeadlineExceededError("the client sent nothing for too long"));
}

void AppendStream::OnShutdown() {
  {
    MutexLock lock(mutex_);
    shutting_down_ = true;
    // Whoever else has the turn sees it before the next read.
    if (!std::exchange(reading_, false)) return;
  }
  Submit(&AppendStream::EndForShutdown);
}

void AppendStream::EndForShutdown() { End(ShuttingDown()); }

void AppendStream::End(const absl::Status& status) {
  session_.reset();
  claim_.Release();
  AddPushback(*context_, status);
  {
    MutexLock lock(mutex_);
    ended_ = true;
    final_ = status;
    if (writing_) return;
  }
  FinishNow(status);
}

void AppendStream::FinishNow(const absl::Status& status) {
  gate_.observer().OnFinished(rule_, status.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(status));
}

void AppendStream::OnDone() {
  gate_.watchdog().Remove(*this);
  delete this;
}

}  // namespace mnemo

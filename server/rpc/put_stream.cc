#include "server/rpc/put_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// The contract lets a client send this much before any grant.
constexpr uint64_t kInitialCredit = kMiB;
// How far a grant runs ahead of what was received.
constexpr uint64_t kWindow = 8 * kMiB;

}  // namespace

PutStream::PutStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context)
    : gate_(gate),
      blocks_(blocks),
      context_(context),
      rule_(RuleOf("mnemo.v1.BlockService/Put")),
      started_(gate.clock().Mono()) {}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* PutStream::Start(
    Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context) {
  auto* stream = new PutStream(gate, blocks, context);
  stream->Begin();
  return stream;
}

void PutStream::Begin() {
  const absl::Status status =
      gate_.Admit(rule_, DeadlineOf(*context_, gate_.clock()), call_);
  if (!status.ok()) return End(status);
  StartRead(&incoming_);
}

void PutStream::Submit(void (PutStream::*work)()) {
  const absl::Status status = gate_.Submit(call_, [this, work] { (this->*work)(); });
  if (!status.ok()) End(status);
}

void PutStream::OnReadDone(bool ok) {
  Submit(ok ? &PutStream::Handle : &PutStream::HandleEndOfInput);
}

void PutStream::Handle() {
  if (call_.ShouldStop(gate_.clock())) {
    return End(call_.cancelled ? absl::CancelledError("the call was cancelled")
                               : absl::DeadlineExceededError("the deadline has passed"));
  }
  absl::StatusOr<ParsedPut> message = ParsePut(incoming_);
  incoming_.Clear();
  if (!message.ok()) return End(message.status());
  message_ = *std::move(message);
  const bool start = message_.kind == ParsedPut::Kind::kStart;
  const absl::Status status = start ? HandleStart() : HandleData();
  if (!status.ok()) return End(status);
  if (AllAnswered()) return End(absl::OkStatus());
  // A start reads on when its window is charged.
  if (!start) StartRead(&incoming_);
}

absl::Status PutStream::HandleStart() {
  if (session_) return absl::InvalidArgumentError("start came twice; it must be first, and only first");
  MNEMO_ASSIGN_OR_RETURN(const PutRequest request, FromProto(message_.start));
  MNEMO_ASSIGN_OR_RETURN(session_, blocks_.Put(call_, request));
  parts_ = request.parts.size();
  if (session_->bytes_wanted() == 0) {
    SendGrant(/*first=*/true);
    SendResults(session_->TakeImmediateResults());
    return absl::OkStatus();
  }
  window_ = std::min(session_->bytes_wanted(), kWindow);
  uint64_t ticket = 0;
  if (gate_.bytes().AcquireOrQueue(window_, [this] { Submit(&PutStream::Granted); }, ticket)) {
    Granted();
  }
  return absl::OkStatus();
}

void PutStream::Granted() {
  granted_ = window_;
  SendGrant(/*first=*/true);
  SendResults(session_->TakeImmediateResults());
  StartRead(&incoming_);
}

absl::Status PutStream::HandleData() {
  if (!session_) return absl::InvalidArgumentError("data came before start");
  if (message_.offset > kMaxPartBytes ||
      session_->bytes_received() + message_.size > std::max(granted_, kInitialCredit)) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes of payload were sent; {} were granted",
                    session_->bytes_received() + message_.size,
                    std::max(granted_, kInitialCredit)));
  }
  std::vector<PutResult> results;
  uint64_t offset = message_.offset;
  if (message_.pieces.empty()) return session_->Data(message_.index, offset, {}, results);
  for (const ByteView piece : message_.pieces) {
    MNEMO_RETURN_IF_ERROR(session_->Data(message_.index, offset, piece, results));
    offset += piece.size();
  }
  message_.slices.clear();
  SendResults(std::move(results));
  GrantMore();
  return absl::OkStatus();
}

void PutStream::GrantMore() {
  const uint64_t ahead = granted_ - std::min(granted_, session_->bytes_received());
  if (granted_ == session_->bytes_wanted() || ahead > window_ / 2) return;
  granted_ = std::min(session_->bytes_wanted(), session_->bytes_received() + window_);
  SendGrant(/*first=*/false);
}

void PutStream::HandleEndOfInput() {
  if (!session_) return End(absl::InvalidArgumentError("the stream ended before start"));
  std::vector<PutResult> results;
  session_->Finish(results);
  SendResults(std::move(results));
  End(absl::OkStatus());
}

void PutStream::SendGrant(bool first) {
  v1::PutResponse response;
  response.mutable_grant()->set_bytes_granted(granted_);
  if (first) {
    for (const OfferVerdict& verdict : session_->verdicts()) {
      ToProto(verdict, response.mutable_grant()->add_verdicts());
    }
  }
  Enqueue(response);
}

void PutStream::SendResults(std::vector<PutResult> results) {
  for (const PutResult& result : results) {
    v1::PutResponse response;
    ToProto(result, response.mutable_result());
    Enqueue(response);
    ++results_sent_;
  }
}

void PutStream::Enqueue(const v1::PutResponse& response) {
  grpc::ByteBuffer message = EncodeMessage(response);
  MutexLock lock(mutex_);
  if (ended_) return;
  outgoing_.push_back(std::move(message));
  if (std::exchange(writing_, true)) return;
  StartWrite(&outgoing_.front());
}

void PutStream::OnWriteDone(bool ok) {
  MutexLock lock(mutex_);
  outgoing_.pop_front();
  if (!ok) outgoing_.clear();
  writing_ = !outgoing_.empty();
  if (writing_) {
    StartWrite(&outgoing_.front());
  } else if (ended_) {
    FinishLocked();
  }
}

void PutStream::End(const absl::Status& status) {
  // What is not whole is given back before the client can learn of the end.
  session_.reset();
  if (window_ != 0) gate_.bytes().Release(std::exchange(window_, 0));
  AddPushback(*context_, status);
  MutexLock lock(mutex_);
  if (std::exchange(ended_, true)) return;
  final_ = status;
  if (!writing_) FinishLocked();
}

void PutStream::FinishLocked() {
  if (std::exchange(finished_, true)) return;
  gate_.observer().OnFinished(rule_, final_.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(final_));
}

}  // namespace mnemo

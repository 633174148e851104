#include "server/rpc/context_read_stream.h"

#include <utility>

#include "server/rpc/convert_context.h"
#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

namespace mnemo {

ContextReadStream::ContextReadStream(Gate& gate, ContextEngine& contexts,
                                     grpc::CallbackServerContext* context)
    : gate_(gate),
      contexts_(contexts),
      context_(context),
      rule_(RuleOf("mnemo.v1.ContextService/Read")),
      started_(gate.clock().Mono()),
      claim_(gate.bytes()) {
  gate_.watchdog().Add(*this);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ContextReadStream::Start(
    Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context,
    const grpc::ByteBuffer* request) {
  auto* stream = new ContextReadStream(gate, contexts, context);
  stream->Open(*request);
  return stream;
}

void ContextReadStream::Open(const grpc::ByteBuffer& request) {
  const absl::Status status = gate_.Admit(rule_, DeadlineOf(*context_, gate_.clock()), call_);
  if (!status.ok()) return End(status);
  if (!DecodeMessage(request, request_)) {
    return End(absl::InvalidArgumentError("the message is not a ReadContextRequest"));
  }
  Submit(&ContextReadStream::Advance);
}

void ContextReadStream::Submit(void (ContextReadStream::*work)()) {
  const absl::Status status = gate_.Submit(call_, [this, work] { (this->*work)(); });
  if (!status.ok()) End(status);
}

void ContextReadStream::Advance() {
  if (absl::Status status = CheckGoesOn(call_, gate_.clock()); !status.ok()) return End(status);
  if (!session_) {
    const auto open = [&]() -> absl::StatusOr<std::unique_ptr<ContextReadSession>> {
      MNEMO_ASSIGN_OR_RETURN(const ContextReadRequest asked, FromProto(request_));
      return contexts_.Read(call_, asked);
    };
    absl::StatusOr<std::unique_ptr<ContextReadSession>> session = open();
    if (!session.ok()) return End(session.status());
    session_ = *std::move(session);
  }
  if (const uint64_t bytes = session_->NextBytes(); bytes != 0) {
    claim_.Release();
    switch (claim_.Acquire(bytes, [this] { Submit(&ContextReadStream::Step); })) {
      case ByteBudget::Claim::Outcome::kGranted:
        break;
      case ByteBudget::Claim::Outcome::kQueued:
        return;
      case ByteBudget::Claim::Outcome::kWithdrawn:
        return End(absl::CancelledError("the call was cancelled"));
    }
  }
  Step();
}

void ContextReadStream::Step() {
  absl::StatusOr<std::optional<ContextReadStep>> step = session_->Next();
  if (!step.ok() || !step->has_value()) return End(step.status());
  grpc::ByteBuffer message = EncodeReadStep(**step);
  message_.Swap(&message);
  writing_wait_.Begin(gate_.clock().Mono());
  StartWrite(&message_);
}

void ContextReadStream::OnWriteDone(bool ok) {
  writing_wait_.End(/*progress=*/true);
  message_.Clear();
  if (stalled_) return End(absl::DeadlineExceededError("the client read nothing for too long"));
  if (!ok || call_.cancelled) return End(absl::CancelledError("the client has gone"));
  Submit(&ContextReadStream::Advance);
}

void ContextReadStream::OnCancel() {
  call_.cancelled = true;
  if (claim_.Withdraw()) End(absl::CancelledError("the call was cancelled"));
}

bool ContextReadStream::OnStalled() {
  // Its trailers would wait behind the message that is not read.
  if (!stalled_.exchange(true)) {
    gate_.observer().OnShed(rule_.call_class, "stalled");
    context_->TryCancel();
  }
  return false;
}

void ContextReadStream::End(const absl::Status& status) {
  session_.reset();
  claim_.Release();
  AddPushback(*context_, status);
  gate_.observer().OnFinished(rule_, status.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(status));
}

void ContextReadStream::OnDone() {
  gate_.watchdog().Remove(*this);
  delete this;
}

}  // namespace mnemo

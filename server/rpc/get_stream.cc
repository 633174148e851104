#include "server/rpc/get_stream.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr uint64_t kMaxMessagePayload = kMiB;

}  // namespace

GetStream::GetStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context)
    : gate_(gate),
      blocks_(blocks),
      context_(context),
      rule_(RuleOf("mnemo.v1.BlockService/Get")),
      started_(gate.clock().Mono()),
      claim_(gate.bytes()) {
  gate_.watchdog().Add(*this);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GetStream::Start(Gate& gate, BlockEngine& blocks,
                                                             grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request) {
  auto* stream = new GetStream(gate, blocks, context);
  stream->Open(*request);
  return stream;
}

void GetStream::Open(const grpc::ByteBuffer& request) {
  const absl::Status status =
      gate_.Admit(rule_, DeadlineOf(*context_, gate_.clock()), call_);
  if (!status.ok()) return End(status);
  if (!DecodeMessage(request, request_)) {
    return End(absl::InvalidArgumentError("the message is not a GetRequest"));
  }
  Submit(&GetStream::Advance);
}

void GetStream::Submit(void (GetStream::*work)()) {
  const absl::Status status = gate_.Submit(call_, [this, work] { (this->*work)(); });
  if (!status.ok()) End(status);
}

void GetStream::Advance() {
  if (!session_) {
    const auto open = [&]() -> absl::StatusOr<std::unique_ptr<GetSession>> {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, gate_.clock()));
      MNEMO_ASSIGN_OR_RETURN(const GetRequest asked, FromProto(request_));
      return blocks_.Get(call_, asked);
    };
    absl::StatusOr<std::unique_ptr<GetSession>> session = open();
    if (!session.ok()) return End(session.status());
    session_ = *std::move(session);
  }
  if (const uint64_t bytes = session_->NextBytes(); bytes != 0) {
    claim_.Release();
    switch (claim_.Acquire(bytes, [this] { Submit(&GetStream::Step); })) {
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

void GetStream::Step() {
  absl::StatusOr<std::optional<ReadStep>> step = session_->Next();
  if (!step.ok() || !step->has_value()) return End(step.status());
  if ((*step)->kind == ReadStep::Kind::kHeader) return SendHeader(**step);
  data_ = **std::move(step);
  data_sent_ = 0;
  SendData();
}

void GetStream::SendHeader(const ReadStep& step) {
  v1::GetResponse response;
  v1::GetHeader* header = response.mutable_header();
  header->set_index(step.index);
  if (!step.error.ok()) {
    ToProto(step.error, header->mutable_error());
  } else {
    header->set_size(step.size);
    ToProto(step.digest, header->mutable_digest());
    header->set_level(ToProto(step.level));
    header->set_bytes_following(step.bytes_following);
    header->set_depth(step.depth);
  }
  Write(EncodeMessage(response));
}

void GetStream::SendData() {
  const uint64_t size = std::min(kMaxMessagePayload, data_->bytes.size() - data_sent_);
  grpc::ByteBuffer message =
      EncodeGetData(data_->index, data_->offset + data_sent_, data_->bytes.Slice(data_sent_, size));
  data_sent_ += size;
  if (data_sent_ == data_->bytes.size()) data_.reset();
  Write(std::move(message));
}

void GetStream::Write(grpc::ByteBuffer message) {
  message_.Swap(&message);
  writing_wait_.Begin(gate_.clock().Mono());
  StartWrite(&message_);
}

void GetStream::OnWriteDone(bool ok) {
  writing_wait_.End(/*progress=*/true);
  message_.Clear();
  if (stalled_) return End(absl::DeadlineExceededError("the client read nothing for too long"));
  if (!ok || call_.cancelled) return End(absl::CancelledError("the client has gone"));
  if (data_) return SendData();
  Submit(&GetStream::Advance);
}

void GetStream::OnCancel() {
  call_.cancelled = true;
  if (claim_.Withdraw()) End(absl::CancelledError("the call was cancelled"));
}

bool GetStream::OnStalled() {
  // Its trailers would wait behind the message that is not read.
  if (!stalled_.exchange(true)) {
    gate_.observer().OnShed(rule_.call_class, "stalled");
    context_->TryCancel();
  }
  return false;
}

void GetStream::End(const absl::Status& status) {
  data_.reset();
  session_.reset();
  claim_.Release();
  AddPushback(*context_, status);
  gate_.observer().OnFinished(rule_, status.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(status));
}

void GetStream::OnDone() {
  gate_.watchdog().Remove(*this);
  delete this;
}

}  // namespace mnemo

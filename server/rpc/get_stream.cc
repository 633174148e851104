#include "server/rpc/get_stream.h"

#include <algorithm>

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
      started_(gate.clock().Mono()) {}

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
      MNEMO_ASSIGN_OR_RETURN(const GetRequest asked, FromProto(request_));
      return blocks_.Get(call_, asked);
    };
    absl::StatusOr<std::unique_ptr<GetSession>> session = open();
    if (!session.ok()) return End(session.status());
    session_ = *std::move(session);
  }
  absl::StatusOr<std::optional<ReadStep>> step = session_->Next();
  if (!step.ok() || !step->has_value()) return End(step.status());
  if ((*step)->kind == ReadStep::Kind::kData) {
    data_ = **std::move(step);
    data_sent_ = 0;
    return SendData();
  }
  v1::GetResponse response;
  v1::GetHeader* header = response.mutable_header();
  header->set_index((*step)->index);
  if (!(*step)->error.ok()) {
    ToProto((*step)->error, header->mutable_error());
  } else {
    header->set_size((*step)->size);
    ToProto((*step)->digest, header->mutable_digest());
    header->set_level(ToProto((*step)->level));
    header->set_bytes_following((*step)->bytes_following);
    header->set_depth((*step)->depth);
  }
  message_ = EncodeMessage(response);
  StartWrite(&message_);
}

void GetStream::SendData() {
  charged_ = std::min(kMaxMessagePayload, data_->bytes.size() - data_sent_);
  uint64_t ticket = 0;
  // While the budget is used up this call waits for it without a thread.
  if (gate_.bytes().AcquireOrQueue(charged_, [this] { Submit(&GetStream::SendNow); }, ticket)) {
    SendNow();
  }
}

void GetStream::SendNow() {
  message_ = EncodeGetData(data_->index, data_->offset + data_sent_,
                           data_->bytes.Slice(data_sent_, charged_));
  data_sent_ += charged_;
  StartWrite(&message_);
}

void GetStream::OnWriteDone(bool ok) {
  message_.Clear();
  if (charged_ != 0) gate_.bytes().Release(std::exchange(charged_, 0));
  if (!ok) return End(absl::CancelledError("the client has gone"));
  if (data_ && data_sent_ < data_->bytes.size() && !call_.cancelled) return SendData();
  data_.reset();
  Submit(&GetStream::Advance);
}

void GetStream::End(const absl::Status& status) {
  if (charged_ != 0) gate_.bytes().Release(std::exchange(charged_, 0));
  session_.reset();
  data_.reset();
  AddPushback(*context_, status);
  gate_.observer().OnFinished(rule_, status.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(status));
}

}  // namespace mnemo

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
    : ReadStream(gate, "mnemo.v1.BlockService/Get", context), blocks_(blocks) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GetStream::Start(Gate& gate, BlockEngine& blocks,
                                                             grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request) {
  auto* stream = new GetStream(gate, blocks, context);
  stream->Open(*request);
  return stream;
}

absl::StatusOr<std::unique_ptr<GetSession>> GetStream::OpenSession() {
  MNEMO_ASSIGN_OR_RETURN(const GetRequest asked, FromProto(request()));
  return blocks_.Get(call_, asked);
}

void GetStream::Step() {
  absl::StatusOr<std::optional<ReadStep>> step = session().Next();
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
    if (step.digest != Digest128{}) ToProto(step.digest, header->mutable_digest());
    if (step.fidelity) ToProto(*step.fidelity, header->mutable_fidelity());
    if (step.fidelity || step.encoded) ToProto(step.put_digest, header->mutable_put_digest());
    if (step.encoded) {
      for (const SectionRun& run : step.runs) {
        v1::SectionRun* const out = header->mutable_encoded()->add_runs();
        out->set_first(run.first);
        out->set_count(run.count);
      }
      header->mutable_encoded();  // also of all sections
    }
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

bool GetStream::SendRest() {
  if (!data_) return false;
  SendData();
  return true;
}

}  // namespace mnemo

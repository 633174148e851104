// One Get: steps of the engine out to the socket.
#pragma once

#include <memory>
#include <optional>

#include "server/engine/block_engine.h"
#include "server/rpc/read_stream.h"

namespace mnemo {

// What it pins or copies is claimed.
class GetStream final : public ReadStream<v1::GetRequest, GetSession> {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Gate& gate, BlockEngine& blocks,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

 private:
  GetStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  absl::StatusOr<std::unique_ptr<GetSession>> OpenSession() override;
  void Step() override;
  bool SendRest() override;
  void DropStep() override { data_.reset(); }
  void SendHeader(const ReadStep& step);
  void SendData();

  BlockEngine& blocks_;
  std::optional<ReadStep> data_;  // a step that is not sent to its end
  uint64_t data_sent_ = 0;
};

}  // namespace mnemo

// One Get: steps of the engine out to the socket.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "server/engine/block_engine.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"

namespace mnemo {

// Owns itself until OnDone. One step is in work or one message in flight, never
// both: so nothing here needs a lock. The messages in flight are charged to the
// gate's byte budget.
class GetStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Gate& gate, BlockEngine& blocks,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override { call_.cancelled = true; }
  void OnDone() override { delete this; }

 private:
  GetStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  void Open(const grpc::ByteBuffer& request);
  // Queues `work` on the executor, or ends the call if the queue is full.
  void Submit(void (GetStream::*work)());
  // Sends the next message; runs on the executor.
  void Advance();
  void SendData();
  void SendNow();
  void End(const absl::Status& status);

  Gate& gate_;
  BlockEngine& blocks_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  v1::GetRequest request_;
  std::unique_ptr<GetSession> session_;
  std::optional<ReadStep> data_;  // the part of a step that is not sent yet
  uint64_t data_sent_ = 0;
  uint64_t charged_ = 0;          // of the byte budget
  grpc::ByteBuffer message_;      // in flight
};

}  // namespace mnemo

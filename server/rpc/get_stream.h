// One Get: steps of the engine out to the socket.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "server/engine/block_engine.h"
#include "server/rpc/stream_watchdog.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"

namespace mnemo {

// Owns itself until OnDone. It has one turn, which passes between a task of the
// executor, a message in flight, and a claim on the byte budget: whoever has it
// goes on, so nothing here needs a lock. What it pins or copies is claimed.
class GetStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public WatchedStream {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Gate& gate, BlockEngine& blocks,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  bool OnStalled() override;

 private:
  GetStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  void Open(const grpc::ByteBuffer& request);
  // Queues `work` on the executor, or ends the call if the queue is full.
  void Submit(void (GetStream::*work)());
  // Claims what the next step takes, without a thread while the budget is used up.
  void Advance();
  // Takes the next step and sends its first message.
  void Step();
  void SendHeader(const ReadStep& step);
  void SendData();
  void Write(grpc::ByteBuffer message);
  void End(const absl::Status& status);

  Gate& gate_;
  BlockEngine& blocks_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  v1::GetRequest request_;
  std::unique_ptr<GetSession> session_;
  ByteBudget::Claim claim_;
  std::optional<ReadStep> data_;  // a step that is not sent to its end
  uint64_t data_sent_ = 0;
  grpc::ByteBuffer message_;      // in flight
  std::atomic<bool> stalled_{false};
};

}  // namespace mnemo

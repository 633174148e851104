// One Read of a context: steps of the engine out to the socket.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "mnemo/v1/context.pb.h"
#include "server/engine/context_engine.h"
#include "server/rpc/stream_watchdog.h"
#include "server/rpc/unary.h"

namespace mnemo {

// Owns itself until OnDone. It has one turn, which passes between a task of the
// executor, a message in flight, and a claim on the byte budget: whoever has it
// goes on, so nothing here needs a lock. What a step takes into RAM is claimed
// until the next.
class ContextReadStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                                public WatchedStream {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Gate& gate, ContextEngine& contexts,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  bool OnStalled() override;

 private:
  ContextReadStream(Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);
  void Open(const grpc::ByteBuffer& request);
  // Queues `work` on the executor, or ends the call if the queue is full.
  void Submit(void (ContextReadStream::*work)());
  // Claims what the next step takes, without a thread while the budget is used up.
  void Advance();
  void Step();
  void End(const absl::Status& status);

  Gate& gate_;
  ContextEngine& contexts_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  v1::ReadContextRequest request_;
  std::unique_ptr<ContextReadSession> session_;
  ByteBudget::Claim claim_;
  grpc::ByteBuffer message_;  // in flight
  std::atomic<bool> stalled_{false};
};

}  // namespace mnemo

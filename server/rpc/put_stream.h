// One Put: payload from the socket's slices into the engine.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>

#include "server/engine/block_engine.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Owns itself until OnDone. One message is read or in work at a time; answers
// are written meanwhile, one at a time, from a queue.
//
// Flow: the stream is charged a window of the gate's byte budget for as long as
// it lives, and the grant runs that far ahead of what was received. What was
// received lies in the store's own extents.
class PutStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override { call_.cancelled = true; }
  void OnDone() override { delete this; }

 private:
  PutStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  void Begin();
  void Submit(void (PutStream::*work)());
  // Handles one message; runs on the executor.
  void Handle();
  absl::Status HandleStart();
  absl::Status HandleData();
  // After the window was charged: sends the first grant, reads on.
  void Granted();
  void HandleEndOfInput();
  void GrantMore();
  void SendGrant(bool first);
  void SendResults(std::vector<PutResult> results);
  void Enqueue(const v1::PutResponse& response);
  bool AllAnswered() const { return session_ && results_sent_ == parts_; }
  // Ends the call when every queued answer is written.
  void End(const absl::Status& status);
  void FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Gate& gate_;
  BlockEngine& blocks_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  grpc::ByteBuffer incoming_;
  ParsedPut message_;
  std::unique_ptr<PutSession> session_;
  size_t parts_ = 0;
  size_t results_sent_ = 0;
  uint64_t window_ = 0;   // charged to the byte budget
  uint64_t granted_ = 0;  // bytes of payload, from the start

  Mutex mutex_;
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status final_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

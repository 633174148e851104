// One Put: payload from the socket's slices into the engine.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>

#include "server/engine/block_engine.h"
#include "server/rpc/stream_watchdog.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Owns itself until OnDone. It has one turn, which passes between a message
// being read, a task of the executor, and a claim on the byte budget; only who
// has the turn touches what is not guarded. Answers are written meanwhile, one
// at a time, from a queue.
//
// Flow: the stream claims a window of the gate's byte budget for as long as it
// lives, and the grant runs that far ahead of what was received. What was
// received lies in the store's own extents.
class PutStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                        public WatchedStream {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  bool OnStalled() override;
  void EndStalled() override;

 private:
  PutStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  void Begin();
  void Submit(void (PutStream::*work)());
  void Read();
  // Handles one message; runs on the executor.
  void Handle();
  // Each passes the turn on, or ends the call.
  void HandleStart();
  void HandleData();
  void Granted();
  void HandleEndOfInput();

  absl::Status OpenSession();
  absl::Status CheckData() const;
  absl::Status TakeData();
  bool WasStalled() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the message is of a part that was not wanted, sent before the client
  // could know.
  bool IsUnwanted() const;
  void GrantMore();
  void SendGrant(bool first);
  void SendResults(std::vector<PutResult> results);
  void Enqueue(const v1::PutResponse& response);
  void WriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call when every queued answer is written.
  void End(const absl::Status& status);
  // The last thing that is done with this object.
  void FinishNow(const absl::Status& status);

  // Payload that came, and what the grants count up to.
  uint64_t bytes_seen() const { return session_->bytes_received() + bytes_unwanted_; }
  uint64_t bytes_to_come() const { return session_->bytes_wanted() + bytes_unwanted_; }

  Gate& gate_;
  BlockEngine& blocks_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  grpc::ByteBuffer incoming_;
  ParsedPut message_;
  std::unique_ptr<PutSession> session_;
  ByteBudget::Claim claim_;
  size_t results_left_ = 0;
  uint64_t window_ = 0;
  uint64_t granted_ = 0;          // bytes of payload, from the start
  uint64_t bytes_unwanted_ = 0;   // came, and were dropped
  uint64_t bytes_unmarked_ = 0;   // came since the wait for the client counted as ended

  Mutex mutex_;  // taken after the watchdog's
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;  // the read that is under way has the turn
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;  // and is being cancelled
  absl::Status final_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

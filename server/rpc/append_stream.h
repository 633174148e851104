// One Append: batches of tokens from the socket into the engine.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>

#include "absl/status/statusor.h"
#include "mnemo/v1/context.pb.h"
#include "server/engine/context_engine.h"
#include "server/rpc/stream_watchdog.h"
#include "server/rpc/unary.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Owns itself until OnDone. It has one turn, which passes between a message
// being read, a claim on the byte budget, and a task of the executor; only who
// has the turn touches what is not guarded. Answers are written meanwhile, one
// at a time, from a queue of bounded length.
//
// Flow: the next batch is read when the one before is stored, and while a batch
// is here its bytes are claimed. Between batches nothing is claimed: a writer
// may keep its stream open for as long as it likes, also without sending.
class AppendStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                           public WatchedStream {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  bool OnStalled() override;
  void EndStalled() override;
  void OnShutdown() override;

 private:
  AppendStream(Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);
  void Begin();
  void Submit(void (AppendStream::*work)());
  void Read();
  // Reads on, or once the client has read some of its answers.
  void ReadWhenAnswersFit();
  // Handles one message; runs on the executor, as the two that follow.
  void Handle();
  void HandleEndOfInput();
  void EndForShutdown();

  // Does what the message says; returns what it is answered with.
  absl::StatusOr<v1::AppendResponse> Take();
  absl::StatusOr<v1::AppendResponse> Open(const v1::AppendStart& start);
  absl::StatusOr<v1::AppendResponse> Append(const v1::TokenBatch& batch);
  void Enqueue(const v1::AppendResponse& response);
  void WriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Says where the stream stood, then ends it.
  void Refuse(const absl::Status& status);
  // Ends the call when every queued answer is written.
  void End(const absl::Status& status);
  // The last thing that is done with this object.
  void FinishNow(const absl::Status& status);

  Gate& gate_;
  ContextEngine& contexts_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  const MonoTime started_;
  CallContext call_;
  grpc::ByteBuffer incoming_;
  std::unique_ptr<AppendSession> session_;
  ByteBudget::Claim claim_;

  Mutex mutex_;                                   // taken after the watchdog's
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;  // the read that is under way has the turn
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;   // the answers that are queued have it
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;  // and is being cancelled
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status final_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

// A stream of messages in and of answers out.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>

#include "server/rpc/stream_call.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Its turn passes between a message being read, a task of the executor, and a
// claim on the byte budget; only who has the turn touches what is not guarded.
// Answers are written meanwhile, one at a time, from a queue.
class ExchangeStream
    : public StreamCall<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  void OnReadDone(bool ok) final;
  void OnWriteDone(bool ok) final;
  bool OnStalled() final;
  void EndStalled() final;

 protected:
  // Whether the client may take its time between two messages.
  enum class Patience : uint8_t { kLimited, kUnlimited };

  ExchangeStream(Gate& gate, std::string_view method, grpc::CallbackServerContext* context,
                 Patience patience)
      : StreamCall(gate, method, context), patience_(patience) {}

  // A message lies in incoming_. On gRPC's thread, with the turn.
  virtual void Received() = 0;
  // The client sends no more, and is still there. On the executor.
  virtual void EndOfInput() = 0;
  // Gives back what was not brought to its end, before the client can learn of it.
  virtual void DropSession() = 0;
  // Whether what came ends a wait for the client.
  virtual bool IsProgress() { return true; }

  // Passes the turn to the next message of the client.
  void Read();
  // The same, but only once the client has read some of its answers, if many wait
  // for it: who sends without reading is held back, instead of filling our memory.
  void ReadWhenAnswersFit();
  void Enqueue(const google::protobuf::MessageLite& response);
  // Ends the call when every queued answer is written.
  void End(const absl::Status& status) final;
  // The daemon shuts down: takes the turn of the read that is under way, or of the
  // next one, and ends the call.
  void EndInsteadOfReading();

  grpc::ByteBuffer incoming_;

 private:
  void WriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WasStalled() ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleEndOfInput();
  void EndForShutdown();

  const Patience patience_;
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

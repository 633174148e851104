// One Watch: events of a space out to the socket, until the client leaves.
#pragma once

#include <memory>

#include "server/engine/block_engine.h"
#include "server/rpc/stream_call.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Owned by itself through the state that it shares with wake-ups, which may
// come after the call is done.
class WatchStream final : public StreamCall<grpc::ServerWriteReactor<v1::WatchResponse>> {
 public:
  static grpc::ServerWriteReactor<v1::WatchResponse>* Start(Gate& gate, BlockEngine& blocks,
                                                            grpc::CallbackServerContext* context,
                                                            const v1::WatchRequest* request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  bool OnStalled() override { return Cut(); }
  void OnShutdown() override;

 private:
  // What a wake-up needs; outlives the stream. Its mutex is taken before that of
  // the stream, and OnDone, which takes it too, never runs within Finish.
  struct Shared {
    Mutex mutex;
    WatchStream* stream ABSL_GUARDED_BY(mutex) = nullptr;  // null once it has ended
  };
  // Whether work is queued or a message in flight. While waiting, only a wake-up
  // or a cancellation starts work, whichever is first.
  enum class State : uint8_t { kBusy, kWaiting, kEnded };

  WatchStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context,
              const v1::WatchRequest& request);
  void Begin();
  void Wake();
  void Advance();
  // Why the watch is to end, if it is.
  absl::Status CheckGoesOn() const;
  void End(const absl::Status& status) override;

  BlockEngine& blocks_;
  const v1::WatchRequest& request_;
  const std::shared_ptr<Shared> shared_;
  std::atomic<bool> shutting_down_{false};
  std::unique_ptr<EventSubscription> subscription_;
  v1::WatchResponse response_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kBusy;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;  // while busy
};

}  // namespace mnemo

// What a stream that its caller's thread drives needs: a deadline, and an end
// from outside.
#pragma once

#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>

#include "client/cpp/cancel.h"
#include "client/cpp/core.h"
#include "mnemo/options.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Stands with the core, and with the caller's CancelSource if there is one, for
// as long as it lives. Cancel is thread-safe, the rest is for one thread. The
// core must not end before it.
class BlockingStream final : public Cancellable {
 public:
  BlockingStream(Core& core, std::chrono::system_clock::time_point deadline, CancelSource* cancel);
  ~BlockingStream();
  BlockingStream(const BlockingStream&) = delete;
  BlockingStream& operator=(const BlockingStream&) = delete;

  // For the next attempt. The one before has ended, and its context is gone. An
  // attempt of a cancelled stream ends with kCancelled.
  grpc::ClientContext& NewContext();
  void Cancel() override;
  bool cancelled() const;
  // Waits, but no longer than until it is cancelled or the deadline has passed.
  void Pause(Millis time);
  std::chrono::system_clock::time_point deadline() const { return deadline_; }

 private:
  Core& core_;
  const std::chrono::system_clock::time_point deadline_;
  CancelSource* const source_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client

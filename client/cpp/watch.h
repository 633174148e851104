// A watch: events are read ahead by a bounded number of messages, so that a
// slow reader slows the stream, and the daemon decides when to cut it.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <optional>
#include <vector>

#include "client/cpp/cancel.h"
#include "client/cpp/core.h"
#include "mnemo/client.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Next is for one thread; the rest is gRPC's and Cancel's.
class Watch::Impl final : public Cancellable, private grpc::ClientReadReactor<v1::WatchResponse> {
 public:
  Impl(Core& core, const SpaceRef& space, uint64_t from_sequence);
  // Cancels and waits for the end.
  ~Impl() override;

  absl::StatusOr<std::vector<BlockEvent>> Next(Millis timeout);
  void Cancel() override;

 private:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  Core& core_;
  v1::WatchRequest request_;
  std::optional<grpc::ClientContext> context_;
  v1::WatchResponse message_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::vector<BlockEvent>> ready_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client

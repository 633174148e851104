// When a failed call is tried again: pure decisions, and the budget that all
// calls of a client share.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "mnemo/options.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// The token bucket of gRPC's retry throttling (gRFC A6). Thread-safe.
class RetryBudget {
 public:
  explicit RetryBudget(const RetryOptions& options);

  void OnSuccess();
  // Takes a token; answers whether a retry is still within the budget.
  bool OnFailure();

 private:
  const double capacity_;
  const double ratio_;
  Mutex mutex_;
  double tokens_ ABSL_GUARDED_BY(mutex_);
};

// How an attempt failed.
struct AttemptFailure {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  // The trailer grpc-retry-pushback-ms, if there was one.
  std::optional<std::string> pushback;
  // Whether repeating the call changes nothing that the caller can tell.
  bool repeatable = false;
  // Attempts made so far, this one included.
  int attempts = 1;
};

// How long to wait before the next attempt, or nothing if there must not be
// one. `jitter` is uniform in [0, 1). The budget is the caller's to ask.
std::optional<Millis> RetryDelay(const RetryOptions& options, const AttemptFailure& failure,
                                 double jitter);

}  // namespace mnemo::client

// The circuit breaker of fail-open calls.
#pragma once

#include "absl/status/status.h"
#include "mnemo/engine.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Opens after failures in a row; when it has been open long enough, lets one
// call through, whose end decides. Thread-safe.
class Circuit {
 public:
  // `clock` must outlive it.
  Circuit(const EngineOptions& options, const Clock& clock);

  // Whether a call may be made. If so, Leave must follow.
  bool Enter();
  void Leave(const absl::Status& status);
  EngineStats stats() const;

 private:
  const EngineOptions options_;
  const Clock& clock_;
  mutable Mutex mutex_;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  bool probing_ ABSL_GUARDED_BY(mutex_) = false;
  MonoTime opened_ ABSL_GUARDED_BY(mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client

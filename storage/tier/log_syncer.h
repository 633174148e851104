// Syncs a write-ahead log some time after it was written to.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Calls `sync` on a thread of its own at most `period` after the first write
// that no sync covers. Sleeps without a timer while there is none. Thread-safe.
class LogSyncer {
 public:
  LogSyncer(Nanos period, std::function<absl::Status()> sync);
  // Stops without a last sync.
  ~LogSyncer();
  LogSyncer(const LogSyncer&) = delete;
  LogSyncer& operator=(const LogSyncer&) = delete;

  // Something was written. One atomic exchange when a sync is due anyway.
  void NoteWrite();

 private:
  void Run();

  const Nanos period_;
  const std::function<absl::Status()> sync_;
  std::atomic<bool> dirty_{false};
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mnemo

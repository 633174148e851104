// Something that is done again and again.
#pragma once

#include <functional>
#include <thread>

#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Runs `task` every `interval`, counted from the end of the last run, on a
// thread of its own from construction until Stop. Thread-safe.
class PeriodicTask {
 public:
  PeriodicTask(Nanos interval, std::function<void()> task);
  ~PeriodicTask();  // stops
  PeriodicTask(const PeriodicTask&) = delete;
  PeriodicTask& operator=(const PeriodicTask&) = delete;

  // Returns when a run in progress has ended; none follows. Idempotent, from
  // one thread at a time, not from the task.
  void Stop();

 private:
  void Run();

  const Nanos interval_;
  const std::function<void()> task_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mnemo

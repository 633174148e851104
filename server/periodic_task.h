// Something that is done again and again.
#pragma once

#include <functional>
#include <thread>

#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Runs `task` on a thread of its own from construction until Stop. Thread-safe.
class PeriodicTask {
 public:
  // Every `interval`, counted from the end of the last run.
  PeriodicTask(Nanos interval, std::function<void()> task);
  // At once, and then after the time that each run answers, 0 or more.
  explicit PeriodicTask(std::function<Nanos()> task);
  ~PeriodicTask();  // stops
  PeriodicTask(const PeriodicTask&) = delete;
  PeriodicTask& operator=(const PeriodicTask&) = delete;

  // Returns when a run in progress has ended; none follows. Idempotent, from
  // one thread at a time, not from the task.
  void Stop();

 private:
  void Run();

  PeriodicTask(Nanos first_wait, std::function<Nanos()> task);

  const std::function<Nanos()> task_;
  Nanos wait_;  // of the thread alone
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mnemo

// A bounded pool of threads.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/mutex.h"

namespace mnemo {

// Runs tasks in the order of their submission. Thread-safe. The destructor
// runs what was accepted, then joins.
class Executor {
 public:
  struct Options {
    std::string name = "executor";  // at most 15 characters, as threads are named
    size_t threads = 2;
    size_t max_queued = 1024;  // tasks waiting, beyond those running
  };
  explicit Executor(const Options& options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False if the queue is full or Shutdown was called: the task did not and
  // will not run.
  [[nodiscard]] bool TrySubmit(std::function<void()> task);

  // Accepts no more, runs what was accepted, joins. Idempotent; not from a
  // task of this executor.
  void Shutdown();

  size_t queued() const;

 private:
  void Run();

  const Options options_;
  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace mnemo

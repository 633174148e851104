// Threads that help with a large copy while the processor has nothing else to do.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

#include "storage/base/executor.h"

namespace mnemo {

// Thread-safe. One copy at a time is helped: where several run, each has a thread of its
// own already. Whoever copies never waits for a helper that has not begun, so a busy
// machine costs nothing but the wake-up. docs/decisions/0118.
class CopyCrew {
 public:
  // `helpers`: 0 for none.
  explicit CopyCrew(size_t helpers);
  // As many as leave each copy a core, and at most three: two cores mostly take all that
  // the memory gives.
  static size_t HelpersOfThisMachine();

  // Runs work(0) to work(count - 1), each once, on this thread and maybe on others.
  // Returns once all have ended.
  void ForEach(size_t count, const std::function<void(size_t)>& work);

 private:
  struct Job;

  const size_t helpers_;
  std::atomic<bool> busy_{false};
  Executor executor_;
};

}  // namespace mnemo

// The threads that bring parts into RAM ahead of use.
#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "server/engine/prefetch_queue.h"
#include "storage/base/mutex.h"
#include "storage/block/block_store.h"

namespace mnemo {

// Takes from the queue from construction until Stop. Memory: one part a thread, at most
// 64 MiB. Thread-safe.
class PrefetchPool {
 public:
  // 1 to 64 threads; `store` and `queue` outlive the pool.
  PrefetchPool(BlockStore& store, PrefetchQueue& queue, size_t threads);
  // Stops.
  ~PrefetchPool();
  PrefetchPool(const PrefetchPool&) = delete;
  PrefetchPool& operator=(const PrefetchPool&) = delete;

  // Stops the queue, and returns when every thread has ended its part. Idempotent.
  void Stop();

 private:
  void Run();

  BlockStore& store_;
  PrefetchQueue& queue_;
  Mutex joining_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(joining_);
};

}  // namespace mnemo

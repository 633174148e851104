#include "server/workers/prefetch_pool.h"

#include <fmt/format.h>
#include <pthread.h>

#include <optional>

namespace mnemo {

PrefetchPool::PrefetchPool(BlockStore& store, PrefetchQueue& queue, size_t threads)
    : store_(store), queue_(queue) {
  MutexLock lock(joining_);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), fmt::format("prefetch-{}", i).c_str());
      Run();
    });
  }
}

PrefetchPool::~PrefetchPool() { Stop(); }

void PrefetchPool::Stop() {
  queue_.Stop();
  MutexLock lock(joining_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void PrefetchPool::Run() {
  while (const std::optional<PrefetchQueue::Work> work = queue_.Take()) {
    queue_.Done(*work, store_.Prefetch(work->part.key, work->origin));
  }
}

}  // namespace mnemo

#include "server/workers/mover_pool.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>

namespace mnemo {
namespace {

// So long a rest that one long step does not silence a worker.
constexpr Nanos kLongestRest = std::chrono::seconds(1);

}  // namespace

absl::Status MoverPoolOptions::Validate() const {
  if (threads < 1 || threads > 16) {
    return absl::InvalidArgumentError(fmt::format("threads: {} is not in [1, 16]", threads));
  }
  if (!(duty > 0 && duty <= 1)) {
    return absl::InvalidArgumentError(fmt::format("duty: {} is not in (0, 1]", duty));
  }
  if (idle_wait < std::chrono::milliseconds(10) || idle_wait > std::chrono::seconds(60)) {
    return absl::InvalidArgumentError(
        fmt::format("idle_wait: {} ms is not in [10, 60000]",
                    std::chrono::duration_cast<std::chrono::milliseconds>(idle_wait).count()));
  }
  return absl::OkStatus();
}

MoverPool::MoverPool(BlockStore& store, const MoverPoolOptions& options)
    : store_(store), options_(options), running_(options.threads) {
  MutexLock lock(joining_);
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), fmt::format("mover-{}", i).c_str());
      Run();
      MutexLock ended(mutex_);
      --running_;
      changed_.SignalAll();
    });
  }
}

MoverPool::~MoverPool() { Stop(); }

void MoverPool::Stop() {
  MutexLock lock(joining_);
  {
    MutexLock stopping(mutex_);
    stopping_ = true;
    changed_.SignalAll();
    // One that looked before and waits only now needs a wake of its own.
    while (running_ > 0) {
      store_.WakeMovers();
      changed_.WaitFor(mutex_, std::chrono::milliseconds(5));
    }
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool MoverPool::stopping() const {
  MutexLock lock(mutex_);
  return stopping_;
}

bool MoverPool::Rest(Nanos worked) {
  const auto rest = std::chrono::duration_cast<Nanos>(worked * (1.0 / options_.duty - 1.0));
  const auto until = std::chrono::steady_clock::now() + std::min(rest, kLongestRest);
  MutexLock lock(mutex_);
  while (!stopping_) {
    const Nanos left = until - std::chrono::steady_clock::now();
    if (left <= Nanos(0)) return true;
    changed_.WaitFor(mutex_, left);
  }
  return false;
}

void MoverPool::Run() {
  while (!stopping()) {
    const auto began = std::chrono::steady_clock::now();
    const bool more = store_.MoveStep();
    if (!more) {
      store_.WaitForWork(options_.idle_wait);
    } else if (!Rest(std::chrono::steady_clock::now() - began)) {
      return;
    }
  }
}

}  // namespace mnemo

// A bound on bytes in flight.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Grants in the order of asking, so that a large request is not
// starved by small ones.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t capacity) : capacity_(capacity) {}

  // Takes `bytes` now, or not at all.
  [[nodiscard]] bool TryAcquire(uint64_t bytes);
  // Takes `bytes` (at most the capacity) now and returns true; or later, and then
  // calls `granted` once, without a lock held. Returns an id for Forget in `ticket`.
  [[nodiscard]] bool AcquireOrQueue(uint64_t bytes, std::function<void()> granted,
                                    uint64_t& ticket);
  // Withdraws a queued request. False if it was granted: then it is to be released.
  bool Forget(uint64_t ticket);
  void Release(uint64_t bytes);

  uint64_t used() const;
  uint64_t capacity() const { return capacity_; }

 private:
  struct Waiter {
    uint64_t ticket = 0;
    uint64_t bytes = 0;
    std::function<void()> granted;
  };
  std::deque<Waiter> GrantWaiters() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t capacity_;
  mutable Mutex mutex_;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  std::deque<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

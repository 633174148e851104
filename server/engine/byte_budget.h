// A bound on bytes in flight, between the sockets and the levels.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>

#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Grants in the order of asking, so that a large claim is not
// starved by small ones. Outlives its claims.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t capacity) : capacity_(capacity) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // What one call holds. Acquire and Release are for one thread at a time;
  // Withdraw is for any.
  class Claim {
   public:
    enum class Outcome : uint8_t { kGranted, kQueued, kWithdrawn };

    explicit Claim(ByteBudget& budget) : budget_(budget) {}
    // Not while queued: withdraw first.
    ~Claim() { Release(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    // Takes `bytes`, or all of the capacity where that is less, on top of nothing:
    // what was held has been released. When queued, `granted` is called once,
    // later, on another thread and without a lock held, unless the claim is
    // withdrawn first; it may run, and end the call, before Acquire returns.
    Outcome Acquire(uint64_t bytes, std::function<void()> granted);
    // Takes `bytes` more now, or not at all.
    [[nodiscard]] bool TryAdd(uint64_t bytes);
    void Release();
    // From now on nothing is granted. True if the claim was queued: then
    // `granted` will not be called, and the caller goes on in its place.
    bool Withdraw();
    uint64_t held() const;

   private:
    friend class ByteBudget;
    ByteBudget& budget_;
    uint64_t held_ ABSL_GUARDED_BY(budget_.mutex_) = 0;
    bool queued_ ABSL_GUARDED_BY(budget_.mutex_) = false;
    bool withdrawn_ ABSL_GUARDED_BY(budget_.mutex_) = false;
  };

  uint64_t used() const;
  uint64_t capacity() const { return capacity_; }

 private:
  struct Waiter {
    Claim* claim = nullptr;
    uint64_t bytes = 0;
    std::function<void()> granted;
  };
  bool FitsLocked(uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return bytes <= capacity_ - used_;
  }
  void GrantWaitersLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls what was granted. A callback that releases in its turn adds to the
  // work of whoever delivers already: no recursion, however many wait.
  void Deliver() ABSL_LOCKS_EXCLUDED(mutex_);

  const uint64_t capacity_;
  mutable Mutex mutex_;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> granted_ ABSL_GUARDED_BY(mutex_);
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mnemo

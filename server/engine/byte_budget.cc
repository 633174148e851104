#include "server/engine/byte_budget.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

ByteBudget::Claim::Outcome ByteBudget::Claim::Acquire(uint64_t bytes,
                                                      std::function<void()> granted) {
  MutexLock lock(budget_.mutex_);
  MNEMO_CHECK(held_ == 0 && !queued_);
  if (withdrawn_) return Outcome::kWithdrawn;
  bytes = std::min(bytes, budget_.capacity_);
  if (bytes == 0 || (budget_.waiters_.empty() && budget_.FitsLocked(bytes))) {
    held_ = bytes;
    budget_.used_ += bytes;
    return Outcome::kGranted;
  }
  queued_ = true;
  budget_.waiters_.push_back({.claim = this, .bytes = bytes, .granted = std::move(granted)});
  return Outcome::kQueued;
}

bool ByteBudget::Claim::TryAdd(uint64_t bytes) {
  MutexLock lock(budget_.mutex_);
  if (withdrawn_ || !budget_.waiters_.empty() || !budget_.FitsLocked(bytes)) return false;
  held_ += bytes;
  budget_.used_ += bytes;
  return true;
}

void ByteBudget::Claim::Release() {
  {
    MutexLock lock(budget_.mutex_);
    MNEMO_CHECK(!queued_ && held_ <= budget_.used_);
    if (held_ == 0) return;
    budget_.used_ -= std::exchange(held_, 0);
    budget_.GrantWaitersLocked();
  }
  budget_.Deliver();
}

bool ByteBudget::Claim::Withdraw() {
  {
    MutexLock lock(budget_.mutex_);
    withdrawn_ = true;
    if (!std::exchange(queued_, false)) return false;
    budget_.waiters_.remove_if([this](const Waiter& waiter) { return waiter.claim == this; });
    // Those behind it may have waited for it alone.
    budget_.GrantWaitersLocked();
  }
  budget_.Deliver();
  return true;
}

uint64_t ByteBudget::Claim::held() const {
  MutexLock lock(budget_.mutex_);
  return held_;
}

void ByteBudget::GrantWaitersLocked() {
  while (!waiters_.empty() && FitsLocked(waiters_.front().bytes)) {
    Waiter& waiter = waiters_.front();
    waiter.claim->budget_.mutex_.AssertHeld();  // it is ours
    used_ += waiter.bytes;
    waiter.claim->held_ = waiter.bytes;
    waiter.claim->queued_ = false;
    granted_.push_back(std::move(waiter.granted));
    waiters_.pop_front();
  }
}

void ByteBudget::Deliver() {
  {
    MutexLock lock(mutex_);
    if (std::exchange(delivering_, true)) return;
  }
  for (;;) {
    std::function<void()> granted;
    {
      MutexLock lock(mutex_);
      if (granted_.empty()) {
        delivering_ = false;
        return;
      }
      granted = std::move(granted_.front());
      granted_.pop_front();
    }
    granted();
  }
}

uint64_t ByteBudget::used() const {
  MutexLock lock(mutex_);
  return used_;
}

}  // namespace mnemo

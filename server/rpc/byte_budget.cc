#include "server/rpc/byte_budget.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

bool ByteBudget::TryAcquire(uint64_t bytes) {
  MutexLock lock(mutex_);
  if (!waiters_.empty() || bytes > capacity_ - used_) return false;
  used_ += bytes;
  return true;
}

bool ByteBudget::AcquireOrQueue(uint64_t bytes, std::function<void()> granted, uint64_t& ticket) {
  MNEMO_CHECK(bytes <= capacity_);
  MutexLock lock(mutex_);
  ticket = 0;
  if (waiters_.empty() && bytes <= capacity_ - used_) {
    used_ += bytes;
    return true;
  }
  ticket = next_ticket_++;
  waiters_.push_back({.ticket = ticket, .bytes = bytes, .granted = std::move(granted)});
  return false;
}

bool ByteBudget::Forget(uint64_t ticket) {
  std::deque<Waiter> granted;
  bool found = false;
  {
    MutexLock lock(mutex_);
    const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                     [&](const Waiter& w) { return w.ticket == ticket; });
    if (waiter != waiters_.end()) {
      found = true;
      waiters_.erase(waiter);
      // Those behind it may have waited for it alone.
      granted = GrantWaiters();
    }
  }
  for (const Waiter& waiter : granted) waiter.granted();
  return found;
}

void ByteBudget::Release(uint64_t bytes) {
  std::deque<Waiter> granted;
  {
    MutexLock lock(mutex_);
    MNEMO_CHECK(bytes <= used_);
    used_ -= bytes;
    granted = GrantWaiters();
  }
  for (const Waiter& waiter : granted) waiter.granted();
}

std::deque<ByteBudget::Waiter> ByteBudget::GrantWaiters() {
  std::deque<Waiter> granted;
  while (!waiters_.empty() && waiters_.front().bytes <= capacity_ - used_) {
    used_ += waiters_.front().bytes;
    granted.push_back(std::move(waiters_.front()));
    waiters_.pop_front();
  }
  return granted;
}

uint64_t ByteBudget::used() const {
  MutexLock lock(mutex_);
  return used_;
}

}  // namespace mnemo

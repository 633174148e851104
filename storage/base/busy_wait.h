// Waiting without sleep, where what is waited for mostly comes at once.
#pragma once

#include <sched.h>

#include "storage/base/clock.h"

namespace mnemo {

// A core of a virtual machine that went idle takes tens of microseconds to wake up, more
// than many an answer does to come. So who waits looks again for a while before it
// sleeps, and lets other threads have the core in between; but only while its last wait
// was short, and not for a while after others kept the core when it was offered to them:
// who sleeps is given it sooner than who yields, and no core goes idle then.
// docs/decisions/0120. Not thread-safe.
class BusyWait {
 public:
  // An offer that took longer was taken by somebody who has much to do: not by the peer
  // that is waited for, which may run on the same core.
  static constexpr Nanos kTaken = std::chrono::microseconds(500);
  // How long it sleeps at once then.
  static constexpr Nanos kPause = std::chrono::milliseconds(200);

  // `longest`: of one wait; 0: never. `clock` outlives it.
  BusyWait(const Clock& clock, Nanos longest) : clock_(clock), longest_(longest) {}

  // A wait begins. Calls `look` until it answers true. False if it has not, for as long as
  // is worth it: then the caller sleeps, and says when it has woken up. `offer` lets other
  // threads have the core.
  template <typename Look, typename Offer>
  bool For(const Look& look, const Offer& offer) {
    began_ = clock_.Mono();
    if (!short_ || began_ < not_before_) return false;
    for (MonoTime now = began_; now - began_ < longest_;) {
      if (look()) return true;
      const MonoTime offered = clock_.Mono();
      offer();
      now = clock_.Mono();
      if (now - offered > kTaken) {
        not_before_ = now + kPause;
        return look();
      }
    }
    return false;
  }
  template <typename Look>
  bool For(const Look& look) {
    return For(look, [] { ::sched_yield(); });
  }
  // What For was called for has come. A wait that was too long for once may have been so
  // because it slept: hence twice the time.
  void Woke() { short_ = clock_.Mono() - began_ < 2 * longest_; }

 private:
  const Clock& clock_;
  const Nanos longest_;
  MonoTime began_;
  MonoTime not_before_;
  bool short_ = false;  // the last wait that slept
};

}  // namespace mnemo

// Waiting without sleep, where what is waited for mostly comes at once.
#pragma once

#include <sched.h>

#include "storage/base/clock.h"

namespace mnemo {

// A core of a virtual machine that went idle takes tens of microseconds to wake up, more
// than many an answer does to come. So who waits looks again for a while before it
// sleeps, and lets other threads have the core in between; but only while its last wait
// was short. docs/decisions/0120. Not thread-safe.
class BusyWait {
 public:
  // `longest`: of one wait; 0: never. `clock` outlives it.
  BusyWait(const Clock& clock, Nanos longest) : clock_(clock), longest_(longest) {}

  // A wait begins. Calls `look` until it answers true. False if it has not, for as long as
  // is worth it: then the caller sleeps, and says when it has woken up.
  template <typename Look>
  bool For(const Look& look) {
    began_ = clock_.Mono();
    if (!short_) return false;
    do {
      if (look()) return true;
      ::sched_yield();
    } while (clock_.Mono() - began_ < longest_);
    return false;
  }
  // What For was called for has come. A wait that was too long for once may have been so
  // because it slept: hence twice the time.
  void Woke() { short_ = clock_.Mono() - began_ < 2 * longest_; }

 private:
  const Clock& clock_;
  const Nanos longest_;
  MonoTime began_;
  bool short_ = false;  // the last wait that slept
};

}  // namespace mnemo

// The time by which parts expire: wall time that no jump of the clock misuses.
//
// Wall time is believed as long as it runs with the monotonic clock, and this
// time never goes back. When wall time jumps back, time here goes on from where
// it was, until wall time has caught up: what has expired stays expired. When
// it jumps forward by more than kForwardTolerance, time here also goes on as if
// nothing had happened, until the new time is confirmed: it kept pace with the
// monotonic clock for kConfirmAfter. Times of expiry are kept in this time, so
// that an hour stays an hour through all of that: Believed and Shown convert.
#pragma once

#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. `clock` outlives it.
class ExpiryClock final : public Clock {
 public:
  static constexpr Nanos kForwardTolerance = std::chrono::hours(1);
  static constexpr Nanos kConfirmAfter = std::chrono::minutes(10);

  // `last_known`, from before the restart, has certainly passed: the clock is
  // believed at once only if it is at most kForwardTolerance ahead of it. Nanos
  // 0: nothing is known, and the clock is believed.
  ExpiryClock(const Clock& clock, WallTime last_known);

  // Believed time; never goes back.
  WallTime Wall() const override;
  MonoTime Mono() const override { return clock_.Mono(); }

  // False while a jump forward waits to be confirmed.
  bool trusted() const;
  // A time of the clock beneath in believed time, and the other way. "Never"
  // (nanos 0) stays so.
  WallTime Believed(WallTime wall) const;
  WallTime Shown(WallTime believed) const;

 private:
  WallTime NowLocked(WallTime wall) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;  // innermost
  // Believed time is anchor_wall_ + (mono - anchor_mono_).
  mutable WallTime anchor_wall_ ABSL_GUARDED_BY(mutex_);
  mutable MonoTime anchor_mono_ ABSL_GUARDED_BY(mutex_);
  // The jump that waits: wall minus believed time, and since when.
  mutable bool jumped_ ABSL_GUARDED_BY(mutex_) = false;
  mutable Nanos jump_ ABSL_GUARDED_BY(mutex_){0};
  mutable MonoTime jumped_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

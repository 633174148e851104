#include "storage/block/expiry_clock.h"

namespace mnemo {
namespace {

// How far a waiting jump may drift and still be the same: NTP slews by at most
// 500 us a second, 0.3 s in kConfirmAfter.
constexpr Nanos kSameJump = std::chrono::seconds(5);

}  // namespace

ExpiryClock::ExpiryClock(const Clock& clock, WallTime last_known)
    : clock_(clock), anchor_wall_(clock.Wall()), anchor_mono_(clock.Mono()) {
  if (last_known.nanos == 0) return;
  const Nanos ahead(anchor_wall_.nanos - last_known.nanos);
  if (ahead >= Nanos(0) && ahead <= kForwardTolerance) return;
  anchor_wall_ = last_known;
  MutexLock lock(mutex_);
  NowLocked(clock_.Wall());
}

WallTime ExpiryClock::NowLocked(WallTime wall) const {
  const MonoTime mono = clock_.Mono();
  const WallTime believed = anchor_wall_ + (mono - anchor_mono_);
  const Nanos ahead(wall.nanos - believed.nanos);
  bool follow = ahead > Nanos(0);
  if (ahead <= kForwardTolerance) {
    jumped_ = false;
  } else if (!jumped_ || ahead > jump_ + kSameJump || ahead < jump_ - kSameJump) {
    jumped_ = true;
    jump_ = ahead;
    jumped_at_ = mono;
    follow = false;
  } else {
    follow = mono - jumped_at_ >= kConfirmAfter;
    jumped_ = !follow;
  }
  if (!follow) return believed;
  anchor_wall_ = wall;
  anchor_mono_ = mono;
  return wall;
}

WallTime ExpiryClock::Wall() const {
  MutexLock lock(mutex_);
  return NowLocked(clock_.Wall());
}

bool ExpiryClock::trusted() const {
  MutexLock lock(mutex_);
  return !jumped_;
}

WallTime ExpiryClock::Believed(WallTime wall) const {
  if (wall.nanos == 0) return wall;
  MutexLock lock(mutex_);
  const WallTime now = clock_.Wall();
  return NowLocked(now) + Nanos(wall.nanos - now.nanos);
}

WallTime ExpiryClock::Shown(WallTime believed) const {
  if (believed.nanos == 0) return believed;
  MutexLock lock(mutex_);
  const WallTime now = clock_.Wall();
  return now + Nanos(believed.nanos - NowLocked(now).nanos);
}

}  // namespace mnemo

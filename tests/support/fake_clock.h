// A clock that moves only when a test moves it.
#pragma once

#include <atomic>

#include "storage/base/clock.h"

namespace mnemo {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  WallTime Wall() const override { return {wall_.load()}; }
  MonoTime Mono() const override { return MonoTime(Nanos(mono_.load())); }

  // Both clocks run on.
  void Advance(Nanos by) {
    wall_ += by.count();
    mono_ += by.count();
  }
  // The wall clock is set, as an operator or NTP would; monotonic time stays.
  void JumpWall(Nanos by) { wall_ += by.count(); }

 private:
  std::atomic<int64_t> wall_{1'700'000'000'000'000'000};
  std::atomic<int64_t> mono_{1'000'000'000'000};
};

}  // namespace mnemo

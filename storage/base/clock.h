// Time, handed in so that tests can turn it.
#pragma once

#include <chrono>
#include <cstdint>

namespace mnemo {

// Nanoseconds since the Unix epoch. Kept on disk; may jump either way.
struct WallTime {
  int64_t nanos = 0;
  friend auto operator<=>(const WallTime&, const WallTime&) = default;
};

using Nanos = std::chrono::nanoseconds;
// Monotonic time, comparable only within one process.
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, Nanos>;

inline WallTime operator+(WallTime t, Nanos d) { return {t.nanos + d.count()}; }

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual WallTime Wall() const = 0;
  virtual MonoTime Mono() const = 0;
};

class SystemClock final : public Clock {
 public:
  WallTime Wall() const override {
    return {std::chrono::duration_cast<Nanos>(std::chrono::system_clock::now().time_since_epoch())
                .count()};
  }
  MonoTime Mono() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace mnemo

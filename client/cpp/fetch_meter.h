// How long fetching takes, from what reads took before.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "mnemo/blocks.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Blocks of a read that lie at one level.
struct FetchShare {
  Level level = Level::kNone;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};

// One share of each level, of all that a match found, or that a read of `width`
// parts for each key brought; empty if a part of the read failed.
std::vector<FetchShare> SharesOf(const MatchResult& match);
std::vector<FetchShare> SharesOf(const GetResult& read, size_t width);

// Learns from reads, by level and size of a block: seconds as a line over bytes, by
// least squares over weights that decay (50 reads, some). Thread-safe.
class FetchMeter {
 public:
  using Duration = std::chrono::duration<double>;

  // A read of these took so long, from the call to its answer.
  void Record(std::span<const FetchShare> shares, Duration took);
  // How long a read of these would take. None while nothing was read from one of
  // their levels, or if there are none.
  std::optional<Duration> Estimate(std::span<const FetchShare> shares) const;

 private:
  // Sums of bytes x and seconds y, of what counts yet.
  struct Line {
    double n = 0, x = 0, y = 0, xx = 0, xy = 0;
    void Add(double bytes, double seconds);
    // Seconds of a read of nothing, and of a byte; neither below 0.
    std::pair<double, double> Fit() const;
  };
  // What the call costs by itself, and the bytes of each share.
  struct Thought {
    double call = 0;
    std::vector<double> shares;
    double Sum() const;
  };

  std::optional<Thought> ThinkLocked(std::span<const FetchShare> shares) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The line of the size of block that is most like this one's.
  const Line* NearestLocked(const FetchShare& share) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  // By level and the power of two of a block's bytes.
  std::map<std::pair<Level, int>, Line> lines_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client

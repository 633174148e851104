// Durations, counted where they happen and read as quantiles.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "storage/base/clock.h"

namespace mnemo {

// A histogram of durations from 100 ns to 1000 s. Thread-safe; Record is two
// atomic additions, without a lock.
//
// Each decade has 70 buckets: 30 from 1 to 2.5, 20 to 5, 20 to 10. So 1, 2.5
// and 5 times every power of ten are exact limits, and a quantile is at most 5 %
// off. A bucket holds (lower, upper], as Prometheus counts. 5.5 KiB a stripe,
// of which there are four, so that threads seldom share a cache line.
class LatencyHistogram {
 public:
  LatencyHistogram();
  LatencyHistogram(const LatencyHistogram&) = delete;
  LatencyHistogram& operator=(const LatencyHistogram&) = delete;

  // Negative durations count as zero.
  void Record(Nanos duration);

  // What was recorded so far. Not one moment: a Record in progress may be in
  // some of the figures only.
  class Snapshot {
   public:
    uint64_t count() const { return count_; }
    Nanos sum() const { return sum_; }
    // The duration that a share of `quantile` of all did not exceed,
    // interpolated within its bucket; zero if nothing was recorded.
    Nanos Quantile(double quantile) const;
    // How many lasted at most `limit`. Exact if `limit` is 1, 2.5 or 5 times a
    // power of ten from 100 ns to 100 s; otherwise rounded down to a bucket.
    uint64_t CountUpTo(Nanos limit) const;
    // What was recorded after `earlier` was taken of the same histogram.
    Snapshot Since(const Snapshot& earlier) const;

   private:
    friend class LatencyHistogram;
    std::vector<uint64_t> buckets_;
    uint64_t count_ = 0;
    Nanos sum_{0};
  };
  Snapshot Read() const;

 private:
  static constexpr size_t kDecades = 10;
  static constexpr size_t kBucketsPerDecade = 70;
  // The first holds what is at most 100 ns, the last what is over 1000 s.
  static constexpr size_t kBuckets = kDecades * kBucketsPerDecade + 2;
  static constexpr size_t kStripes = 4;

  struct alignas(64) Stripe {
    std::array<std::atomic<uint64_t>, kBuckets> buckets{};
    std::atomic<int64_t> sum_nanos{0};
  };

  static size_t BucketOf(int64_t nanos);
  static int64_t UpperLimitOf(size_t bucket);

  std::unique_ptr<std::array<Stripe, kStripes>> stripes_;
};

}  // namespace mnemo

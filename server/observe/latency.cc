#include "server/observe/latency.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>

namespace mnemo {
namespace {

constexpr int64_t kSmallest = 100;  // nanoseconds

// Limits within a decade whose first is `decade`, in 1/200 of it: from 1 in
// steps of 0.05, from 2.5 of 0.125, from 5 of 0.25.
constexpr int64_t kScale = 200;
struct Section {
  int64_t begin;
  int64_t step;
  size_t first_bucket;
};
constexpr Section kSections[] = {{200, 10, 0}, {500, 25, 30}, {1000, 50, 50}};

size_t StripeOfThisThread(size_t stripes) {
  thread_local const size_t hash = std::hash<std::thread::id>{}(std::this_thread::get_id());
  return (hash >> 4) % stripes;
}

}  // namespace

LatencyHistogram::LatencyHistogram() : stripes_(new std::array<Stripe, kStripes>) {}

size_t LatencyHistogram::BucketOf(int64_t nanos) {
  if (nanos <= kSmallest) return 0;
  // (lower, upper] of whole numbers is [lower, upper) of what is one less.
  const int64_t below = nanos - 1;
  int64_t decade = kSmallest;
  size_t index = 0;
  while (below >= decade * 10) {
    decade *= 10;
    if (++index == kDecades) return kBuckets - 1;
  }
  // below / decade is in [1, 10); kept in whole numbers so that limits are
  // exact. decade * 2000 stays under 10^15.
  const Section* section = &kSections[0];
  for (const Section& candidate : kSections) {
    if (below * kScale >= decade * candidate.begin) section = &candidate;
  }
  const int64_t offset = (below * kScale - decade * section->begin) / (decade * section->step);
  return 1 + index * kBucketsPerDecade + section->first_bucket + static_cast<size_t>(offset);
}

int64_t LatencyHistogram::UpperLimitOf(size_t bucket) {
  if (bucket == 0) return kSmallest;
  int64_t decade = kSmallest;
  for (size_t i = 0; i < (bucket - 1) / kBucketsPerDecade; ++i) decade *= 10;
  const size_t within = (bucket - 1) % kBucketsPerDecade;
  const Section* section = &kSections[0];
  for (const Section& candidate : kSections) {
    if (within >= candidate.first_bucket) section = &candidate;
  }
  const auto steps = static_cast<int64_t>(within - section->first_bucket + 1);
  return decade * (section->begin + steps * section->step) / kScale;
}

void LatencyHistogram::Record(Nanos duration) {
  const int64_t nanos = std::max<int64_t>(duration.count(), 0);
  Stripe& stripe = (*stripes_)[StripeOfThisThread(kStripes)];
  stripe.buckets[BucketOf(nanos)].fetch_add(1, std::memory_order_relaxed);
  stripe.sum_nanos.fetch_add(nanos, std::memory_order_relaxed);
}

LatencyHistogram::Snapshot LatencyHistogram::Read() const {
  Snapshot snapshot;
  snapshot.buckets_.resize(kBuckets);
  for (const Stripe& stripe : *stripes_) {
    for (size_t i = 0; i < kBuckets; ++i) {
      const uint64_t count = stripe.buckets[i].load(std::memory_order_relaxed);
      snapshot.buckets_[i] += count;
      snapshot.count_ += count;
    }
    snapshot.sum_ += Nanos(stripe.sum_nanos.load(std::memory_order_relaxed));
  }
  return snapshot;
}

Nanos LatencyHistogram::Snapshot::Quantile(double quantile) const {
  if (count_ == 0) return Nanos(0);
  const double wanted =
      std::max(1.0, std::ceil(std::clamp(quantile, 0.0, 1.0) * static_cast<double>(count_)));
  double before = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    const auto here = static_cast<double>(buckets_[i]);
    if (before + here < wanted) {
      before += here;
      continue;
    }
    if (i + 1 == kBuckets) return Nanos(UpperLimitOf(i - 1));
    const auto lower = static_cast<double>(i == 0 ? 0 : UpperLimitOf(i - 1));
    const auto upper = static_cast<double>(UpperLimitOf(i));
    return Nanos(static_cast<int64_t>(lower + (upper - lower) * (wanted - before) / here));
  }
  return Nanos(UpperLimitOf(kBuckets - 2));
}

uint64_t LatencyHistogram::Snapshot::CountUpTo(Nanos limit) const {
  uint64_t count = 0;
  for (size_t i = 0; i + 1 < buckets_.size() && UpperLimitOf(i) <= limit.count(); ++i) {
    count += buckets_[i];
  }
  return count;
}

LatencyHistogram::Snapshot LatencyHistogram::Snapshot::Since(const Snapshot& earlier) const {
  Snapshot difference = *this;
  if (earlier.buckets_.empty()) return difference;
  difference.count_ = 0;
  for (size_t i = 0; i < difference.buckets_.size(); ++i) {
    difference.buckets_[i] -= std::min(earlier.buckets_[i], difference.buckets_[i]);
    difference.count_ += difference.buckets_[i];
  }
  difference.sum_ = std::max(Nanos(0), sum_ - earlier.sum_);
  return difference;
}

}  // namespace mnemo

#include "server/observe/latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

namespace mnemo {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(LatencyHistogramTest, NothingRecordedIsZero) {
  const LatencyHistogram histogram;
  const LatencyHistogram::Snapshot snapshot = histogram.Read();
  EXPECT_EQ(snapshot.count(), 0u);
  EXPECT_EQ(snapshot.Quantile(0.99), Nanos(0));
  EXPECT_EQ(snapshot.CountUpTo(seconds(1)), 0u);
}

// Against the quantile of the sorted samples themselves.
TEST(LatencyHistogramTest, QuantilesAreWithinFivePercent) {
  std::mt19937_64 random(20261122);
  std::lognormal_distribution<double> spread(std::log(80'000.0), 2.0);
  LatencyHistogram histogram;
  std::vector<int64_t> samples;
  for (int i = 0; i < 100'000; ++i) {
    samples.push_back(std::max<int64_t>(101, static_cast<int64_t>(spread(random))));
    histogram.Record(Nanos(samples.back()));
  }
  std::sort(samples.begin(), samples.end());
  const LatencyHistogram::Snapshot snapshot = histogram.Read();
  EXPECT_EQ(snapshot.count(), samples.size());
  for (const double quantile : {0.01, 0.1, 0.5, 0.9, 0.99, 0.999}) {
    const auto exact =
        static_cast<double>(samples[static_cast<size_t>(std::ceil(quantile * 100'000.0)) - 1]);
    const auto measured = static_cast<double>(snapshot.Quantile(quantile).count());
    EXPECT_NEAR(measured / exact, 1.0, 0.05) << quantile;
  }
}

// Prometheus counts what is at most the limit, so the limit itself belongs
// below it.
TEST(LatencyHistogramTest, LimitsOfEveryDecadeAreExact) {
  for (int64_t decade = 100; decade <= 10'000'000'000; decade *= 10) {
    for (const int64_t tenths : {10, 25, 50}) {
      const int64_t limit = decade / 10 * tenths;
      LatencyHistogram histogram;
      histogram.Record(Nanos(limit - 1));
      histogram.Record(Nanos(limit));
      histogram.Record(Nanos(limit + 1));
      EXPECT_EQ(histogram.Read().CountUpTo(Nanos(limit)), 2u) << limit;
    }
  }
}

TEST(LatencyHistogramTest, ExtremesAreCounted) {
  LatencyHistogram histogram;
  histogram.Record(Nanos(-5));
  histogram.Record(Nanos(0));
  histogram.Record(seconds(1'000'000));
  histogram.Record(Nanos::max());
  const LatencyHistogram::Snapshot snapshot = histogram.Read();
  EXPECT_EQ(snapshot.count(), 4u);
  EXPECT_EQ(snapshot.CountUpTo(Nanos(100)), 2u);
  EXPECT_EQ(snapshot.CountUpTo(seconds(1000)), 2u);
  EXPECT_GE(snapshot.Quantile(1.0), seconds(100));
}

TEST(LatencyHistogramTest, EveryBucketHoldsWhatLiesInIt) {
  LatencyHistogram histogram;
  uint64_t recorded = 0;
  for (double nanos = 100; nanos < 1e12; nanos *= 1.003) {
    histogram.Record(Nanos(static_cast<int64_t>(nanos)));
    ++recorded;
    ASSERT_EQ(histogram.Read().CountUpTo(Nanos(int64_t{1'000'000'000'000})), recorded) << nanos;
  }
}

TEST(LatencyHistogramTest, SinceGivesWhatCameAfter) {
  LatencyHistogram histogram;
  for (int i = 0; i < 1000; ++i) histogram.Record(milliseconds(100));
  const LatencyHistogram::Snapshot before = histogram.Read();
  for (int i = 0; i < 10; ++i) histogram.Record(microseconds(100));
  const LatencyHistogram::Snapshot recent = histogram.Read().Since(before);
  EXPECT_EQ(recent.count(), 10u);
  EXPECT_EQ(recent.sum(), milliseconds(1));
  EXPECT_LE(recent.Quantile(0.99), microseconds(100));
}

TEST(LatencyHistogramTest, ThreadsLoseNothing) {
  LatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&histogram] {
      for (int i = 0; i < 20'000; ++i) histogram.Record(microseconds(i % 1000));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(histogram.Read().count(), 160'000u);
  EXPECT_EQ(histogram.Read().sum(), 8 * 20 * microseconds(999 * 1000 / 2));
}

}  // namespace
}  // namespace mnemo

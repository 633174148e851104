#include "server/periodic_task.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

namespace mnemo {
namespace {

TEST(PeriodicTaskTest, RunsAgainAndAgainUntilStopped) {
  std::latch three(3);
  std::atomic<int> runs{0};
  PeriodicTask task(std::chrono::milliseconds(1), [&] {
    if (++runs <= 3) three.count_down();
  });
  three.wait();
  task.Stop();
  const int at_stop = runs;
  EXPECT_GE(at_stop, 3);
  task.Stop();
  EXPECT_EQ(runs, at_stop);
}

TEST(PeriodicTaskTest, ATaskMaySayWhenItRunsNext) {
  std::latch three(3);
  std::atomic<int> runs{0};
  PeriodicTask task([&]() -> Nanos {
    if (++runs <= 3) three.count_down();
    // The fourth would be a long time coming.
    return runs < 3 ? Nanos(0) : Nanos(std::chrono::hours(1));
  });
  three.wait();
  task.Stop();
  EXPECT_EQ(runs, 3);
}

TEST(PeriodicTaskTest, StopDoesNotWaitForTheInterval) {
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> runs{0};
  {
    PeriodicTask task(std::chrono::hours(1), [&] { ++runs; });
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(1));
  EXPECT_EQ(runs, 0);
}

}  // namespace
}  // namespace mnemo

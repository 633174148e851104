#include "client/cli/progress.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/fake_clock.h"

namespace mnemo::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kMiB = 1 << 20;
constexpr char kClear[] = "\r\033[K";

TEST(ProgressTest, SaysBytesPercentAndTimeLeftAndClearsItsLine) {
  FakeClock clock;
  std::ostringstream out;
  {
    Progress progress(&out, clock, "put", 4, 2 * kMiB);
    clock.Advance(seconds(3));
    progress.Update(1);
    EXPECT_EQ(out.str(), std::string(kClear) + "put  25 %  2 MiB of 8 MiB  9 s left");
  }
  EXPECT_TRUE(out.str().ends_with(kClear));
}

TEST(ProgressTest, WhatIsOverSoonDrawsNothing) {
  FakeClock clock;
  std::ostringstream out;
  {
    Progress progress(&out, clock, "put", 2, kMiB);
    clock.Advance(milliseconds(499));
    progress.Update(1);
    progress.Update(2);
  }
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressTest, DrawsTenTimesASecondAtMost) {
  FakeClock clock;
  std::ostringstream out;
  Progress progress(&out, clock, "match", 1000, 0);
  clock.Advance(seconds(1));
  progress.Update(500);
  const std::string once = out.str();
  EXPECT_EQ(once, std::string(kClear) + "match  50 %  1 s left");
  clock.Advance(milliseconds(99));
  progress.Update(501);
  EXPECT_EQ(out.str(), once);
  clock.Advance(milliseconds(1));
  progress.Update(502);
  EXPECT_NE(out.str(), once);
}

TEST(ProgressTest, WithoutATerminalNothingIsDrawn) {
  FakeClock clock;
  Progress progress(nullptr, clock, "put", 2, kMiB);
  clock.Advance(seconds(5));
  progress.Update(1);
}

}  // namespace
}  // namespace mnemo::cli

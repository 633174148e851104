#include "storage/base/busy_wait.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

using std::chrono::microseconds;

class BusyWaitTest : public ::testing::Test {
 protected:
  // How often a wait looks that ends after `time`, of which a look takes 10 us; it sleeps
  // for what is left.
  int LooksOf(BusyWait& wait, Nanos time) {
    int looks = 0;
    const MonoTime end = clock_.Mono() + time;
    const auto look = [&] {
      ++looks;
      clock_.Advance(microseconds(10));
      return clock_.Mono() >= end;
    };
    const bool came = wait.For(look, [&] { clock_.Advance(taken_); });
    if (came) return looks;
    if (clock_.Mono() < end) clock_.Advance(end - clock_.Mono());
    wait.Woke();
    return looks;
  }

  FakeClock clock_;
  Nanos taken_{0};  // how long others have the core when it is offered
};

TEST_F(BusyWaitTest, LooksWhereTheLastWaitWasShort) {
  BusyWait wait(clock_, microseconds(100));
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 0);  // nothing is known yet
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 5);
  EXPECT_EQ(LooksOf(wait, microseconds(100)), 10);
}

TEST_F(BusyWaitTest, LooksNoLongerThanItMay) {
  BusyWait wait(clock_, microseconds(100));
  LooksOf(wait, microseconds(50));
  EXPECT_EQ(LooksOf(wait, microseconds(199)), 10);
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 5);  // that may have been the waking up
}

TEST_F(BusyWaitTest, SleepsAtOnceWhereTheLastWaitWasLong) {
  BusyWait wait(clock_, microseconds(100));
  LooksOf(wait, microseconds(50));
  EXPECT_EQ(LooksOf(wait, microseconds(200)), 10);
  EXPECT_EQ(LooksOf(wait, std::chrono::hours(1)), 0);
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 0);
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 5);
}

TEST_F(BusyWaitTest, SleepsForAWhileAfterOthersTookTheCore) {
  BusyWait wait(clock_, microseconds(1000));
  LooksOf(wait, microseconds(50));
  taken_ = BusyWait::kTaken;  // no longer than it may be
  EXPECT_EQ(LooksOf(wait, microseconds(520)), 2);
  taken_ += Nanos(1);
  EXPECT_EQ(LooksOf(wait, microseconds(1500)), 2);
  taken_ = Nanos(0);
  const MonoTime end = clock_.Mono() + BusyWait::kPause - microseconds(2000);
  while (clock_.Mono() < end) EXPECT_EQ(LooksOf(wait, microseconds(50)), 0);
  clock_.Advance(microseconds(2000));
  EXPECT_EQ(LooksOf(wait, microseconds(50)), 5);
}

TEST_F(BusyWaitTest, NeverLooksIfItIsOff) {
  BusyWait wait(clock_, Nanos(0));
  EXPECT_EQ(LooksOf(wait, Nanos(0)), 0);
  EXPECT_EQ(LooksOf(wait, Nanos(0)), 0);
}

}  // namespace
}  // namespace mnemo

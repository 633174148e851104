#include "storage/block/expiry_clock.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(ExpiryClockTest, RunsWithTheClock) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  clock.Advance(hours(30));
  EXPECT_EQ(time.Wall(), clock.Wall());
  EXPECT_TRUE(time.trusted());
}

TEST(ExpiryClockTest, NeverGoesBack) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  const WallTime before = time.Wall();
  clock.JumpWall(-hours(24));
  clock.Advance(seconds(10));
  EXPECT_EQ(time.Wall(), before + seconds(10));
}

TEST(ExpiryClockTest, FollowsAJumpOfAnHourAtOnce) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  clock.JumpWall(hours(1));
  EXPECT_EQ(time.Wall(), clock.Wall());
}

TEST(ExpiryClockTest, DoubtsALongerJumpUntilItIsConfirmed) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  const WallTime before = time.Wall();
  clock.JumpWall(hours(5));
  EXPECT_EQ(time.Wall(), before);
  EXPECT_FALSE(time.trusted());
  clock.Advance(minutes(9));
  EXPECT_EQ(time.Wall(), before + minutes(9));
  clock.Advance(minutes(1));
  EXPECT_EQ(time.Wall(), clock.Wall());
  EXPECT_TRUE(time.trusted());
}

TEST(ExpiryClockTest, AJumpThatChangesIsConfirmedAnew) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  const WallTime before = time.Wall();
  clock.JumpWall(hours(5));
  time.Wall();
  clock.Advance(minutes(9));
  clock.JumpWall(hours(24));
  EXPECT_EQ(time.Wall(), before + minutes(9));
  clock.Advance(minutes(9));
  EXPECT_EQ(time.Wall(), before + minutes(18));
  EXPECT_FALSE(time.trusted());
}

TEST(ExpiryClockTest, AJumpThatIsTakenBackLeavesNothing) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  clock.JumpWall(hours(5));
  time.Wall();
  clock.JumpWall(-hours(5));
  clock.Advance(minutes(20));
  EXPECT_EQ(time.Wall(), clock.Wall());
  EXPECT_TRUE(time.trusted());
}

TEST(ExpiryClockTest, AfterARestartDoubtsAClockFarAhead) {
  FakeClock clock;
  const WallTime last{clock.Wall().nanos - Nanos(hours(3)).count()};
  ExpiryClock time(clock, last);
  EXPECT_FALSE(time.trusted());
  EXPECT_EQ(time.Wall(), last);
  clock.Advance(minutes(10));
  EXPECT_EQ(time.Wall(), clock.Wall());
}

TEST(ExpiryClockTest, AfterARestartDoesNotGoBehindWhatWasKnown) {
  FakeClock clock;
  const WallTime last = clock.Wall() + hours(3);
  ExpiryClock time(clock, last);
  EXPECT_EQ(time.Wall(), last);
  clock.Advance(seconds(1));
  EXPECT_EQ(time.Wall(), last + seconds(1));
}

TEST(ExpiryClockTest, AnHourStaysAnHourDuringAJump) {
  FakeClock clock;
  ExpiryClock time(clock, {});
  clock.JumpWall(hours(100));
  const WallTime shown = clock.Wall() + hours(1);
  const WallTime believed = time.Believed(shown);
  EXPECT_EQ(believed, time.Wall() + hours(1));
  EXPECT_EQ(time.Shown(believed), shown);
  EXPECT_EQ(time.Believed({}).nanos, 0);
  EXPECT_EQ(time.Shown({}).nanos, 0);
}

}  // namespace
}  // namespace mnemo

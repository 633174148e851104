#include "server/observe/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(HealthTest, GoesForwardOnly) {
  Health health;
  EXPECT_EQ(health.phase(), Health::Phase::kStarting);
  EXPECT_FALSE(health.ready());
  health.SetReady();
  EXPECT_TRUE(health.ready());
  health.SetStopping();
  EXPECT_EQ(PhaseName(health.phase()), "stopping");
  health.SetReady();
  EXPECT_FALSE(health.ready());
}

TEST(HealthTest, AProblemIsReplacedAndMendedByName) {
  Health health;
  using Change = Health::Change;
  EXPECT_EQ(health.SetProblem("disk", ""), Change::kNone);
  EXPECT_EQ(health.SetProblem("disk", "disk is full"), Change::kNew);
  EXPECT_EQ(health.SetProblem("clock", "clock jumped"), Change::kNew);
  EXPECT_EQ(health.SetProblem("disk", "disk is nearly full"), Change::kNone);
  EXPECT_THAT(health.problems(), ElementsAre("clock jumped", "disk is nearly full"));
  EXPECT_EQ(health.SetProblem("disk", ""), Change::kMended);
  EXPECT_EQ(health.SetProblem("clock", ""), Change::kMended);
  EXPECT_THAT(health.problems(), IsEmpty());
}

}  // namespace
}  // namespace mnemo

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
  health.SetProblem("disk", "disk is full");
  health.SetProblem("clock", "clock jumped");
  health.SetProblem("disk", "disk is nearly full");
  EXPECT_THAT(health.problems(), ElementsAre("clock jumped", "disk is nearly full"));
  health.SetProblem("disk", "");
  health.SetProblem("clock", "");
  EXPECT_THAT(health.problems(), IsEmpty());
}

}  // namespace
}  // namespace mnemo

#include "server/workers/demotion_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace mnemo {
namespace {

constexpr KeyScope kScope{.tenant = 1, .space = 2};

TEST(DemotionPlanTest, TakesTheLeastImportantThatFreeWhatIsWanted) {
  std::mt19937_64 random(3);
  std::vector<double> scores;
  for (int i = 0; i < 1000; ++i) scores.push_back(static_cast<double>(random() % 10'000) / 10'000);
  DemotionPlan plan;
  plan.Begin(95);
  for (uint64_t run = 0; run < scores.size(); ++run) plan.Offer(scores[run], {kScope, run}, 10);
  plan.Finish();
  std::vector<double> expected = scores;
  std::sort(expected.begin(), expected.end());
  // Nine are not enough.
  ASSERT_EQ(plan.size(), 10U);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(scores[plan.Take()->run], expected[i]) << i;
  EXPECT_FALSE(plan.Take());
}

TEST(DemotionPlanTest, OfEqualOnesTheEarliestGoFirst) {
  DemotionPlan plan;
  plan.Begin(3);
  for (const uint64_t run : {4, 2, 0, 3, 1}) plan.Offer(0.5, {kScope, run}, 1);
  plan.Finish();
  for (uint64_t run = 0; run < 3; ++run) EXPECT_EQ(plan.Take()->run, run);
  EXPECT_FALSE(plan.Take());
}

TEST(DemotionPlanTest, FewerAreAllTaken) {
  DemotionPlan plan;
  plan.Begin(1000);
  plan.Offer(0.9, {kScope, 0}, 1);
  plan.Offer(0.1, {kScope, 1}, 1);
  plan.Finish();
  EXPECT_EQ(plan.Take()->run, 1U);
  EXPECT_EQ(plan.Take()->run, 0U);
  plan.Begin(0);
  plan.Offer(0.1, {kScope, 0}, 1);
  EXPECT_EQ(plan.size(), 0U);
}

TEST(DemotionPlanTest, IsBounded) {
  DemotionPlan plan;
  plan.Begin(~uint64_t{0});
  for (uint64_t run = 0; run < DemotionPlan::kMaxRuns + 10; ++run) {
    plan.Offer(static_cast<double>(run), {kScope, run}, 1);
  }
  EXPECT_EQ(plan.size(), DemotionPlan::kMaxRuns);
  plan.Finish();
  EXPECT_EQ(plan.Take()->run, 0U);
}

}  // namespace
}  // namespace mnemo

#include "index/vector/effort_curve.h"

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(EffortCurveTest, TakesTheLeastEffortThatSurelyReachesTheTarget) {
  const EffortCurve curve(10, {{8, 0.9F, 0}, {16, 0.951F, 1e-4F}, {32, 0.98F, 1e-4F}});
  EXPECT_EQ(curve.EffortFor(0.5F), 8U);
  // 0.951 is 0.95, but for a standard error of 0.01.
  EXPECT_EQ(curve.EffortFor(0.95F), 32U);
  EXPECT_EQ(curve.EffortFor(0.94F), 16U);
}

TEST(EffortCurveTest, TakesTheGreatestEffortIfNoneReachesTheTarget) {
  EXPECT_EQ(EffortCurve(10, {{8, 0.5F, 0}, {16, 0.6F, 0}}).EffortFor(0.9F), 16U);
}

TEST(EffortCurveTest, CompleteIsEnoughForATargetOfOne) {
  EXPECT_EQ(EffortCurve(10, {{8, 1, 0}, {16, 1, 0}}).EffortFor(1), 8U);
}

TEST(EffortCurveTest, KnowsNothingBeforeItWasMeasured) {
  EXPECT_EQ(EffortCurve().EffortFor(0.95F), 0U);
}

TEST(RecallMeanTest, HasTheVarianceOfItsMean) {
  RecallMean mean;
  mean.Add(1);
  mean.Add(0);
  const EffortPoint point = mean.Point(5);
  EXPECT_EQ(point.effort, 5U);
  EXPECT_FLOAT_EQ(point.recall, 0.5F);
  EXPECT_FLOAT_EQ(point.variance, 0.125F);
  EXPECT_EQ(RecallMean().Point(5).recall, 0);
}

}  // namespace
}  // namespace mnemo

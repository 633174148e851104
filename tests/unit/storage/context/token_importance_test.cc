#include "storage/context/token_importance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mnemo {
namespace {

using std::chrono::hours;

TEST(TokenImportanceTest, FrequencyGrowsAsALogarithmUntilAHundredUses) {
  EXPECT_EQ(FrequencySignal(0), 0);
  EXPECT_NEAR(FrequencySignal(9), std::log(10.0) / std::log(101.0), 1e-12);
  EXPECT_EQ(FrequencySignal(100), 1);
  EXPECT_EQ(FrequencySignal(std::numeric_limits<uint32_t>::max()), 1);
}

TEST(TokenImportanceTest, RecencyFallsByETheDecay) {
  EXPECT_EQ(RecencySignal(Nanos(0), hours(24)), 1);
  EXPECT_NEAR(RecencySignal(hours(24), hours(24)), std::exp(-1.0), 1e-12);
  EXPECT_NEAR(RecencySignal(hours(48), hours(24)), std::exp(-2.0), 1e-12);
  // A clock that jumped back.
  EXPECT_EQ(RecencySignal(-hours(5), hours(24)), 1);
}

TEST(TokenImportanceTest, TheSinksAndTheEndCountMost) {
  EXPECT_EQ(PositionSignal(0, 2048, 1'000'000), 1);
  EXPECT_EQ(PositionSignal(kSinkTokens - 1, 2048, 1'000'000), 1);
  EXPECT_LT(PositionSignal(kSinkTokens, 2048, 1'000'000), 1e-6);
  EXPECT_EQ(PositionSignal(998'000, 1'000'000, 1'000'000), 1);
  EXPECT_NEAR(PositionSignal(2048, 4096, 4096 + kTailTokens), std::exp(-1.0), 1e-12);
  // Of a context that grew meanwhile.
  EXPECT_EQ(PositionSignal(2048, 4096, 4000), 1);
}

TEST(TokenImportanceTest, TheScoreIsTheWeightedSum) {
  const ImportanceSignals nothing{.age = hours(24 * 365),
                                  .first_position = 2048,
                                  .end_position = 4096,
                                  .context_tokens = 10'000'000};
  EXPECT_NEAR(TokenImportance(nothing), 0, 1e-9);
  const ImportanceSignals all{.uses = 100, .context_tokens = 0, .client = 1};
  EXPECT_NEAR(TokenImportance(all), 1, 1e-12);
  ImportanceSignals some = nothing;
  some.client = 0.5;
  EXPECT_NEAR(TokenImportance(some), 0.125, 1e-9);
  some.uses = 9;
  EXPECT_NEAR(TokenImportance(some), 0.125 + 0.25 * FrequencySignal(9), 1e-9);
  EXPECT_NEAR(TokenImportance(some, {.recency = 0, .frequency = 0, .position = 0, .client = 1}),
              0.5, 1e-12);
}

TEST(TokenImportanceTest, WhateverAClientGivesTheScoreStaysInItsRange) {
  for (const float client : {-1.0F, 7.0F, std::numeric_limits<float>::quiet_NaN(),
                             std::numeric_limits<float>::infinity()}) {
    const double score = TokenImportance({.uses = 1000, .client = client});
    EXPECT_GE(score, 0) << client;
    EXPECT_LE(score, 1) << client;
  }
}

}  // namespace
}  // namespace mnemo

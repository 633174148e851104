#include "client/cpp/retry.h"

#include <gtest/gtest.h>

namespace mnemo::client {
namespace {

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

TEST(RetryDelayTest, RetriesOnlyUnavailable) {
  for (int code = 1; code <= 16; ++code) {
    const AttemptFailure failure{.code = static_cast<absl::StatusCode>(code), .repeatable = true};
    EXPECT_EQ(RetryDelay({}, failure, 0.5).has_value(), failure.code == kUnavailable) << code;
  }
}

TEST(RetryDelayTest, DoesNotRepeatWhatIsNotRepeatableUnlessTheServerPushedBack) {
  EXPECT_FALSE(RetryDelay({}, {.code = kUnavailable, .repeatable = false}, 0.5));
  EXPECT_EQ(RetryDelay({}, {.code = kUnavailable, .pushback = "70", .repeatable = false}, 0.5),
            Millis(70));
}

TEST(RetryDelayTest, PushbackWinsOverBackoffAndANegativeOneForbids) {
  EXPECT_EQ(RetryDelay({}, {.code = kUnavailable, .pushback = "0", .repeatable = true}, 0.9),
            Millis(0));
  EXPECT_FALSE(RetryDelay({}, {.code = kUnavailable, .pushback = "-1", .repeatable = true}, 0.9));
  EXPECT_FALSE(RetryDelay({}, {.code = kUnavailable, .pushback = "5 ms", .repeatable = true}, 0.9));
}

TEST(RetryDelayTest, BackoffDoublesUpToItsBound) {
  const RetryOptions options{
      .max_attempts = 10, .initial_backoff = Millis(100), .max_backoff = Millis(350)};
  const auto delay = [&](int attempts, double jitter) {
    return RetryDelay(options,
                      {.code = kUnavailable, .repeatable = true, .attempts = attempts}, jitter);
  };
  EXPECT_EQ(delay(1, 0.5), Millis(50));
  EXPECT_EQ(delay(2, 0.5), Millis(100));
  EXPECT_EQ(delay(3, 0.5), Millis(175));
  EXPECT_EQ(delay(9, 0.5), Millis(175));
  EXPECT_EQ(delay(1, 0.0), Millis(1));
}

TEST(RetryDelayTest, EndsWithTheLastAttempt) {
  AttemptFailure failure{.code = kUnavailable, .repeatable = true, .attempts = 2};
  EXPECT_TRUE(RetryDelay({.max_attempts = 3}, failure, 0.5));
  failure.attempts = 3;
  EXPECT_FALSE(RetryDelay({.max_attempts = 3}, failure, 0.5));
}

TEST(RetryBudgetTest, IsSpentByFailuresAndEarnedBackBySuccesses) {
  RetryBudget budget({.budget_tokens = 4, .token_ratio = 0.5});
  EXPECT_TRUE(budget.OnFailure());    // 3 left
  EXPECT_FALSE(budget.OnFailure());   // 2: half
  EXPECT_FALSE(budget.OnFailure());   // 1
  for (int i = 0; i < 5; ++i) budget.OnSuccess();  // 3.5
  EXPECT_TRUE(budget.OnFailure());    // 2.5
}

}  // namespace
}  // namespace mnemo::client

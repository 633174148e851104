#include "server/engine/byte_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace mnemo {
namespace {

using Claim = ByteBudget::Claim;
using Outcome = Claim::Outcome;

TEST(ByteBudgetTest, GrantsInTheOrderOfAsking) {
  ByteBudget budget(100);
  Claim first(budget);
  Claim large(budget);
  Claim small(budget);
  std::vector<int> granted;
  ASSERT_EQ(first.Acquire(60, [] {}), Outcome::kGranted);
  ASSERT_EQ(large.Acquire(80, [&] { granted.push_back(1); }), Outcome::kQueued);
  // It would fit, but must not starve the one before it.
  ASSERT_EQ(small.Acquire(10, [&] { granted.push_back(2); }), Outcome::kQueued);
  EXPECT_FALSE(Claim(budget).TryAdd(1));
  first.Release();
  EXPECT_EQ(granted, (std::vector<int>{1, 2}));
  EXPECT_EQ(budget.used(), 90u);
  EXPECT_EQ(large.held(), 80u);
}

TEST(ByteBudgetTest, AWithdrawnClaimIsNeverGrantedAndLetsOthersPass) {
  ByteBudget budget(100);
  Claim first(budget);
  Claim large(budget);
  Claim small(budget);
  bool large_granted = false;
  bool small_granted = false;
  ASSERT_EQ(first.Acquire(60, [] {}), Outcome::kGranted);
  ASSERT_EQ(large.Acquire(80, [&] { large_granted = true; }), Outcome::kQueued);
  ASSERT_EQ(small.Acquire(10, [&] { small_granted = true; }), Outcome::kQueued);
  EXPECT_TRUE(large.Withdraw());
  EXPECT_TRUE(small_granted);
  first.Release();
  EXPECT_FALSE(large_granted);
  EXPECT_EQ(large.Acquire(1, [] {}), Outcome::kWithdrawn);
  EXPECT_FALSE(large.TryAdd(1));
  EXPECT_FALSE(small.Withdraw());
  EXPECT_EQ(budget.used(), 10u);
}

TEST(ByteBudgetTest, MoreThanAllIsAll) {
  ByteBudget budget(100);
  Claim claim(budget);
  EXPECT_EQ(claim.Acquire(1000, [] {}), Outcome::kGranted);
  EXPECT_EQ(claim.held(), 100u);
}

TEST(ByteBudgetTest, NothingIsGrantedAtOnceWhoeverWaits) {
  ByteBudget budget(100);
  Claim full(budget);
  Claim waiting(budget);
  ASSERT_EQ(full.Acquire(100, [] {}), Outcome::kGranted);
  ASSERT_EQ(waiting.Acquire(1, [] {}), Outcome::kQueued);
  Claim nothing(budget);
  EXPECT_EQ(nothing.Acquire(0, [] {}), Outcome::kGranted);
  waiting.Withdraw();
}

TEST(ByteBudgetTest, ADestroyedClaimGivesBackWhatItAdded) {
  ByteBudget budget(100);
  {
    Claim claim(budget);
    ASSERT_TRUE(claim.TryAdd(30));
    ASSERT_TRUE(claim.TryAdd(30));
    EXPECT_FALSE(claim.TryAdd(50));
    EXPECT_EQ(budget.used(), 60u);
  }
  EXPECT_EQ(budget.used(), 0u);
}

TEST(ByteBudgetTest, EndingWithinAGrantDoesNotRecurse) {
  // Each of these ends in its grant, as a call does that nobody has a thread for.
  constexpr size_t kWaiters = 200000;
  ByteBudget budget(1);
  std::vector<std::unique_ptr<Claim>> claims;
  size_t ended = 0;
  Claim first(budget);
  ASSERT_EQ(first.Acquire(1, [] {}), Outcome::kGranted);
  for (size_t i = 0; i < kWaiters; ++i) {
    claims.push_back(std::make_unique<Claim>(budget));
    Claim* claim = claims.back().get();
    ASSERT_EQ(claim->Acquire(1,
                             [&ended, claim] {
                               ++ended;
                               claim->Release();
                             }),
              Outcome::kQueued);
  }
  first.Release();
  EXPECT_EQ(ended, kWaiters);
  EXPECT_EQ(budget.used(), 0u);
}

TEST(ByteBudgetTest, ConcurrentClaimsAndWithdrawalsBalance) {
  ByteBudget budget(64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&budget, t] {
      for (int i = 0; i < 2000; ++i) {
        Claim claim(budget);
        std::atomic<bool> granted{false};
        const auto outcome = claim.Acquire(1 + (i * 7 + t) % 40, [&] { granted = true; });
        if (outcome == Outcome::kQueued && !claim.Withdraw()) {
          while (!granted) std::this_thread::yield();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace mnemo

#include "storage/context/run_uses.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

constexpr KeyScope kScope{.tenant = 1, .space = 2};

TEST(RunUsesTest, CountsUsesAndKnowsTheLast) {
  FakeClock clock;
  RunUses uses(clock);
  EXPECT_FALSE(uses.Find(kScope, 3));
  uses.Note(kScope, 3);
  clock.Advance(std::chrono::seconds(5));
  uses.Note(kScope, 3);
  ASSERT_TRUE(uses.Find(kScope, 3));
  EXPECT_EQ(uses.Find(kScope, 3)->uses, 2U);
  EXPECT_EQ(uses.Find(kScope, 3)->last, clock.Mono());
  EXPECT_FALSE(uses.Find(kScope, 4));
  uses.Forget(kScope, 3);
  EXPECT_FALSE(uses.Find(kScope, 3));
}

TEST(RunUsesTest, KnowsWhoIsUsedMost) {
  FakeClock clock;
  RunUses uses(clock);
  for (const uint64_t run : {1, 2, 2, 3, 3, 3}) uses.Note(kScope, run);
  EXPECT_EQ(uses.noted(), 6U);
  std::map<uint64_t, uint32_t> found;
  for (const RunUses::UsedRun& used : uses.UsedAtLeast(2)) {
    EXPECT_EQ(used.scope, kScope);
    found[used.run] = used.uses;
  }
  EXPECT_EQ(found, (std::map<uint64_t, uint32_t>{{2, 2}, {3, 3}}));
}

TEST(RunUsesTest, IsBoundedAndForgetsWhatIsUsedLeast) {
  FakeClock clock;
  RunUses uses(clock);
  for (int i = 0; i < 1000; ++i) uses.Note(kScope, 0);
  for (uint64_t run = 1; run < 4 * RunUses::kMaxRuns; ++run) uses.Note(kScope, run);
  EXPECT_LE(uses.size(), RunUses::kMaxRuns);
  EXPECT_TRUE(uses.Find(kScope, 0));
  EXPECT_TRUE(uses.Find(kScope, 4 * RunUses::kMaxRuns - 1));
}

}  // namespace
}  // namespace mnemo

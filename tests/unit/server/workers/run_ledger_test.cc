#include "server/workers/run_ledger.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace mnemo {
namespace {

constexpr KeyScope kA{.tenant = 1, .space = 5};
constexpr KeyScope kB{.tenant = 1, .space = 9};

std::vector<uint64_t> AllAtL3(const RunLedger& ledger, KeyScope scope) {
  std::vector<uint64_t> runs;
  for (RunRef from{scope, 0};; from.run = runs.back() + 1) {
    const auto next = ledger.NextAtL3(from);
    if (!next || next->scope != scope) return runs;
    runs.push_back(next->run);
  }
}

TEST(RunLedgerTest, CountsByLevel) {
  RunLedger ledger;
  ledger.Set(kA, 100, 70, {0b101, 0b1});
  EXPECT_EQ(ledger.l3().runs, 67U);
  EXPECT_EQ(ledger.archive().bytes, 300U);
  EXPECT_TRUE(ledger.InArchive({kA, 64}));
  EXPECT_FALSE(ledger.InArchive({kA, 1}));
  EXPECT_FALSE(ledger.InArchive({kB, 0}));
  EXPECT_EQ(ledger.RunBytes(kA), 100U);
  EXPECT_EQ(ledger.RunBytes(kB), 0U);
  // Anew, in place of what was known; bits behind the end say nothing.
  ledger.Set(kA, 10, 3, {0b11110});
  EXPECT_EQ(ledger.l3().runs, 1U);
  EXPECT_EQ(ledger.archive().runs, 2U);
  EXPECT_EQ(ledger.archive().bytes, 20U);
  ledger.Grow(kA, 5);
  EXPECT_FALSE(ledger.InArchive({kA, 3}));
  ledger.Grow(kA, 2);  // never back
  ledger.Grow(kB, 2);
  EXPECT_EQ(ledger.l3().runs, 3U);
  EXPECT_FALSE(ledger.Knows(kB));
  ledger.Forget(kA);
  ledger.Forget(kA);
  EXPECT_EQ(ledger.l3().bytes + ledger.archive().bytes, 0U);
}

TEST(RunLedgerTest, FindsTheNextAtL3ByContextAndPosition) {
  RunLedger ledger;
  ledger.Set(kB, 1, 2, {});
  ledger.Set(kA, 1, 130, {~uint64_t{0}, ~uint64_t{0} - 4, 0});
  EXPECT_EQ(AllAtL3(ledger, kA), (std::vector<uint64_t>{66, 128, 129}));
  EXPECT_EQ(ledger.NextAtL3({kA, 130}), (RunRef{kB, 0}));
  EXPECT_EQ(ledger.NextAtL3({kB, 1}), (RunRef{kB, 1}));
  EXPECT_FALSE(ledger.NextAtL3({kB, 2}));
}

TEST(RunLedgerTest, AgreesWithAModelUnderMoves) {
  std::mt19937_64 random(7);
  RunLedger ledger;
  ledger.Set(kA, 3, 200, {});
  std::set<uint64_t> archived;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t run = random() % 210;  // some are not there
    const bool to_archive = random() % 2 == 0;
    ledger.Move({kA, run}, to_archive);
    if (run < 200 && to_archive) archived.insert(run);
    if (!to_archive) archived.erase(run);
    ASSERT_EQ(ledger.archive().runs, archived.size());
    ASSERT_EQ(ledger.l3().bytes, 3 * (200 - archived.size()));
  }
  std::vector<uint64_t> expected;
  for (uint64_t run = 0; run < 200; ++run) {
    if (!archived.contains(run)) expected.push_back(run);
  }
  EXPECT_EQ(AllAtL3(ledger, kA), expected);
}

}  // namespace
}  // namespace mnemo

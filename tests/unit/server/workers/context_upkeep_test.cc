#include "server/workers/context_upkeep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "storage/context/context_keys.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kTenant = 7;
constexpr uint64_t kRunBytes = kRunTokens * 8 * 2;  // 32 KiB: 32 runs are a MiB

class FakeArchive final : public ArchiveBudget {
 public:
  void Count(uint64_t bytes) override { counted = bytes; }
  uint64_t free_bytes() const override { return capacity - std::min(capacity, counted); }

  uint64_t capacity = kGiB;
  uint64_t counted = 0;
};

class ContextUpkeepTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen() {
    upkeep_.reset();
    node_.reset();
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), files_, clock_));
    Restart(options_);
  }
  void Restart(const ContextUpkeepOptions& options) {
    ASSERT_OK(options.Validate());
    options_ = options;
    upkeep_ = std::make_unique<ContextUpkeep>(
        contexts(), clock_, options, &archive_,
        [this](const absl::Status& status) { failures_.push_back(status.ToString()); });
  }
  ContextStore& contexts() { return node_->contexts(); }
  const ContextReader& reader() { return contexts().reader(); }

  ContextRecord Create(const std::string& name, uint32_t dimension = 8) {
    const auto made = contexts().Create(kTenant, TestContext(name, dimension));
    EXPECT_OK(made.status());
    return made->first;
  }
  // Tokens [first, first + count); the client gives all of them this importance,
  // and says that they are a year old.
  void Append(const ContextRecord& context, uint64_t first, uint64_t count, float importance = 0) {
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts().Claim(context, 1));
    for (uint64_t at = first; at < first + count; at += kRunTokens) {
      const auto size = static_cast<uint32_t>(std::min<uint64_t>(kRunTokens, first + count - at));
      TestTokens tokens(at, size, context.spec.dimension);
      tokens.importances().assign(size, importance);
      ASSERT_OK(contexts().Append(context, claim, tokens.columns(), Durability::kSync));
    }
  }

  // Steps until there is nothing to be done. Time passes as the steps say.
  void Drain() {
    for (int i = 0; i < 100'000; ++i) {
      const Nanos wait = upkeep_->Step();
      clock_.Advance(wait);
      waited_ += wait;
      const ContextUpkeepFigures figures = upkeep_->figures();
      if (wait == options_.idle_wait && figures.waiting == 0 && !figures.sweeping) return;
    }
    FAIL() << "it never rests";
  }
  std::vector<uint64_t> Archived(const ContextRecord& context) {
    std::vector<uint64_t> runs;
    const auto head = reader().Head(context);
    EXPECT_OK(head.status());
    for (uint64_t range = 0; range * kRangeTokens < head->next_position; ++range) {
      const auto bits = reader().ArchivedRuns(context, range);
      EXPECT_OK(bits.status());
      for (uint64_t i = 0; i < kRunsPerRange; ++i) {
        if ((*bits >> i & 1) != 0) runs.push_back(range * kRunsPerRange + i);
      }
    }
    return runs;
  }
  void Damage(const ContextRecord& context, uint64_t chunk) {
    const StoredKey key = ChunkKey(context.scope, ChunkPart::kRows, chunk, 0);
    StoreBatch batch;
    batch.Put(key, "damaged beyond recognition");
    batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
    ASSERT_OK(node_->stores().sync->Apply(batch, false));
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
  ContextUpkeepOptions options_;
  FakeArchive archive_;
  std::unique_ptr<ContextUpkeep> upkeep_;
  std::vector<std::string> failures_;
  Nanos waited_{0};
};

TEST_F(ContextUpkeepTest, SummariesFollowTheAppends) {
  const ContextRecord context = Create("c");
  Append(context, 0, 5000);
  Drain();
  ASSERT_OK_AND_ASSIGN(const auto counts, reader().summaries().Counts(context));
  EXPECT_THAT(counts, ElementsAre(39, 9, 2));
  EXPECT_EQ(upkeep_->figures().summaries, 39U + 9 + 2);
  EXPECT_GE(upkeep_->figures().bytes, 39 * kChunkTokens * 16);
  // It hears of what is appended behind it.
  Append(context, 5000, 200);
  Drain();
  ASSERT_OK_AND_ASSIGN(const uint64_t done, reader().summaries().ConsolidatedTokens(context));
  EXPECT_EQ(done, 5200 / kChunkTokens * kChunkTokens);
  EXPECT_THAT(failures_, IsEmpty());
}

TEST_F(ContextUpkeepTest, EveryContextIsSeenAtTheStart) {
  std::vector<ContextRecord> all;
  for (int i = 0; i < 150; ++i) {
    all.push_back(Create("c" + std::to_string(i)));
    Append(all.back(), 0, kChunkTokens);
  }
  Reopen();
  EXPECT_TRUE(upkeep_->figures().sweeping);
  Drain();
  for (const ContextRecord& context : all) {
    ASSERT_OK_AND_ASSIGN(const uint64_t done, reader().summaries().ConsolidatedTokens(context));
    EXPECT_EQ(done, kChunkTokens) << context.spec.name;
  }
  // Afterwards, more of them than are known by name.
  for (uint64_t i = 0; i <= ChangedContexts::kMaxContexts; ++i) contexts().changed().Note({9, i});
  Append(all[70], kChunkTokens, kChunkTokens);
  Drain();
  ASSERT_OK_AND_ASSIGN(const uint64_t done, reader().summaries().ConsolidatedTokens(all[70]));
  EXPECT_EQ(done, 2 * kChunkTokens);
}

TEST_F(ContextUpkeepTest, TheLeastImportantRunsLeaveUntilTheLowMark) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.5});
  const ContextRecord dull = Create("dull");
  const ContextRecord dear = Create("dear");
  Append(dear, 0, 10 * kRunTokens, 1.0F);
  Append(dull, 0, 20 * kRunTokens);
  Drain();
  // Thirty are under the high mark.
  EXPECT_EQ(upkeep_->figures().l3.runs, 30U);
  EXPECT_EQ(upkeep_->figures().demoted, 0U);
  Append(dull, 20 * kRunTokens, kRunTokens);
  Drain();
  const ContextUpkeepFigures figures = upkeep_->figures();
  EXPECT_EQ(figures.l3.runs, 16U);
  EXPECT_EQ(figures.l3.bytes, 16 * kRunBytes);
  EXPECT_EQ(figures.archive.runs, 15U);
  EXPECT_EQ(figures.demoted, 15U);
  // Neither the sinks nor the end of it, but what lies between, the oldest first.
  std::vector<uint64_t> middle;
  for (uint64_t run = 1; run <= 15; ++run) middle.push_back(run);
  EXPECT_EQ(Archived(dull), middle);
  EXPECT_THAT(Archived(dear), IsEmpty());
  EXPECT_OK(CheckTestTokens(reader(), dull, 21 * kRunTokens));
  // Up to the high mark, nothing more leaves.
  Append(dull, 21 * kRunTokens, 14 * kRunTokens);
  Drain();
  EXPECT_EQ(upkeep_->figures().demoted, 15U);
  EXPECT_THAT(failures_, IsEmpty());
}

TEST_F(ContextUpkeepTest, WhatIsUsedStays) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.5});
  const ContextRecord context = Create("c");
  Append(context, 0, 31 * kRunTokens);
  for (int i = 0; i < 3; ++i) reader().NoteUse(context, 5 * kRunTokens + 17);
  Drain();
  const std::vector<uint64_t> archived = Archived(context);
  EXPECT_EQ(archived.size(), 15U);
  EXPECT_EQ(std::count(archived.begin(), archived.end(), 5U), 0);
  EXPECT_EQ(archived.front(), 1U);
}

TEST_F(ContextUpkeepTest, WhatIsUsedInTheArchiveComesBack) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.5, .promote_hits = 3});
  const ContextRecord context = Create("c");
  Append(context, 0, 31 * kRunTokens);
  Drain();
  ASSERT_EQ(Archived(context).front(), 1U);
  for (int i = 0; i < 3; ++i) reader().NoteUse(context, 1 * kRunTokens);
  for (int i = 0; i < 2; ++i) reader().NoteUse(context, 2 * kRunTokens);
  Drain();
  EXPECT_EQ(Archived(context).front(), 2U);
  EXPECT_EQ(upkeep_->figures().promoted, 1U);
  EXPECT_EQ(upkeep_->figures().l3.runs, 17U);
  reader().NoteUse(context, 2 * kRunTokens);
  Drain();
  EXPECT_EQ(Archived(context).front(), 3U);
  EXPECT_OK(CheckTestTokens(reader(), context, 31 * kRunTokens));
}

TEST_F(ContextUpkeepTest, PromotionsMakeOthersLeave) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.55, .low_watermark = 0.5, .promote_hits = 1});
  const ContextRecord context = Create("c");
  Append(context, 0, 40 * kRunTokens);
  Drain();
  ASSERT_EQ(upkeep_->figures().l3.runs, 16U);
  for (uint64_t run = 1; run <= 10; ++run) reader().NoteUse(context, run * kRunTokens);
  Drain();
  EXPECT_EQ(upkeep_->figures().promoted, 10U);
  EXPECT_LE(upkeep_->figures().l3.bytes, static_cast<uint64_t>(0.55 * kMiB));
  const std::vector<uint64_t> archived = Archived(context);
  for (uint64_t run = 0; run <= 10; ++run) {
    EXPECT_EQ(std::count(archived.begin(), archived.end(), run), 0) << run;
  }
}

TEST_F(ContextUpkeepTest, ALaterOneGoesOnWhereverItWasStopped) {
  const ContextUpkeepOptions options{.l3_bytes = kMiB, .high_watermark = 0.6, .low_watermark = 0.5};
  const ContextRecord context = Create("c");
  Append(context, 0, 80 * kRunTokens + 100);
  Restart(options);
  int stops = 0;
  for (; stops < 1000; ++stops) {
    for (int i = 0; i < 17; ++i) clock_.Advance(upkeep_->Step());
    const ContextUpkeepFigures figures = upkeep_->figures();
    if (!figures.sweeping && figures.waiting == 0 && figures.l3.runs == 16) break;
    Reopen();
    Restart(options);
    // A sweep takes as many steps as there are blocks without a summary, once.
    if (stops % 5 == 4) Drain();
  }
  EXPECT_GT(stops, 3);
  EXPECT_EQ(upkeep_->figures().l3.runs, 16U);
  EXPECT_EQ(upkeep_->figures().archive.runs, 64U);
  EXPECT_EQ(Archived(context).size(), 64U);
  ASSERT_OK_AND_ASSIGN(const auto counts, reader().summaries().Counts(context));
  EXPECT_THAT(counts, ElementsAre(80 * 16, 80 * 4, 80));
  EXPECT_OK(CheckTestTokens(reader(), context, 80 * kRunTokens + 100));
}

TEST_F(ContextUpkeepTest, WhatIsDeletedIsForgotten) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.5});
  const ContextRecord context = Create("c");
  const ContextRecord other = Create("other");
  Append(context, 0, 31 * kRunTokens);
  Append(other, 0, kRunTokens);
  Drain();
  ASSERT_OK(contexts().Delete(context));
  Drain();
  EXPECT_EQ(upkeep_->figures().l3.runs, 1U);
  EXPECT_EQ(upkeep_->figures().archive.bytes, 0U);
  // Also amid its summaries, and amid its moves.
  for (int steps = 0; steps < 60; steps += 7) {
    const ContextRecord again = Create("again");
    Append(again, 0, 40 * kRunTokens);
    for (int i = 0; i < steps; ++i) clock_.Advance(upkeep_->Step());
    ASSERT_OK(contexts().Delete(again));
    Drain();
    EXPECT_EQ(upkeep_->figures().l3.runs, 1U) << steps;
    EXPECT_EQ(upkeep_->figures().archive.runs, 0U) << steps;
  }
  EXPECT_THAT(failures_, IsEmpty());
}

TEST_F(ContextUpkeepTest, BytesAndStepsHaveTheirPace) {
  Restart({.bytes_per_second = kMiB, .steps_per_second = 1'000'000});
  const ContextRecord context = Create("c");
  Append(context, 0, 64 * kRunTokens);  // 2 MiB
  Drain();
  EXPECT_GE(waited_, std::chrono::seconds(2));
  EXPECT_LE(waited_, std::chrono::seconds(5));
  waited_ = Nanos(0);
  Restart({.bytes_per_second = kGiB, .steps_per_second = 10});
  Append(context, 64 * kRunTokens, 64 * kRunTokens);
  Drain();
  EXPECT_GE(waited_, std::chrono::milliseconds(6400));
  EXPECT_LE(waited_, std::chrono::seconds(10));
  // A step before its time does nothing.
  Append(context, 128 * kRunTokens, 2 * kRunTokens);
  const Nanos wait = upkeep_->Step();
  EXPECT_EQ(wait, std::chrono::milliseconds(100));
  const uint64_t before = upkeep_->figures().summaries;
  clock_.Advance(wait / 2);
  EXPECT_EQ(upkeep_->Step(), wait / 2);
  EXPECT_EQ(upkeep_->figures().summaries, before);
  clock_.Advance(wait / 2);
  upkeep_->Step();
  EXPECT_GT(upkeep_->figures().summaries, before);
}

TEST_F(ContextUpkeepTest, DamageHoldsUpNobodyElse) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.5});
  const ContextRecord damaged = Create("damaged");
  const ContextRecord sound = Create("sound");
  Append(damaged, 0, 4 * kRunTokens);
  Append(sound, 0, 40 * kRunTokens);
  Damage(damaged, 20);
  Drain();
  ASSERT_OK_AND_ASSIGN(const uint64_t done, reader().summaries().ConsolidatedTokens(sound));
  EXPECT_EQ(done, 40 * kRunTokens);
  // How far under the mark depends on who was looked at first.
  EXPECT_GT(upkeep_->figures().demoted, 0U);
  EXPECT_LE(upkeep_->figures().l3.bytes, static_cast<uint64_t>(0.95 * kMiB));
  EXPECT_GE(upkeep_->figures().failures, 1U);
  ASSERT_FALSE(failures_.empty());
  EXPECT_THAT(failures_.front(), HasSubstr("damaged"));
  EXPECT_OK(CheckTestTokens(reader(), sound, 40 * kRunTokens));
  // Not even of the same context.
  ASSERT_OK_AND_ASSIGN(const uint64_t behind, reader().summaries().ConsolidatedTokens(damaged));
  EXPECT_EQ(behind, 4 * kRunTokens);
  EXPECT_EQ(upkeep_->figures().damaged_chunks, 1U);
  // All but the one, and the two that cover it: chunk 20 lies in the second run.
  EXPECT_EQ(upkeep_->figures().summaries, 44U * (16 + 4 + 1) - 3);
}

TEST_F(ContextUpkeepTest, ARunThatCannotBeMovedIsLeftAloneForAWhile) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.94});
  const ContextRecord context = Create("c");
  Append(context, 0, 31 * kRunTokens);
  Drain();
  ASSERT_EQ(Archived(context), (std::vector<uint64_t>{1}));
  Damage(context, 2 * 16 + 3);  // the next one to go
  Append(context, 31 * kRunTokens, kRunTokens);
  Drain();
  const uint64_t failures = upkeep_->figures().failures;
  EXPECT_GE(failures, 1U);
  for (int i = 0; i < 30; ++i) clock_.Advance(upkeep_->Step());
  EXPECT_EQ(upkeep_->figures().failures, failures);
}

TEST_F(ContextUpkeepTest, WhatNoLevelHasRoomForIsRefusedUntilOneHas) {
  Restart({.l3_bytes = kMiB, .high_watermark = 0.95, .low_watermark = 0.9});
  archive_.capacity = 10 * kRunBytes;
  const ContextRecord context = Create("c");
  const ContextRecord other = Create("other");
  Append(other, 0, 5 * kRunTokens);
  Append(context, 0, 40 * kRunTokens);
  Drain();
  EXPECT_EQ(upkeep_->figures().archive.runs, 10U);
  EXPECT_EQ(upkeep_->figures().l3.runs, 35U);
  EXPECT_EQ(archive_.counted, 10 * kRunBytes);
  EXPECT_TRUE(upkeep_->figures().full);
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts().Claim(context, 1));
  const auto append = [&](uint64_t first) {
    TestTokens tokens(first, kRunTokens, 8);
    tokens.importances().assign(kRunTokens, 0);
    return contexts().Append(context, claim, tokens.columns(), Durability::kSync);
  };
  EXPECT_THAT(append(40 * kRunTokens),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk.contexts")));
  EXPECT_EQ(upkeep_->figures().refused_appends, 1U);
  // What is there already is no more.
  EXPECT_OK(append(39 * kRunTokens));
  // A deletion makes room, and so does a larger archive.
  ASSERT_OK(contexts().Delete(other));
  Drain();
  EXPECT_FALSE(upkeep_->figures().full);
  EXPECT_OK(append(40 * kRunTokens));
  EXPECT_OK(append(41 * kRunTokens));
  EXPECT_OK(append(42 * kRunTokens));
  Drain();
  EXPECT_TRUE(upkeep_->figures().full);
  archive_.capacity = 20 * kRunBytes;
  clock_.Advance(std::chrono::seconds(60));
  Drain();
  EXPECT_FALSE(upkeep_->figures().full);
  EXPECT_GT(upkeep_->figures().archive.runs, 10U);
  EXPECT_LE(upkeep_->figures().archive.runs, 20U);
  EXPECT_EQ(archive_.counted, upkeep_->figures().archive.bytes);
  EXPECT_OK(append(43 * kRunTokens));
}

TEST_F(ContextUpkeepTest, WhatGrowsWhileItIsSummarisedIsCounted) {
  const ContextRecord context = Create("c");
  Append(context, 0, 3 * kRunTokens);
  for (int i = 0; i < 100 && upkeep_->figures().summaries == 0; ++i) {
    clock_.Advance(upkeep_->Step());
  }
  ASSERT_EQ(upkeep_->figures().l3.runs, 3U);
  Append(context, 3 * kRunTokens, 4 * kRunTokens);
  clock_.Advance(upkeep_->Step());
  EXPECT_EQ(upkeep_->figures().l3.runs, 7U);
}

TEST_F(ContextUpkeepTest, WithoutAnArchiveNothingMoves) {
  ContextStores stores = node_->stores();
  stores.sync_archive = stores.interval_archive = nullptr;
  ContextStore alone(stores, clock_, {});
  const ContextRecord context = Create("c");
  Append(context, 0, 40 * kRunTokens);
  upkeep_ = std::make_unique<ContextUpkeep>(
      alone, clock_, ContextUpkeepOptions{.l3_bytes = 2 * kMiB}, nullptr,
      [this](const absl::Status& status) { failures_.push_back(status.ToString()); });
  Drain();
  EXPECT_EQ(upkeep_->figures().l3.runs, 40U);
  EXPECT_EQ(upkeep_->figures().summaries, 40U * (16 + 4 + 1));
  EXPECT_THAT(failures_, IsEmpty());
}

// What stops between two steps stops within the longest of them.
// Of this thread's own time, which does not depend on what else the machine does.
#ifdef NDEBUG
constexpr Nanos kStepLimit = std::chrono::seconds(1);
#else
constexpr Nanos kStepLimit = std::chrono::seconds(10);  // sanitizers check every access
#endif

Nanos ThreadTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + Nanos(now.tv_nsec);
}

TEST_F(ContextUpkeepTest, TheLargestStepTakesLessThanASecond) {
  Restart({.l3_bytes = kMiB, .bytes_per_second = kGiB});
  const ContextRecord context = Create("wide", kMaxContextDimension);
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts().Claim(context, 1));
  for (uint64_t at = 0; at < 2 * kRunTokens; at += 512) {
    ASSERT_OK(contexts().Append(context, claim, TestTokens(at, 512, kMaxContextDimension).columns(),
                                Durability::kSync));
  }
  Nanos longest{0};
  for (int i = 0; i < 30; ++i) {
    const Nanos begun = ThreadTime();
    clock_.Advance(upkeep_->Step());
    longest = std::max(longest, ThreadTime() - begun);
  }
  EXPECT_EQ(upkeep_->figures().demoted, 2U);
  EXPECT_EQ(upkeep_->figures().summaries, 2U * (16 + 4 + 1));
  EXPECT_LT(longest, kStepLimit);
  RecordProperty("longest_ms", static_cast<int>(longest.count() / 1'000'000));
}

TEST(ContextUpkeepOptionsTest, NamesFieldAndRange) {
  const auto refused = [](const ContextUpkeepOptions& options, const std::string& text) {
    EXPECT_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  refused({.l3_bytes = 1}, "l3_bytes: 1 ");
  refused({.high_watermark = 0.5, .low_watermark = 0.5}, "low_watermark: 0.5");
  refused({.promote_hits = 11}, "promote_hits: 11");
  refused({.bytes_per_second = 5}, "bytes_per_second: 5");
  refused({.steps_per_second = 0}, "steps_per_second: 0");
  refused({.idle_wait = Nanos(1)}, "idle_wait");
  EXPECT_OK(ContextUpkeepOptions{}.Validate());
}

}  // namespace
}  // namespace mnemo

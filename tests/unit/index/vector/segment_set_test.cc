#include "index/vector/segment_set.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{16, ElementType::kFloat16, Metric::kL2};
constexpr uint32_t kRun = SegmentSet::kRunRows;
constexpr uint32_t kCapacity = 3 * kRun + 100;

class SegmentSetTest : public testing::Test {
 protected:
  ByteView Rows(uint32_t first, uint32_t last) const {
    return AsBytes(rows_).subspan(first * kShape.row_bytes(), (last - first) * kShape.row_bytes());
  }
  std::vector<Hit> Find(const SegmentSnapshot& snapshot, const RowSet* filter = nullptr) const {
    SegmentSearch options;
    options.filter = filter;
    options.target_recall = 1;
    options.first_id = 1000;
    TopK best(10);
    EXPECT_OK(snapshot.Search(query_, options, reader_, best, nullptr));
    return best.Take();
  }
  std::vector<Hit> Exact(uint32_t rows, const RowSet* filter = nullptr) const {
    SegmentSearch options;
    options.filter = filter;
    options.first_id = 1000;
    return ExactHits(kShape, query_, options, rows, reader_, 10);
  }
  // Plans, builds, publishes.
  void BuildOnce(const SealPolicy& policy) {
    const auto task = set_->PlanBuild(policy);
    ASSERT_TRUE(task.has_value());
    auto segment = RunBuild(kShape, *task, reader_, fast_, BestKernels());
    ASSERT_OK(segment);
    ASSERT_OK(set_->Publish(*task, *std::move(segment)));
  }

  ClusteredVectors vectors_{kShape.dimension, 4};
  const std::string rows_ = vectors_.Rows(kShape, kCapacity);
  const ContiguousReader reader_{AsBytes(rows_), kShape.row_bytes()};
  const Query query_ = *Query::Prepare(kShape, vectors_.Next());
  const std::unique_ptr<SegmentSet> set_ = *SegmentSet::Create(kShape, kCapacity, BestKernels());
  BuildOptions fast_ = [] {
    BuildOptions options;
    options.calibration_queries = 16;
    options.ivf.iterations = 2;
    return options;
  }();
  SealPolicy ivf_{.kind = SegmentKind::kIvf};
};

TEST_F(SegmentSetTest, FindsRowsAcrossRunsAtOnce) {
  EXPECT_TRUE(Find(*set_->Snapshot()).empty());
  ASSERT_OK(set_->Append(Rows(0, 5)));
  EXPECT_EQ(Find(*set_->Snapshot()).size(), 5U);
  ASSERT_OK(set_->Append(Rows(5, 2 * kRun + 7)));
  EXPECT_EQ(set_->Snapshot()->segments().size(), 3U);
  EXPECT_GE(RecallOf(Find(*set_->Snapshot()), Exact(2 * kRun + 7)), 1);
}

TEST_F(SegmentSetTest, RefusesWhatDoesNotFitAsAWhole) {
  ASSERT_OK(set_->Append(Rows(0, kCapacity - 1)));
  EXPECT_THAT(set_->Append(Rows(0, 2)), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(set_->Snapshot()->rows(), kCapacity - 1);
  EXPECT_THAT(set_->Append(Rows(0, 1).first(3)), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(set_->Append(Rows(kCapacity - 1, kCapacity)));
}

TEST_F(SegmentSetTest, SealsFullRunsAndAppendsBehindThem) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun - 1)));
  EXPECT_FALSE(set_->PlanBuild(ivf_).has_value());
  ASSERT_OK(set_->Append(Rows(2 * kRun - 1, 2 * kRun)));
  BuildOnce(ivf_);
  ASSERT_OK(set_->Append(Rows(2 * kRun, 2 * kRun + 9)));
  const auto snapshot = set_->Snapshot();
  ASSERT_EQ(snapshot->segments().size(), 2U);
  EXPECT_EQ(snapshot->segments()[0].segment->kind(), SegmentKind::kIvf);
  EXPECT_EQ(snapshot->segments()[0].segment->rows(), 2 * kRun);
  EXPECT_EQ(snapshot->rows(), 2 * kRun + 9);
  EXPECT_FALSE(set_->PlanBuild(ivf_).has_value());
  EXPECT_GE(RecallOf(Find(*snapshot), Exact(2 * kRun + 9)), 0.9);
}

TEST_F(SegmentSetTest, AFullRangeBecomesOneSegment) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun)));
  BuildOnce(ivf_);
  ASSERT_OK(set_->Append(Rows(2 * kRun, kCapacity)));
  BuildOnce(ivf_);
  const auto snapshot = set_->Snapshot();
  ASSERT_EQ(snapshot->segments().size(), 1U);
  EXPECT_EQ(snapshot->rows(), kCapacity);
  EXPECT_FALSE(set_->PlanBuild(ivf_).has_value());
  EXPECT_GE(RecallOf(Find(*snapshot), Exact(kCapacity)), 0.9);
}

TEST_F(SegmentSetTest, AFullRangeOfAnotherKindIsBuiltAgain) {
  ASSERT_OK(set_->Append(Rows(0, kCapacity)));
  BuildOnce({.kind = SegmentKind::kHnsw});
  EXPECT_FALSE(set_->PlanBuild({.kind = SegmentKind::kHnsw}).has_value());
  BuildOnce(ivf_);
  const auto snapshot = set_->Snapshot();
  ASSERT_EQ(snapshot->segments().size(), 1U);
  EXPECT_EQ(snapshot->segments()[0].segment->kind(), SegmentKind::kIvf);
  EXPECT_FALSE(set_->PlanBuild(ivf_).has_value());
}

TEST_F(SegmentSetTest, TooManySealedSegmentsAreMerged) {
  SealPolicy policy = ivf_;
  policy.runs = 1;
  policy.max_sealed = 1;
  for (uint32_t run = 0; run < 2; ++run) {
    ASSERT_OK(set_->Append(Rows(run * kRun, (run + 1) * kRun)));
    BuildOnce(policy);
  }
  EXPECT_EQ(set_->Snapshot()->segments().size(), 2U);
  BuildOnce(policy);
  EXPECT_EQ(set_->Snapshot()->segments().size(), 1U);
  EXPECT_EQ(set_->Snapshot()->rows(), 2 * kRun);
}

TEST_F(SegmentSetTest, DeletedRowsAreNotFoundAndGoWithTheNextBuild) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun)));
  BuildOnce(ivf_);
  const auto before = set_->Snapshot();
  const std::vector<Hit> near = Find(*before);
  RowSet kept(2 * kRun, true);
  for (const Hit& hit : near) {
    const auto row = static_cast<RowId>(hit.id - 1000);
    set_->Delete(row, row + 1);
    kept.Remove(row);
  }
  EXPECT_EQ(RecallOf(Find(*set_->Snapshot()), near), 0);
  EXPECT_GE(RecallOf(Find(*set_->Snapshot()), Exact(2 * kRun, &kept)), 0.9);
  // Who searches an older snapshot sees what it saw.
  EXPECT_EQ(Find(*before), near);

  EXPECT_FALSE(set_->PlanBuild(ivf_).has_value());
  SealPolicy purge = ivf_;
  purge.deleted_share = 0;
  BuildOnce(purge);
  const auto& sealed = static_cast<const SealedSegment&>(*set_->Snapshot()->segments()[0].segment);
  EXPECT_EQ(sealed.held_rows(), 2 * kRun - near.size());
  EXPECT_FALSE(set_->PlanBuild(purge).has_value());
  EXPECT_GE(RecallOf(Find(*set_->Snapshot()), Exact(2 * kRun, &kept)), 0.9);
}

TEST_F(SegmentSetTest, WhatWasDeletedDuringABuildStaysDeleted) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun)));
  const auto task = set_->PlanBuild(ivf_);
  auto segment = *RunBuild(kShape, *task, reader_, fast_, BestKernels());
  const std::vector<Hit> near = Find(*set_->Snapshot());
  for (const Hit& hit : near) {
    set_->Delete(static_cast<RowId>(hit.id - 1000), static_cast<RowId>(hit.id - 999));
  }
  ASSERT_OK(set_->Publish(*task, std::move(segment)));
  EXPECT_EQ(RecallOf(Find(*set_->Snapshot()), near), 0);
}

TEST_F(SegmentSetTest, FiltersSpeakOfRowsOfTheRange) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun)));
  BuildOnce(ivf_);
  ASSERT_OK(set_->Append(Rows(2 * kRun, 2 * kRun + 500)));
  RowSet filter(kCapacity);
  filter.AddRange(2 * kRun - 30, 2 * kRun + 30);
  EXPECT_EQ(RecallOf(Find(*set_->Snapshot(), &filter), Exact(2 * kRun + 500, &filter)), 1);
}

TEST_F(SegmentSetTest, APlanThatWasOvertakenIsAborted) {
  ASSERT_OK(set_->Append(Rows(0, 2 * kRun)));
  const auto first = set_->PlanBuild(ivf_);
  const auto second = set_->PlanBuild(ivf_);
  ASSERT_OK(set_->Publish(*first, *RunBuild(kShape, *first, reader_, fast_, BestKernels())));
  EXPECT_THAT(set_->Publish(*second, *RunBuild(kShape, *second, reader_, fast_, BestKernels())),
              StatusIs(absl::StatusCode::kAborted));
}

TEST_F(SegmentSetTest, LoadedSegmentsStandBehindEachOther) {
  const auto built = *BuildSegment(kShape, 3000, reader_, nullptr, fast_, BestKernels());
  const SealedSegment::Serialized stored = built->Serialize();
  ASSERT_OK(set_->Adopt(*LoadSegment(AsBytes(stored.bytes), stored.digest, BestKernels())));
  ASSERT_OK(set_->Append(Rows(3000, 4000)));
  EXPECT_EQ(set_->Snapshot()->rows(), 4000U);
  EXPECT_GE(RecallOf(Find(*set_->Snapshot()), Exact(4000)), 0.9);
  VectorShape other = kShape;
  other.metric = Metric::kCosine;
  EXPECT_THAT(set_->Adopt(*BuildSegment(other, 10, reader_, nullptr, fast_, BestKernels())),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// Appends, searches and builds at once: a search misses no row that was
// appended before it began.
TEST_F(SegmentSetTest, SearchesGoOnWhileRowsArriveAndSegmentsAreBuilt) {
  std::atomic<bool> done{false};
  std::thread appender([&] {
    for (uint32_t at = 0; at < kCapacity; at += 500) {
      EXPECT_OK(set_->Append(Rows(at, std::min(at + 500, kCapacity))));
    }
    done = true;
  });
  std::thread builder([&] {
    while (!done || set_->PlanBuild(ivf_).has_value()) {
      const auto task = set_->PlanBuild(ivf_);
      if (!task.has_value()) continue;
      auto segment = RunBuild(kShape, *task, reader_, fast_, BestKernels());
      EXPECT_OK(segment);
      EXPECT_OK(set_->Publish(*task, *std::move(segment)));
    }
  });
  uint32_t seen = 0;
  while (!done) {
    const auto snapshot = set_->Snapshot();
    const uint32_t rows = snapshot->rows();
    EXPECT_GE(rows, seen);
    seen = rows;
    if (rows >= 10) {
      EXPECT_EQ(Find(*snapshot).size(), 10U);
    }
  }
  appender.join();
  builder.join();
  EXPECT_EQ(set_->Snapshot()->rows(), kCapacity);
  EXPECT_EQ(set_->Snapshot()->segments().size(), 1U);
}

}  // namespace
}  // namespace mnemo

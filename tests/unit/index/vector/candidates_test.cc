#include "index/vector/candidates.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "index/vector/sealed_segment.h"
#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{32, ElementType::kFloat32, Metric::kL2};
constexpr uint32_t kRows = 2000;  // of each segment
constexpr uint32_t kSegments = 4;
constexpr size_t kResults = 10;

std::vector<uint64_t> IdsOf(const std::vector<EstimatedHit>& candidates) {
  std::vector<uint64_t> ids;
  for (const EstimatedHit& candidate : candidates) ids.push_back(candidate.id);
  return ids;
}

TEST(CandidatesTest, WhatCannotBeAmongTheBestIsLeftOut) {
  Candidates candidates(2);
  candidates.Offer({.score = 1, .error = 1, .id = 1});  // at least 0
  EXPECT_EQ(candidates.least(), -std::numeric_limits<float>::infinity());
  candidates.Offer({.score = 5, .error = 1, .id = 2});  // at least 4
  EXPECT_EQ(candidates.least(), 0);
  candidates.Offer({.score = -3, .error = 2, .id = 3});  // at most -1
  EXPECT_EQ(candidates.size(), 2U);
  candidates.Offer({.score = 6, .error = 3, .id = 4});  // at least 3
  EXPECT_EQ(candidates.least(), 3);
  // 1 reached 2, which is not enough any more.
  EXPECT_EQ(IdsOf(candidates.Take()), (std::vector<uint64_t>{4, 2}));
  EXPECT_EQ(candidates.size(), 0U);
  // What was taken still counts.
  candidates.Offer({.score = 1, .error = 1, .id = 5});
  EXPECT_EQ(candidates.size(), 0U);
}

// Segments one behind the other, as those of the ranges of a context.
class ConfirmTest : public testing::Test {
 protected:
  void SetUp() override {
    BuildOptions options;
    options.kind = SegmentKind::kIvf;
    for (uint32_t i = 0; i < kSegments; ++i) {
      auto segment = BuildSegment(kShape, kRows, *readers_[i], nullptr, options, kernels_);
      ASSERT_OK(segment);
      segments_.push_back(*std::move(segment));
    }
  }
  absl::Status Search(const Query& query, Candidates* candidates, TopK& best,
                      SearchCounters& counters) {
    for (uint32_t i = 0; i < kSegments; ++i) {
      SegmentSearch options;
      options.first_id = uint64_t{i} * kRows;
      options.candidates = candidates;
      MNEMO_RETURN_IF_ERROR(segments_[i]->Search(query, options, *readers_[i], best, &counters));
    }
    return absl::OkStatus();
  }

  const Kernels& kernels_ = BestKernels();
  ClusteredVectors vectors_{kShape.dimension, 3};
  const std::string rows_ = vectors_.Rows(kShape, size_t{kSegments} * kRows);
  const std::vector<Query> queries_ = vectors_.Queries(kShape, 30);
  const ContiguousReader all_{AsBytes(rows_), kShape.row_bytes()};
  const ReadById by_id_ = [this](std::span<const uint64_t> ids, ReadScratch& scratch,
                                 std::span<const uint8_t*> out) {
    const std::vector<RowId> rows(ids.begin(), ids.end());
    return all_.Read(rows, scratch, out);
  };
  std::vector<std::unique_ptr<ContiguousReader>> readers_ = [this] {
    std::vector<std::unique_ptr<ContiguousReader>> readers;
    const size_t bytes = kRows * kShape.row_bytes();
    for (uint32_t i = 0; i < kSegments; ++i) {
      readers.push_back(std::make_unique<ContiguousReader>(AsBytes(rows_).subspan(i * bytes, bytes),
                                                           kShape.row_bytes()));
    }
    return readers;
  }();
  std::vector<std::unique_ptr<SealedSegment>> segments_;
};

TEST_F(ConfirmTest, TogetherLessIsReadThanSegmentBySegmentAndAsMuchIsFound) {
  SearchCounters together;
  SearchCounters apart;
  double recall_together = 0;
  double recall_apart = 0;
  for (const Query& query : queries_) {
    const auto exact = ExactHits(kShape, query, {}, kSegments * kRows, all_, kResults);
    TopK best(kResults);
    ASSERT_OK(Search(query, nullptr, best, apart));
    recall_apart += RecallOf(best.Take(), exact) / static_cast<double>(queries_.size());
    Candidates candidates(kResults);
    ASSERT_OK(Search(query, &candidates, best, together));
    EXPECT_FALSE(best.full());  // nothing was read yet
    ASSERT_OK(Confirm(kShape, kernels_, query, candidates, by_id_, nullptr, best, &together));
    EXPECT_EQ(candidates.size(), 0U);
    const std::vector<Hit> hits = best.Take();
    for (const Hit& hit : hits) {
      const auto row = std::span(rows_).subspan(hit.id * kShape.row_bytes());
      float distance = 0;
      for (uint32_t i = 0; i < kShape.dimension; ++i) {
        const float x = LoadLittle<float>(row.data() + 4 * i) - query.values()[i];
        distance += x * x;
      }
      EXPECT_NEAR(hit.score, -distance, 1e-3 * (1 + distance));
    }
    recall_together += RecallOf(hits, exact) / static_cast<double>(queries_.size());
  }
  EXPECT_EQ(together.distances, apart.distances);
  EXPECT_LT(together.reranked, apart.reranked * 9 / 10);
  EXPECT_GT(together.reranked, 0U);
  EXPECT_GE(recall_together, 0.95);
  EXPECT_GE(recall_apart, 0.95);
}

TEST_F(ConfirmTest, ManyResultsAreAllRead) {
  constexpr size_t kMany = 700;
  Candidates candidates(kMany);
  TopK best(kMany);
  SearchCounters counters;
  ASSERT_OK(Search(queries_[0], &candidates, best, counters));
  ASSERT_OK(Confirm(kShape, kernels_, queries_[0], candidates, by_id_, nullptr, best, &counters));
  EXPECT_EQ(best.Take().size(), kMany);
  EXPECT_GE(counters.reranked, kMany);
}

TEST_F(ConfirmTest, EndsWhenItIsCancelledAndWhereNothingCanBeRead) {
  const std::atomic<bool> cancelled = true;
  Candidates candidates(kResults);
  TopK best(kResults);
  SearchCounters counters;
  ASSERT_OK(Search(queries_[0], &candidates, best, counters));
  EXPECT_THAT(Confirm(kShape, kernels_, queries_[0], candidates, by_id_, &cancelled, best, nullptr),
              StatusIs(absl::StatusCode::kCancelled));
  const auto broken = [](std::span<const uint64_t>, ReadScratch&, std::span<const uint8_t*>) {
    return absl::DataLossError("gone");
  };
  Candidates others(kResults);
  ASSERT_OK(Search(queries_[1], &others, best, counters));
  EXPECT_THAT(Confirm(kShape, kernels_, queries_[1], others, broken, nullptr, best, nullptr),
              StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo

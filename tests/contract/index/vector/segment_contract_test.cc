// What every kind of segment promises, whatever the metric.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "index/vector/growing_segment.h"
#include "index/vector/sealed_segment.h"
#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr uint32_t kRows = 6000;
constexpr uint32_t kDimension = 48;
constexpr size_t kResults = 10;

class FailingReader final : public VectorReader {
 public:
  absl::Status Read(std::span<const RowId>, ReadScratch&,
                    std::span<const uint8_t*>) const override {
    return absl::DataLossError("chunk 7 is damaged");
  }
};

using Parameters = std::tuple<SegmentKind, Metric>;

class SegmentContractTest : public testing::TestWithParam<Parameters> {
 protected:
  // Segments are immutable, and building them takes most of the time.
  static const Segment& SegmentFor(SegmentKind kind, const VectorShape& shape,
                                   const std::string& rows) {
    static std::map<Parameters, std::unique_ptr<Segment>> made;
    std::unique_ptr<Segment>& segment = made[{kind, shape.metric}];
    if (segment != nullptr) return *segment;
    if (kind == SegmentKind::kFlat) {
      auto growing = *GrowingSegment::Create(shape, kRows, BestKernels());
      EXPECT_OK(growing->Append(AsBytes(rows)));
      segment = std::move(growing);
    } else {
      BuildOptions options;
      options.kind = kind;
      const ContiguousReader reader(AsBytes(rows), shape.row_bytes());
      auto built = BuildSegment(shape, kRows, reader, nullptr, options, BestKernels());
      EXPECT_OK(built);
      segment = *std::move(built);
    }
    return *segment;
  }

  const VectorShape shape_{kDimension, ElementType::kFloat16, std::get<1>(GetParam())};
  ClusteredVectors vectors_{kDimension, 5};
  const std::string rows_ = vectors_.Rows(shape_, kRows);
  const std::vector<Query> queries_ = vectors_.Queries(shape_, 100);
  const ContiguousReader reader_{AsBytes(rows_), shape_.row_bytes()};
  const Segment& segment_ = SegmentFor(std::get<0>(GetParam()), shape_, rows_);
};

TEST_P(SegmentContractTest, SaysWhatItIs) {
  EXPECT_EQ(segment_.kind(), std::get<0>(GetParam()));
  EXPECT_EQ(segment_.shape(), shape_);
  EXPECT_EQ(segment_.rows(), kRows);
  EXPECT_GT(segment_.memory_bytes(), kRows * kDimension / 8);
}

TEST_P(SegmentContractTest, ReachesItsRecallUnderEveryFilter) {
  for (const double share : {1.0, 0.5, 0.1, 0.01, 0.001}) {
    const RowSet filter = RandomRowSet(kRows, share, 11);
    SegmentSearch options;
    options.filter = share < 1 ? &filter : nullptr;
    double recall = 0;
    for (const Query& query : queries_) {
      TopK best(kResults);
      ASSERT_OK(segment_.Search(query, options, reader_, best, nullptr));
      const std::vector<Hit> found = best.Take();
      for (const Hit& hit : found) EXPECT_TRUE(share == 1 || filter.Contains(hit.id));
      recall += RecallOf(found, ExactHits(shape_, query, options, kRows, reader_, kResults));
    }
    EXPECT_GE(recall / queries_.size(), 0.95) << "with " << share << " of the rows kept";
  }
}

// Kept rows far from the query: a walk toward the query does not meet them.
TEST_P(SegmentContractTest, FindsWhatAFilterKeepsFarAway) {
  double recall = 0;
  for (const Query& query : queries_) {
    // The farthest half.
    RowSet filter(kRows, true);
    for (const Hit& near : ExactHits(shape_, query, {}, kRows, reader_, kRows / 2)) {
      filter.Remove(static_cast<RowId>(near.id));
    }
    SegmentSearch options;
    options.filter = &filter;
    TopK best(kResults);
    ASSERT_OK(segment_.Search(query, options, reader_, best, nullptr));
    recall += RecallOf(best.Take(), ExactHits(shape_, query, options, kRows, reader_, kResults));
  }
  EXPECT_GE(recall / queries_.size(), 0.95);
}

TEST_P(SegmentContractTest, ScoresAreThoseOfTheStoredVectors) {
  TopK best(kResults);
  ASSERT_OK(segment_.Search(queries_[0], {}, reader_, best, nullptr));
  const std::vector<Hit> all = ExactHits(shape_, queries_[0], {}, kRows, reader_, kRows);
  for (const Hit& hit : best.Take()) {
    const auto exact =
        std::find_if(all.begin(), all.end(), [&](const Hit& other) { return other.id == hit.id; });
    ASSERT_NE(exact, all.end());
    EXPECT_NEAR(hit.score, exact->score, 1e-4F * (1 + std::abs(exact->score)));
  }
}

TEST_P(SegmentContractTest, CountsIdsFromTheFirst) {
  SegmentSearch options;
  options.first_id = uint64_t{1} << 40;
  TopK best(3);
  ASSERT_OK(segment_.Search(queries_[0], options, reader_, best, nullptr));
  const std::vector<Hit> expected = ExactHits(shape_, queries_[0], options, kRows, reader_, 3);
  const std::vector<Hit> found = best.Take();
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].id, expected[0].id);
}

TEST_P(SegmentContractTest, AFilterThatKeepsNothingFindsNothing) {
  const RowSet none(kRows);
  const RowSet of_no_rows;
  for (const RowSet* filter : {&none, &of_no_rows}) {
    SegmentSearch options;
    options.filter = filter;
    TopK best(kResults);
    ASSERT_OK(segment_.Search(queries_[0], options, reader_, best, nullptr));
    EXPECT_TRUE(best.Take().empty());
  }
}

TEST_P(SegmentContractTest, AddsToWhatOtherSegmentsFound) {
  TopK best(kResults);
  const float unbeatable = 1e9F;
  for (uint64_t id = 0; id + 1 < kResults; ++id) best.Push(kRows + id, unbeatable);
  ASSERT_OK(segment_.Search(queries_[0], {}, reader_, best, nullptr));
  const std::vector<Hit> found = best.Take();
  ASSERT_EQ(found.size(), kResults);
  EXPECT_EQ(found.back().id, ExactHits(shape_, queries_[0], {}, kRows, reader_, 1)[0].id);
}

TEST_P(SegmentContractTest, FindsAllWhenAllAreWanted) {
  const RowSet filter = RandomRowSet(kRows, 0.02, 3);
  SegmentSearch options;
  options.filter = &filter;
  TopK best(4096);
  ASSERT_OK(segment_.Search(queries_[0], options, reader_, best, nullptr));
  EXPECT_EQ(best.Take().size(), filter.Count());
}

TEST_P(SegmentContractTest, EndsWhenCancelled) {
  const std::atomic<bool> cancelled{true};
  SegmentSearch options;
  options.cancelled = &cancelled;
  TopK best(kResults);
  EXPECT_THAT(segment_.Search(queries_[0], options, reader_, best, nullptr),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_P(SegmentContractTest, RefusesQueriesOfAnotherShape) {
  VectorShape other = shape_;
  other.dimension = kDimension + 1;
  TopK best(kResults);
  const Query longer = *Query::Prepare(other, std::vector<float>(kDimension + 1, 1));
  EXPECT_THAT(segment_.Search(longer, {}, reader_, best, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  SegmentSearch options;
  options.target_recall = 1.5F;
  EXPECT_THAT(segment_.Search(queries_[0], options, reader_, best, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(SegmentContractTest, PassesTheReadersErrorOn) {
  if (std::get<0>(GetParam()) == SegmentKind::kFlat) return;  // does not read
  TopK best(kResults);
  EXPECT_THAT(segment_.Search(queries_[0], {}, FailingReader(), best, nullptr),
              StatusIs(absl::StatusCode::kDataLoss));
}

std::string ParameterName(const testing::TestParamInfo<Parameters>& info) {
  constexpr const char* kKinds[] = {"Flat", "Hnsw", "Ivf"};
  constexpr const char* kMetricNames[] = {"InnerProduct", "Cosine", "L2"};
  return std::string(kKinds[static_cast<size_t>(std::get<0>(info.param))]) +
         kMetricNames[static_cast<size_t>(std::get<1>(info.param))];
}
INSTANTIATE_TEST_SUITE_P(
    KindsAndMetrics, SegmentContractTest,
    testing::Combine(testing::Values(SegmentKind::kFlat, SegmentKind::kHnsw, SegmentKind::kIvf),
                     testing::Values(Metric::kInnerProduct, Metric::kCosine, Metric::kL2)),
    ParameterName);

}  // namespace
}  // namespace mnemo

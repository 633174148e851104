#include "index/vector/rerank.h"

#include <atomic>
#include <string>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{16, ElementType::kFloat32, Metric::kL2};
constexpr uint32_t kRows = 700;

class RerankTest : public testing::Test {
 protected:
  ClusteredVectors vectors_{kShape.dimension, 1};
  const std::string rows_ = vectors_.Rows(kShape, kRows);
  const ContiguousReader reader_{AsBytes(rows_), kShape.row_bytes()};
  const Query query_ = *Query::Prepare(kShape, vectors_.Next());
};

TEST_F(RerankTest, OffersTheGivenRowsAndCountsThem) {
  std::vector<RowId> rows;
  for (RowId row = 0; row < kRows; row += 2) rows.push_back(row);
  TopK best(5);
  ReadScratch scratch;
  SearchCounters counters;
  ASSERT_OK(Rerank(kShape, BestKernels(), query_, rows, 1000, reader_, scratch, best, &counters));
  EXPECT_EQ(counters.reranked, rows.size());
  RowSet even(kRows);
  for (const RowId row : rows) even.Add(row);
  SegmentSearch options;
  options.filter = &even;
  options.first_id = 1000;
  const std::vector<Hit> expected = ExactHits(kShape, query_, options, kRows, reader_, 5);
  EXPECT_EQ(RecallOf(best.Take(), expected), 1);
}

TEST_F(RerankTest, AScanFindsWhatASortOfAllScoresSays) {
  TopK best(kRows);
  ASSERT_OK(ScanRows(kShape, BestKernels(), query_, {}, kRows, reader_, best, nullptr));
  const std::vector<Hit> all = best.Take();
  ASSERT_EQ(all.size(), kRows);
  for (size_t i = 1; i < all.size(); ++i) EXPECT_GE(all[i - 1].score, all[i].score);
  for (const Hit& hit : all) {
    double distance = 0;
    for (uint32_t i = 0; i < kShape.dimension; ++i) {
      const auto x = LoadLittle<float>(rows_.data() + hit.id * kShape.row_bytes() + 4 * i);
      distance += (x - query_.values()[i]) * (x - query_.values()[i]);
    }
    EXPECT_NEAR(hit.score, -distance, 1e-3 * (1 + distance));
  }
}

TEST_F(RerankTest, AScanKeepsToItsFilterAndToItsRows) {
  RowSet filter(kRows + 100, true);
  filter.Remove(3);
  SegmentSearch options;
  options.filter = &filter;
  TopK best(kRows);
  ASSERT_OK(ScanRows(kShape, BestKernels(), query_, options, 10, reader_, best, nullptr));
  EXPECT_EQ(best.Take().size(), 9U);
}

TEST_F(RerankTest, AScanEndsWhenCancelledAndPassesErrorsOn) {
  const std::atomic<bool> cancelled{true};
  SegmentSearch options;
  options.cancelled = &cancelled;
  TopK best(3);
  EXPECT_THAT(ScanRows(kShape, BestKernels(), query_, options, kRows, reader_, best, nullptr),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(ScanRows(kShape, BestKernels(), query_, {}, kRows + 1, reader_, best, nullptr),
              StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace mnemo

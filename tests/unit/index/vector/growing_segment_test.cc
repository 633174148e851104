#include "index/vector/growing_segment.h"

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{.dimension = 24, .type = ElementType::kFloat16, .metric = Metric::kL2};

std::vector<float> RandomVector(uint32_t dimension, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(dimension);
  for (float& value : values) value = normal(random);
  return values;
}

std::string RandomRows(const VectorShape& shape, size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string rows;
  for (size_t i = 0; i < count; ++i) {
    EXPECT_OK(EncodeRow(shape, RandomVector(shape.dimension, random), rows));
  }
  return rows;
}

class GrowingSegmentTest : public testing::Test {
 protected:
  // What a sort of all scores says.
  std::vector<Hit> Expected(const VectorShape& shape, const std::string& rows, const Query& query,
                            const RowSet* filter, size_t k) {
    TopK best(k);
    const Kernels& scalar = **FindKernels(SimdLevel::kScalar);
    for (size_t i = 0; i * shape.row_bytes() < rows.size(); ++i) {
      if (filter != nullptr && !filter->Contains(static_cast<RowId>(i))) continue;
      const uint8_t* row = AsBytes(rows).data() + i * shape.row_bytes();
      float score = 0;
      scalar.ScoreRows(shape.metric, shape.type)(query.values(), &row, 1, shape.dimension, &score);
      best.Push(1000 + i, score);
    }
    return best.Take();
  }

  static std::vector<uint64_t> Ids(const std::vector<Hit>& hits) {
    std::vector<uint64_t> ids;
    for (const Hit& hit : hits) ids.push_back(hit.id);
    return ids;
  }

  const Kernels& kernels_ = BestKernels();
  std::mt19937_64 random_{7};
};

TEST_F(GrowingSegmentTest, FindsExactlyTheNearestUnderEveryMetricAndFilter) {
  for (const Metric metric : {Metric::kInnerProduct, Metric::kCosine, Metric::kL2}) {
    VectorShape shape = kShape;
    shape.metric = metric;
    auto segment = GrowingSegment::Create(shape, 5000, kernels_);
    ASSERT_OK(segment);
    const std::string rows = RandomRows(shape, 3000, 3);
    ASSERT_OK((*segment)->Append(AsBytes(rows).first(shape.row_bytes() * 1500)));
    ASSERT_OK((*segment)->Append(AsBytes(rows).subspan(shape.row_bytes() * 1500)));
    RowSet some(2500);
    for (RowId row = 0; row < 2500; row += 3) some.Add(row);
    const RowSet none(3000);
    const GrowingReader reader(**segment);
    for (const RowSet* filter :
         {static_cast<const RowSet*>(nullptr), &std::as_const(some), &none}) {
      const auto query = Query::Prepare(shape, RandomVector(24, random_));
      ASSERT_OK(query);
      TopK best(10);
      SearchCounters counters;
      ASSERT_OK((*segment)->Search(*query, {.first_id = 1000, .filter = filter}, reader, best,
                                   &counters));
      EXPECT_EQ(Ids(best.Take()), Ids(Expected(shape, rows, *query, filter, 10)));
      EXPECT_EQ(counters.distances, filter == nullptr ? 3000U : filter->Count());
    }
  }
}

TEST_F(GrowingSegmentTest, RefusesWhatDoesNotFit) {
  auto segment = GrowingSegment::Create(kShape, 10, kernels_);
  ASSERT_OK(segment);
  const std::string rows = RandomRows(kShape, 11, 1);
  EXPECT_THAT((*segment)->Append(AsBytes(rows)), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ((*segment)->rows(), 0U);
  EXPECT_THAT((*segment)->Append(AsBytes(rows).first(kShape.row_bytes() + 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK((*segment)->Append(AsBytes(rows).first(kShape.row_bytes() * 10)));
  EXPECT_THAT(GrowingSegment::Create(kShape, 0, kernels_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(GrowingSegmentTest, RefusesQueriesOfAnotherShapeAndObeysCancellation) {
  auto segment = GrowingSegment::Create(kShape, 100, kernels_);
  ASSERT_OK(segment);
  ASSERT_OK((*segment)->Append(AsBytes(RandomRows(kShape, 5, 1))));
  const GrowingReader reader(**segment);
  TopK best(3);
  VectorShape other = kShape;
  other.dimension = 25;
  const auto longer = Query::Prepare(other, RandomVector(25, random_));
  EXPECT_THAT((*segment)->Search(*longer, {}, reader, best, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  other = kShape;
  other.metric = Metric::kCosine;
  const auto cosine = Query::Prepare(other, RandomVector(24, random_));
  EXPECT_THAT((*segment)->Search(*cosine, {}, reader, best, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const auto good = Query::Prepare(kShape, RandomVector(24, random_));
  const std::atomic<bool> cancelled = true;
  EXPECT_THAT((*segment)->Search(*good, {.cancelled = &cancelled}, reader, best, nullptr),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(GrowingSegmentTest, ASearchSeesAtLeastWhatHadBeenAppended) {
  constexpr uint32_t kRows = 4096;
  auto segment = GrowingSegment::Create(kShape, kRows, kernels_);
  ASSERT_OK(segment);
  const std::string rows = RandomRows(kShape, kRows, 5);
  const auto query = Query::Prepare(kShape, RandomVector(24, random_));
  std::thread appender([&] {
    for (uint32_t row = 0; row < kRows; row += 16) {
      EXPECT_OK((*segment)->Append(
          AsBytes(rows).subspan(row * kShape.row_bytes(), 16 * kShape.row_bytes())));
    }
  });
  const GrowingReader reader(**segment);
  uint32_t seen = 0;
  while (seen < kRows) {
    const uint32_t before = (*segment)->rows();
    TopK best(kRows);
    ASSERT_OK((*segment)->Search(*query, {.first_id = 1000}, reader, best, nullptr));
    std::vector<uint64_t> ids = Ids(best.Take());
    ASSERT_GE(ids.size(), before);
    std::sort(ids.begin(), ids.end());
    // A prefix: nothing in the middle is missing.
    EXPECT_EQ(ids.empty() ? 0 : ids.back() - 1000 + 1, ids.size());
    seen = static_cast<uint32_t>(ids.size());
  }
  appender.join();
  TopK best(5);
  ASSERT_OK((*segment)->Search(*query, {.first_id = 1000}, reader, best, nullptr));
  EXPECT_EQ(Ids(best.Take()), Ids(Expected(kShape, rows, *query, nullptr, 5)));
}

}  // namespace
}  // namespace mnemo

#include "index/vector/build_input.h"

#include <atomic>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{2, ElementType::kFloat32, Metric::kL2};

std::string RowsOf(const std::vector<std::vector<float>>& values) {
  std::string rows;
  for (const std::vector<float>& row : values) {
    for (const float value : row) AppendLittle(rows, value);
  }
  return rows;
}

TEST(BuildInputTest, VisitsNodesInOrderAsTheirRows) {
  const std::string rows = RowsOf({{0, 1}, {2, 3}, {4, 5}});
  const ContiguousReader reader(AsBytes(rows), kShape.row_bytes());
  RowSet deleted(3);
  deleted.Add(1);
  const RowMap map(3, &deleted);
  const BuildInput input(kShape, map, reader, nullptr, BestKernels());
  std::vector<float> firsts;
  ASSERT_OK(input.ForEach(0, 2, [&](uint32_t node, float* values) {
    EXPECT_EQ(node, firsts.size());
    firsts.push_back(values[0]);
  }));
  EXPECT_EQ(firsts, (std::vector<float>{0, 4}));
  EXPECT_EQ(*input.Centre(), (std::vector<float>{2, 3}));
}

TEST(BuildInputTest, TheCentreOfDirectionsIgnoresNorms) {
  VectorShape cosine = kShape;
  cosine.metric = Metric::kCosine;
  const std::string rows = RowsOf({{5, 0}, {0, 100}, {0, 0}, {0, 0}});
  const ContiguousReader reader(AsBytes(rows), kShape.row_bytes());
  const RowMap map(4, nullptr);
  const BuildInput input(cosine, map, reader, nullptr, BestKernels());
  EXPECT_EQ(*input.Centre(), (std::vector<float>{0.25F, 0.25F}));
  // Zeros are no query.
  std::vector<RowId> queried;
  EXPECT_EQ(input.Queries(std::vector<uint32_t>{1, 2}, &queried)->size(), 1U);
  EXPECT_EQ(queried, (std::vector<RowId>{1}));
}

TEST(BuildInputTest, SamplesAreSpreadEvenly) {
  const RowMap map(1000, nullptr);
  const ContiguousReader reader({}, kShape.row_bytes());
  const BuildInput input(kShape, map, reader, nullptr, BestKernels());
  EXPECT_EQ(input.Sample(4), (std::vector<uint32_t>{0, 250, 500, 750}));
  EXPECT_EQ(input.Sample(5000).size(), 1000U);
}

TEST(BuildInputTest, NamesTheRowThatIsNoNumber) {
  const std::string rows = RowsOf({{0, 1}, {2, std::numeric_limits<float>::infinity()}});
  const ContiguousReader reader(AsBytes(rows), kShape.row_bytes());
  const RowMap map(2, nullptr);
  const BuildInput input(kShape, map, reader, nullptr, BestKernels());
  const absl::Status status = input.ForEach(0, 2, [](uint32_t, float*) {});
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("row 1"));
}

TEST(BuildInputTest, EndsWhenCancelled) {
  const std::string rows = RowsOf({{0, 1}});
  const ContiguousReader reader(AsBytes(rows), kShape.row_bytes());
  const RowMap map(1, nullptr);
  const std::atomic<bool> cancelled{true};
  const BuildInput input(kShape, map, reader, &cancelled, BestKernels());
  EXPECT_THAT(input.Centre(), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace mnemo

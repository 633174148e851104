#include "index/vector/calibration.h"

#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{8, ElementType::kFloat32, Metric::kL2};
constexpr uint32_t kRows = 600;

class CalibrationTest : public testing::Test {
 protected:
  // Finds the nearest among the first tenths of the rows: effort 10 finds all.
  absl::Status SearchTenths(const Query& query, uint32_t effort, TopK& found) {
    efforts_tried_.insert(effort);
    return ScanRows(kShape, BestKernels(), query, {}, kRows * effort / 10, reader_, found, nullptr);
  }
  absl::StatusOr<EffortCurve> Measure(const CalibrationTask& task) {
    return MeasureEfforts(kShape, BestKernels(), task, reader_,
                          [&](const Query& query, uint32_t effort, TopK& found) {
                            return SearchTenths(query, effort, found);
                          });
  }

  ClusteredVectors vectors_{kShape.dimension, 8};
  const std::string rows_ = vectors_.Rows(kShape, kRows);
  const ContiguousReader reader_{AsBytes(rows_), kShape.row_bytes()};
  const std::vector<Query> queries_ = vectors_.Queries(kShape, 50);
  const RowMap map_{kRows, nullptr};
  const std::vector<uint32_t> efforts_ = {5, 10, 11};
  std::set<uint32_t> efforts_tried_;
  CalibrationTask task_ = [this] {
    CalibrationTask task;
    task.queries = queries_;
    task.efforts = efforts_;
    task.map = &map_;
    return task;
  }();
};

TEST_F(CalibrationTest, MeasuresTheRecallOfEachEffort) {
  const auto curve = Measure(task_);
  ASSERT_OK(curve);
  ASSERT_EQ(curve->points().size(), 2U);
  EXPECT_NEAR(curve->points()[0].recall, 0.5, 0.1);
  EXPECT_EQ(curve->points()[1].recall, 1);
  // Nothing is better than complete.
  EXPECT_EQ(efforts_tried_, (std::set<uint32_t>{5, 10}));
}

TEST_F(CalibrationTest, RowsThatAreLeftOutAreNotExpected) {
  RowSet back(kRows);
  back.AddRange(kRows / 2, kRows);
  task_.left_out = &back;
  const auto curve = Measure(task_);
  ASSERT_OK(curve);
  EXPECT_EQ(curve->points()[0].recall, 1);
}

TEST_F(CalibrationTest, AQueryThatIsARowDoesNotFindItself) {
  // Only itself is found: right, were it expected.
  const std::vector<RowId> self = {3};
  std::vector<float> values(kShape.dimension);
  BestKernels().DecodeRow(kShape.type)(AsBytes(rows_).data() + 3 * kShape.row_bytes(),
                                       kShape.dimension, values.data());
  const std::vector<Query> queries = {*Query::Prepare(kShape, values)};
  task_.queries = queries;
  task_.self = self;
  task_.k = 1;
  const auto curve = MeasureEfforts(kShape, BestKernels(), task_, reader_,
                                    [&](const Query&, uint32_t, TopK& found) {
                                      found.Push(3, 0);
                                      return absl::OkStatus();
                                    });
  ASSERT_OK(curve);
  EXPECT_EQ(curve->points()[0].recall, 0);
}

TEST_F(CalibrationTest, RefusesWhatItCannotMeasure) {
  task_.k = 0;
  EXPECT_THAT(Measure(task_), StatusIs(absl::StatusCode::kInvalidArgument));
  task_.k = 10;
  VectorShape other = kShape;
  other.metric = Metric::kCosine;
  const std::vector<Query> queries = vectors_.Queries(other, 1);
  task_.queries = queries;
  EXPECT_THAT(Measure(task_), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CalibrationTest, EndsWhenCancelled) {
  const std::atomic<bool> cancelled{true};
  task_.cancelled = &cancelled;
  EXPECT_THAT(Measure(task_), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace mnemo

// What every kind of sealed segment promises about building, storing, loading.
#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "index/vector/sealed_segment.h"
#include "index/vector/segment_file.h"
#include "storage/base/file_system.h"
#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr uint32_t kRows = 1500;
constexpr VectorShape kShape{40, ElementType::kFloat32, Metric::kL2};

class SealedSegmentContractTest : public testing::TestWithParam<SegmentKind> {
 protected:
  BuildOptions Options() const {
    BuildOptions options;
    options.kind = GetParam();
    return options;
  }
  absl::StatusOr<std::unique_ptr<SealedSegment>> Build(const RowSet* deleted,
                                                       const BuildOptions& options) const {
    return BuildSegment(kShape, kRows, reader_, deleted, options, kernels_);
  }
  std::vector<Hit> Find(const Segment& segment, const Query& query, size_t k = 10) const {
    TopK best(k);
    EXPECT_OK(segment.Search(query, {}, reader_, best, nullptr));
    return best.Take();
  }

  const Kernels& kernels_ = BestKernels();
  ClusteredVectors vectors_{kShape.dimension, 5};
  const std::string rows_ = vectors_.Rows(kShape, kRows);
  const std::vector<Query> queries_ = vectors_.Queries(kShape, 30);
  const ContiguousReader reader_{AsBytes(rows_), kShape.row_bytes()};
};

TEST_P(SealedSegmentContractTest, LeavesDeletedRowsOutAndKeepsIds) {
  const RowSet deleted = RandomRowSet(kRows, 0.4, 2);
  RowSet kept(kRows, true);
  for (RowId row = 0; row < kRows; ++row) {
    if (deleted.Contains(row)) kept.Remove(row);
  }
  const auto segment = *Build(&deleted, Options());
  EXPECT_LT(segment->memory_bytes(), (*Build(nullptr, Options()))->memory_bytes());
  SegmentSearch only_kept;
  only_kept.filter = &kept;
  double recall = 0;
  for (const Query& query : queries_) {
    const std::vector<Hit> found = Find(*segment, query);
    for (const Hit& hit : found) EXPECT_FALSE(deleted.Contains(hit.id));
    recall += RecallOf(found, ExactHits(kShape, query, only_kept, kRows, reader_, 10));
    // The filter speaks of rows, not of what is left of them.
    TopK best(10);
    ASSERT_OK(segment->Search(query, only_kept, reader_, best, nullptr));
    EXPECT_GE(RecallOf(best.Take(), found), 0.8);
  }
  EXPECT_GE(recall / queries_.size(), 0.95);
}

TEST_P(SealedSegmentContractTest, AllDeletedFindsNothingAndCanBeStored) {
  const RowSet all(kRows, true);
  const auto segment = *Build(&all, Options());
  EXPECT_TRUE(Find(*segment, queries_[0]).empty());
  const SealedSegment::Serialized stored = segment->Serialize();
  const auto loaded = LoadSegment(AsBytes(stored.bytes), stored.digest, kernels_);
  ASSERT_OK(loaded);
  EXPECT_TRUE(Find(**loaded, queries_[0]).empty());
}

TEST_P(SealedSegmentContractTest, OneRowIsASegment) {
  const auto segment = BuildSegment(kShape, 1, reader_, nullptr, Options(), kernels_);
  ASSERT_OK(segment);
  EXPECT_EQ(Find(**segment, queries_[0]).size(), 1U);
}

TEST_P(SealedSegmentContractTest, EqualRowsAreAllFound) {
  const std::string one = rows_.substr(0, kShape.row_bytes());
  std::string equal;
  for (int i = 0; i < 200; ++i) equal += one;
  const ContiguousReader reader(AsBytes(equal), kShape.row_bytes());
  const auto segment = *BuildSegment(kShape, 200, reader, nullptr, Options(), kernels_);
  TopK best(50);
  ASSERT_OK(segment->Search(queries_[0], {}, reader, best, nullptr));
  EXPECT_EQ(best.Take().size(), 50U);
}

TEST_P(SealedSegmentContractTest, LoadedAnswersAsBuilt) {
  const RowSet deleted = RandomRowSet(kRows, 0.1, 2);
  for (const RowSet* without : {static_cast<const RowSet*>(nullptr), &deleted}) {
    const auto built = *Build(without, Options());
    const SealedSegment::Serialized stored = built->Serialize();
    const auto loaded = LoadSegment(AsBytes(stored.bytes), stored.digest, kernels_);
    ASSERT_OK(loaded);
    EXPECT_EQ((*loaded)->kind(), GetParam());
    EXPECT_EQ((*loaded)->shape(), kShape);
    EXPECT_EQ((*loaded)->rows(), kRows);
    EXPECT_EQ((*loaded)->EffortFor(0.95F), built->EffortFor(0.95F));
    for (const Query& query : queries_) EXPECT_EQ(Find(**loaded, query), Find(*built, query));
    EXPECT_EQ((*loaded)->Serialize().bytes, stored.bytes);
  }
}

TEST_P(SealedSegmentContractTest, TheSameSeedBuildsTheSameBytes) {
  EXPECT_EQ((*Build(nullptr, Options()))->Serialize().bytes,
            (*Build(nullptr, Options()))->Serialize().bytes);
}

TEST_P(SealedSegmentContractTest, RefusesEveryFlippedBitAndEveryCut) {
  const SealedSegment::Serialized stored = (*Build(nullptr, Options()))->Serialize();
  std::mt19937_64 random(3);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = stored.bytes;
    if (i % 3 == 0) {
      damaged.resize(random() % damaged.size());
    } else {
      // Half of them in the header and the table, which say how long things are.
      const size_t at = random() % (i % 3 == 1 ? 352 : damaged.size());
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    }
    EXPECT_THAT(LoadSegment(AsBytes(damaged), stored.digest, kernels_),
                StatusIs(absl::StatusCode::kDataLoss));
    // As if somebody had recorded the damaged file's digest.
    EXPECT_FALSE(LoadSegment(AsBytes(damaged), SegmentDigest(AsBytes(damaged)), kernels_).ok());
  }
}

TEST_P(SealedSegmentContractTest, CalibrationReachesItsTargets) {
  const auto segment = *Build(nullptr, Options());
  const std::vector<Query> learning = vectors_.Queries(kShape, 100);
  ASSERT_OK(segment->Calibrate(learning, 10, reader_, nullptr));
  for (const float target : {0.5F, 0.9F, 0.99F}) {
    double recall = 0;
    for (const Query& query : queries_) {
      SegmentSearch options;
      options.target_recall = target;
      TopK best(10);
      ASSERT_OK(segment->Search(query, options, reader_, best, nullptr));
      recall += RecallOf(best.Take(), ExactHits(kShape, query, {}, kRows, reader_, 10));
    }
    EXPECT_GE(recall / queries_.size(), target - 0.02);
  }
  EXPECT_LE(segment->EffortFor(0.5F), segment->EffortFor(0.99F));
  EXPECT_THAT(segment->Calibrate(learning, 0, reader_, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(SealedSegmentContractTest, ABuildCanBeCancelled) {
  const std::atomic<bool> cancelled{true};
  BuildOptions options = Options();
  options.cancelled = &cancelled;
  EXPECT_THAT(Build(nullptr, options), StatusIs(absl::StatusCode::kCancelled));
}

TEST_P(SealedSegmentContractTest, RefusesRowsThatAreNoNumbers) {
  std::string rows = rows_;
  StoreLittle(rows.data() + 700 * kShape.row_bytes(), std::numeric_limits<float>::quiet_NaN());
  const ContiguousReader reader(AsBytes(rows), kShape.row_bytes());
  EXPECT_THAT(BuildSegment(kShape, kRows, reader, nullptr, Options(), kernels_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(SealedSegmentContractTest, RefusesOptionsOutOfRange) {
  BuildOptions options = Options();
  options.calibration_queries = 5000;
  EXPECT_THAT(Build(nullptr, options), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(BuildSegment(kShape, 0, reader_, nullptr, Options(), kernels_),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options = Options();
  options.kind = SegmentKind::kFlat;
  EXPECT_THAT(Build(nullptr, options), StatusIs(absl::StatusCode::kInvalidArgument));
}

// Files of the first release: 300 rows of dimension 8, of which every tenth was
// deleted, as GoldenRows gives them.
std::string GoldenRows(const VectorShape& shape) {
  std::string rows;
  for (uint32_t row = 0; row < 300; ++row) {
    std::vector<float> values(shape.dimension);
    for (uint32_t i = 0; i < shape.dimension; ++i) {
      values[i] = static_cast<float>((row * 37 + i * i * 11 + row * row * i) % 101);
    }
    EXPECT_OK(EncodeRow(shape, values, rows));
  }
  return rows;
}

TEST_P(SealedSegmentContractTest, ReadsTheGoldenFile) {
  const VectorShape shape{8, ElementType::kFloat16, Metric::kL2};
  const std::string name = GetParam() == SegmentKind::kHnsw ? "hnsw" : "ivf";
  const uint64_t digest =
      GetParam() == SegmentKind::kHnsw ? 0x80359948acb4db7fU : 0x6c23fe4d8ee1dc93U;
  const auto files = MakePosixFileSystem();
  const auto bytes = ReadSmallFile(*files, MNEMO_INDEX_DATA "/" + name + "_v1.bin", 1 << 20);
  ASSERT_OK(bytes);
  const auto segment = LoadSegment(AsBytes(*bytes), digest, kernels_);
  ASSERT_OK(segment);
  EXPECT_EQ((*segment)->shape(), shape);
  EXPECT_EQ((*segment)->rows(), 300U);
  EXPECT_EQ((*segment)->held_rows(), 270U);
  const std::string rows = GoldenRows(shape);
  const ContiguousReader reader(AsBytes(rows), shape.row_bytes());
  RowSet kept(300, true);
  for (RowId row = 0; row < 300; row += 10) kept.Remove(row);
  SegmentSearch options;
  options.filter = &kept;
  for (const float at : {0.0F, 30.0F, 77.0F}) {
    const Query query = *Query::Prepare(shape, std::vector<float>(8, at));
    SegmentSearch all;
    all.ef_search = all.nprobe = 1000;
    TopK best(10);
    ASSERT_OK((*segment)->Search(query, all, reader, best, nullptr));
    EXPECT_GE(RecallOf(best.Take(), ExactHits(shape, query, options, 300, reader, 10)), 0.7);
  }
}

std::string KindName(const testing::TestParamInfo<SegmentKind>& info) {
  return info.param == SegmentKind::kHnsw ? "Hnsw" : "Ivf";
}
INSTANTIATE_TEST_SUITE_P(Kinds, SealedSegmentContractTest,
                         testing::Values(SegmentKind::kHnsw, SegmentKind::kIvf), KindName);

}  // namespace
}  // namespace mnemo

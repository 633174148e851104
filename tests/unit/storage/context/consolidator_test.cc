#include "storage/context/consolidator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "storage/context/context_keys.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 4;

class ConsolidatorTest : public ::testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    Reopen();
    ContextSpec spec = TestContext("c", kDimension);
    spec.metric = GetParam();
    ASSERT_OK_AND_ASSIGN(const auto made, node_->contexts().Create(7, spec));
    context_ = made.first;
  }
  void Reopen() {
    node_.reset();
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), *files_, clock_));
    consolidator_ = std::make_unique<Consolidator>(node_->contexts(), clock_);
  }
  void Append(uint64_t first, uint32_t count) {
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, node_->contexts().Claim(context_, 1));
    ASSERT_OK(node_->contexts().Append(
        context_, claim, TestTokens(first, count, kDimension).columns(), Durability::kSync));
  }
  std::vector<ContextSummary> Summaries(uint8_t level, uint64_t first = 0,
                                        uint64_t end = kMaxPosition) {
    std::vector<ContextSummary> all;
    EXPECT_OK(summaries().Scan(context_, level, first, end, [&](ContextSummary& s) {
      all.push_back(s);
      return true;
    }));
    return all;
  }
  const SummaryReader& summaries() { return node_->contexts().reader().summaries(); }
  // The token with the least sum of squared distances to all of its stretch, of
  // directions with kCosine.
  uint64_t Medoid(uint64_t first, uint64_t count) const {
    std::vector<std::vector<double>> rows;
    for (uint64_t position = first; position < first + count; ++position) {
      std::vector<double> row;
      double square = 0;
      for (uint32_t j = 0; j < kDimension; ++j) {
        row.push_back(TestTokens::Value(position, j));
        square += row.back() * row.back();
      }
      if (GetParam() == Metric::kCosine) {
        for (double& value : row) value /= std::sqrt(square);
      }
      rows.push_back(row);
    }
    size_t best = 0;
    double least = 1e300;
    for (size_t i = 0; i < rows.size(); ++i) {
      double sum = 0;
      for (const auto& other : rows) {
        for (uint32_t j = 0; j < kDimension; ++j) sum += std::pow(rows[i][j] - other[j], 2);
      }
      if (sum < least) {
        least = sum;
        best = i;
      }
    }
    return first + best;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
  std::unique_ptr<Consolidator> consolidator_;
  ContextRecord context_;
};

TEST_P(ConsolidatorTest, EveryCompleteStretchHasItsMeanAndItsMedoid) {
  Append(0, 2048 + 700);
  int steps = 0;
  for (bool more = true; more; ++steps) {
    ASSERT_OK_AND_ASSIGN(const Consolidator::Progress progress, consolidator_->Step(context_));
    more = progress.more;
    Reopen();  // what is done lies in the store
  }
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(Summaries(0).size(), 21U);
  EXPECT_EQ(Summaries(1).size(), 5U);
  EXPECT_EQ(Summaries(2).size(), 1U);
  for (uint8_t level = 0; level < kSummaryLevels; ++level) {
    for (const ContextSummary& summary : Summaries(level)) {
      EXPECT_EQ(summary.level, level);
      EXPECT_EQ(summary.medoid_position, Medoid(summary.first_position, summary.count()));
      ASSERT_OK_AND_ASSIGN(const TreeNode node, node_->contexts().reader().Summarize(
                                                    context_, summary.first_position,
                                                    summary.first_position + summary.count()));
      std::vector<float> mean(kDimension);
      DecodeRows(context_.spec.stored, AsBytes(summary.row).data(), 1, kDimension, mean.data());
      for (uint32_t j = 0; j < kDimension; ++j) {
        EXPECT_NEAR(mean[j], node.sum[j] / static_cast<float>(node.count), 1e-3);
      }
    }
  }
}

TEST_P(ConsolidatorTest, GoesOnWhereItWas) {
  Append(0, 200);
  ASSERT_OK_AND_ASSIGN(const Consolidator::Progress first, consolidator_->Step(context_));
  EXPECT_EQ(first.summaries, 1U);
  EXPECT_FALSE(first.more);
  ASSERT_OK_AND_ASSIGN(const Consolidator::Progress nothing, consolidator_->Step(context_));
  EXPECT_EQ(nothing.summaries, 0U);
  Append(200, 400);
  ASSERT_OK_AND_ASSIGN(const Consolidator::Progress second, consolidator_->Step(context_));
  EXPECT_EQ(second.summaries, 3 + 1U);
  EXPECT_EQ(Summaries(1).front().medoid_position, Medoid(0, 512));
  ASSERT_OK_AND_ASSIGN(const uint64_t done, summaries().ConsolidatedTokens(context_));
  EXPECT_EQ(done, 512U);
}

TEST_P(ConsolidatorTest, RangesOfSummariesAreReadAlone) {
  Append(0, 1024);
  ASSERT_OK(consolidator_->Step(context_));
  const auto some = Summaries(0, 130, 385);
  ASSERT_EQ(some.size(), 3U);
  EXPECT_EQ(some.front().first_position, 128U);
  EXPECT_EQ(some.back().first_position, 384U);
}

TEST_P(ConsolidatorTest, OneSummaryIsFoundByWhereItBegins) {
  Append(0, 700);
  ASSERT_OK_AND_ASSIGN(auto none, summaries().At(context_, 1, 0));
  EXPECT_FALSE(none);
  ASSERT_OK(consolidator_->Step(context_));
  ASSERT_OK_AND_ASSIGN(const auto found, summaries().At(context_, 1, 0));
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, Summaries(1).front());
  for (const uint64_t first : {uint64_t{128}, uint64_t{512}}) {
    ASSERT_OK_AND_ASSIGN(none, summaries().At(context_, 1, first));
    EXPECT_FALSE(none) << first;
  }
  ASSERT_OK_AND_ASSIGN(const auto counts, summaries().Counts(context_));
  EXPECT_THAT(counts, testing::ElementsAre(5, 1, 0));
}

TEST_P(ConsolidatorTest, LeavesNothingBehindADeletion) {
  Append(0, 300);
  ASSERT_OK(consolidator_->Step(context_));
  ASSERT_OK(node_->contexts().Delete(context_));
  EXPECT_THAT(consolidator_->Step(context_).status(),
              testing::AnyOf(IsOk(), StatusIs(absl::StatusCode::kNotFound)));
  for (bool more = true; more;) {
    ASSERT_OK_AND_ASSIGN(more, node_->contexts().EraseStep());
  }
  EXPECT_TRUE(Summaries(0).empty());
}

TEST_P(ConsolidatorTest, WhatIsDamagedIsLeftOutWithWhatCoversIt) {
  Append(0, 2 * kRunTokens + 256);
  const StoredKey key = ChunkKey(context_.scope, ChunkPart::kRows, 5, 0);
  StoreBatch batch;
  batch.Put(key, "damaged beyond recognition");
  batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  ASSERT_OK(node_->stores().Of(context_).Apply(batch, false));
  ASSERT_OK_AND_ASSIGN(const auto first, consolidator_->Step(context_));
  EXPECT_EQ(first.damaged_chunks, 1U);
  EXPECT_THAT(first.damage, StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(first.summaries, 15U + 3);
  EXPECT_TRUE(first.more);
  ASSERT_OK_AND_ASSIGN(const auto second, consolidator_->Step(context_));
  EXPECT_EQ(second.damaged_chunks, 0U);
  EXPECT_OK(second.damage);
  EXPECT_EQ(second.summaries, 16U + 4 + 1);
  ASSERT_OK(consolidator_->Step(context_).status());
  ASSERT_OK_AND_ASSIGN(const auto counts, summaries().Counts(context_));
  EXPECT_THAT(counts, testing::ElementsAre(34 - 1, 8 - 1, 2 - 1));
  const auto has = [&](uint8_t level, uint64_t position) {
    const auto summary = summaries().At(context_, level, position);
    EXPECT_OK(summary);
    return summary.ok() && summary->has_value();
  };
  for (uint64_t chunk = 0; chunk < 34; ++chunk) EXPECT_EQ(has(0, 128 * chunk), chunk != 5) << chunk;
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(has(1, 512 * i), i != 1) << i;
  EXPECT_FALSE(has(2, 0));
  EXPECT_TRUE(has(2, 2048));
  // Sound ones are what they would be without the damage.
  for (const ContextSummary& summary : Summaries(1)) {
    EXPECT_EQ(summary.medoid_position, Medoid(summary.first_position, 512));
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, ConsolidatorTest,
                         ::testing::Values(Metric::kCosine, Metric::kL2, Metric::kInnerProduct));

}  // namespace
}  // namespace mnemo

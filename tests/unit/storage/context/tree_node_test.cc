#include "storage/context/tree_node.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "storage/context/append_plan.h"
#include "tests/support/context_fixture.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 5;

TreeNode NodeOf(uint64_t first, uint32_t count, uint32_t dimension = kDimension) {
  const ContextSpec spec = TestContext("c", dimension);
  const TestTokens tokens(first, count, dimension);
  const std::string rows = ToStoredRows(spec, tokens.columns());
  return SummarizeTokens(ToColumns(tokens.columns(), 0), spec.stored, dimension,
                         AsBytes(rows).data());
}

TreeNode Sum(TreeNode node, const TreeNode& more) {
  Combine(node, more);
  return node;
}

void ExpectSame(const TreeNode& a, const TreeNode& b) {
  EXPECT_EQ(a.count, b.count);
  EXPECT_EQ(a.kinds, b.kinds);
  EXPECT_EQ(a.largest_importance, b.largest_importance);
  EXPECT_EQ(a.sum_square_norms, b.sum_square_norms);
  EXPECT_EQ(a.first_time_unix_us, b.first_time_unix_us);
  EXPECT_EQ(a.last_time_unix_us, b.last_time_unix_us);
  EXPECT_EQ(a.sum, b.sum);
  EXPECT_EQ(a.min, b.min);
  EXPECT_EQ(a.max, b.max);
}

TEST(TreeNodeTest, SumsUpItsTokens) {
  const TreeNode node = NodeOf(90, 30);
  EXPECT_EQ(node.count, 30U);
  EXPECT_EQ(node.kinds, 0b11U);  // the kind changes at 100
  EXPECT_FLOAT_EQ(node.largest_importance, 0.99F);
  EXPECT_EQ(node.first_time_unix_us, 1090);
  EXPECT_EQ(node.last_time_unix_us, 1119);
}

TEST(TreeNodeTest, SumsUpEveryDimension) {
  // Dimensions go in blocks of 16 and a rest.
  for (const uint32_t dimension : {1U, 15U, 16U, 37U}) {
    const TreeNode halves = Sum(NodeOf(90, 20, dimension), NodeOf(110, 10, dimension));
    for (const TreeNode& node : {NodeOf(90, 30, dimension), halves}) {
      double square = 0;
      for (uint32_t j = 0; j < dimension; ++j) {
        float sum = 0, min = 100, max = -100;
        for (uint64_t position = 90; position < 120; ++position) {
          const float value = TestTokens::Value(position, j);
          sum += value;
          min = std::min(min, value);
          max = std::max(max, value);
          square += value * value;
        }
        EXPECT_EQ(node.sum[j], sum) << j << " of " << dimension;
        EXPECT_EQ(node.min[j], min) << j << " of " << dimension;
        EXPECT_EQ(node.max[j], max) << j << " of " << dimension;
      }
      EXPECT_EQ(node.sum_square_norms, square);
    }
  }
}

TEST(TreeNodeTest, CombiningIsAssociativeAndHasAnIdentity) {
  const TreeNode a = NodeOf(0, 100), b = NodeOf(100, 7), c = NodeOf(107, 90);
  ExpectSame(Sum(Sum(a, b), c), Sum(a, Sum(b, c)));
  EXPECT_EQ(Sum(TreeNode{}, a), a);
  EXPECT_EQ(Sum(a, TreeNode{}), a);
  ExpectSame(Sum(Sum(a, b), c), NodeOf(0, 128 + 69));
}

TEST(TreeNodeTest, TopIdsStayWithinTheirBound) {
  TreeNode all;
  std::map<uint32_t, uint64_t> exact;
  uint64_t tokens = 0;
  for (uint64_t first = 0; first < 50 * 128; first += 128) {
    // Id 5 is every third token, the rest are many.
    std::vector<uint32_t> ids;
    for (uint64_t position = first; position < first + 128; ++position) {
      ids.push_back(position % 3 == 0 ? 5 : TestTokens::Id(position));
      ++exact[ids.back()];
      ++tokens;
    }
    ChunkColumns columns{.first_position = first, .count = 128, .ids = ids};
    columns.kinds.assign(128, 0);
    columns.times_unix_us.assign(128, 0);
    const std::vector<uint16_t> rows(128, 0);
    Combine(all, SummarizeTokens(columns, ElementType::kFloat16, 1,
                                 reinterpret_cast<const uint8_t*>(rows.data())));
  }
  ASSERT_FALSE(all.top_ids.empty());
  EXPECT_LE(all.top_ids.size(), TreeNode::kCounters);
  EXPECT_EQ(all.top_ids.front().id, 5U);
  for (const TreeNode::IdCount& entry : all.top_ids) {
    EXPECT_LE(entry.count, exact[entry.id]);
    EXPECT_GE(entry.count + tokens / 17, exact[entry.id]);
  }
}

TEST(TreeNodeTest, HasTheBytesOfTheFormat) {
  TreeNode node;
  node.count = 3;
  node.kinds = 2;
  node.payloads = true;
  node.largest_importance = 1;
  node.sum_square_norms = 2;
  node.first_time_unix_us = 4;
  node.last_time_unix_us = 5;
  node.sum = {1};
  node.min = {-1};
  node.max = {2};
  node.top_ids = {{.id = 6, .count = 3}};
  std::string hex;
  for (const char c : EncodeTreeNode(node, 42))
    hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  EXPECT_EQ(hex,
            "01"                          // version
            "01"                          // a payload
            "0100"                        // dimension
            "02000000"                    // kinds
            "0300000000000000"            // count
            "0000000000000040"            // sum of squared norms
            "0400000000000000"            // first time
            "0500000000000000"            // last time
            "0000803f"                    // largest importance
            "01060000000300000000000000"  // ids
            "0000803f000080bf00000040"    // sum, min, max
            "29961c2150f1462d");
  ASSERT_OK_AND_ASSIGN(const TreeNode decoded,
                       DecodeTreeNode(AsBytes(EncodeTreeNode(node, 42)), 42));
  EXPECT_EQ(decoded, node);
}

TEST(TreeNodeTest, WhatIsNotFiniteIsDamage) {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    for (const uint32_t at : {0U, kDimension - 1}) {
      TreeNode node = NodeOf(0, 10);
      node.max[at] = bad;
      EXPECT_THAT(DecodeTreeNode(AsBytes(EncodeTreeNode(node, 42)), 42),
                  StatusIs(absl::StatusCode::kDataLoss));
    }
  }
}

TEST(TreeNodeTest, EveryFlippedBitIsDamage) {
  std::string value = EncodeTreeNode(NodeOf(0, 10), 42);
  for (size_t bit = 0; bit < 8 * value.size(); ++bit) {
    value[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_THAT(DecodeTreeNode(AsBytes(value), 42), StatusIs(absl::StatusCode::kDataLoss));
    value[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
}

}  // namespace
}  // namespace mnemo

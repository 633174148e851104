// A node of the segment tree over a context's chunks: a monoid.
//
// Level l covers 128 x 4^l tokens: 128, 512, 2,048 ... 131,072 at level 5, the
// range; and above it by fours again, so that any range of tokens is the sum
// of O(4 log4 n) nodes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/context/chunk.h"

namespace mnemo {

inline constexpr uint64_t kTreeFanOut = 4;
inline constexpr uint8_t kRangeLevel = 5;
inline constexpr uint8_t kMaxTreeLevel = 20;
// Tokens that a node of `level` covers.
constexpr uint64_t TreeNodeTokens(uint8_t level) { return kChunkTokens << (2 * level); }

// What is known of some tokens together. Combining is associative; but for
// rounding (sums), and for `top_ids`, whose counts are bounds.
struct TreeNode {
  static constexpr size_t kCounters = 16;
  // How often an id occurs, counted as Misra and Gries do with 16 counters: at
  // least `count` times, and at most tokens / 17 more. Merged as in Agarwal et
  // al., "Mergeable summaries", PODS 2012, which keeps the bound.
  struct IdCount {
    uint32_t id = 0;
    uint64_t count = 0;
    friend bool operator==(const IdCount&, const IdCount&) = default;
  };

  uint64_t count = 0;
  uint32_t kinds = 0;     // bit k: there is a token of TokenKind k
  bool payloads = false;  // a payload covers one of the tokens
  float largest_importance = 0;
  double sum_square_norms = 0;
  int64_t first_time_unix_us = std::numeric_limits<int64_t>::max();
  int64_t last_time_unix_us = std::numeric_limits<int64_t>::min();
  std::vector<float> sum, min, max;  // [dimension]; empty while count is 0
  std::vector<IdCount> top_ids;      // at most 16, the most frequent first

  friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

// Of the tokens of `columns`, whose embeddings are the rows [count, dimension]
// of `type`.
TreeNode SummarizeTokens(const ChunkColumns& columns, ElementType type, uint32_t dimension,
                         const uint8_t* rows);
// node = node + more. Both of the same dimension, or empty.
void Combine(TreeNode& node, const TreeNode& more);

// docs/formats/context.md. `seed` as for chunks. Errors: kDataLoss.
std::string EncodeTreeNode(const TreeNode& node, uint64_t seed);
absl::StatusOr<TreeNode> DecodeTreeNode(ByteView value, uint64_t seed);

}  // namespace mnemo

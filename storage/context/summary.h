// What a stretch of a context is about: its mean as a row of its own, which is
// searched as tokens are, and the token that stands for it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/context/context_types.h"
#include "storage/context/tree_node.h"

namespace mnemo {

// Levels of the segment tree that have summaries: 128, 512 and 2,048 tokens.
inline constexpr uint8_t kSummaryLevels = 3;
// The level of summaries of so many tokens; none if there are none such.
constexpr std::optional<uint8_t> SummaryLevel(uint64_t tokens) {
  for (uint8_t level = 0; level < kSummaryLevels; ++level) {
    if (TreeNodeTokens(level) == tokens) return level;
  }
  return std::nullopt;
}

// An additional key beside its tokens, never in their place. Where it comes
// from is exact: these tokens of the same context, all of them.
struct ContextSummary {
  uint8_t level = 0;
  uint64_t first_position = 0;
  uint64_t medoid_position = 0;
  int64_t made_unix_us = 0;
  std::string row;  // the mean, as the context's rows are searched

  uint64_t count() const { return TreeNodeTokens(level); }
  friend bool operator==(const ContextSummary&, const ContextSummary&) = default;
};

// Of TreeNodeTokens(level) tokens, whose embeddings are `values`, [count,
// dimension]. The medoid is the token with the least sum of squared distances
// to all others, which is the one nearest to the mean; with kCosine both are of
// the directions.
ContextSummary SummarizeValues(const ContextSpec& spec, uint8_t level, uint64_t first_position,
                               std::span<const float> values, int64_t now_unix_us);

// docs/formats/context.md. `seed` as for chunks. Errors: kDataLoss;
// kFailedPrecondition (another version).
std::string EncodeSummary(const ContextSpec& spec, const ContextSummary& summary, uint64_t seed);
absl::StatusOr<ContextSummary> DecodeSummary(const ContextSpec& spec, ByteView value,
                                             uint64_t seed);

}  // namespace mnemo

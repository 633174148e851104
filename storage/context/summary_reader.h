// Reads the summaries that a consolidator has written.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/context/context_stores.h"
#include "storage/context/summary.h"

namespace mnemo {

// How far the summaries of a context are made.
struct Consolidation {
  uint64_t tokens = 0;  // from the first; whole chunks
  // Of each level, how many are not there since a chunk of theirs is damaged.
  std::array<uint64_t, kSummaryLevels> left_out{};
};

// Thread-safe. Borrows the stores. Errors of all: kDataLoss, those of Store.
class SummaryReader {
 public:
  explicit SummaryReader(const ContextStores& stores) : stores_(stores) {}

  absl::StatusOr<Consolidation> Progress(const ContextRecord& context) const;
  // Tokens, from the first, that have summaries of 128, but for damaged chunks.
  absl::StatusOr<uint64_t> ConsolidatedTokens(const ContextRecord& context) const;
  // How many summaries there are of each level, without those that were left out.
  absl::StatusOr<std::array<uint64_t, kSummaryLevels>> Counts(const ContextRecord& context) const;
  // The summary of `level` that begins at `first`; none if it is not made yet, or
  // none can begin there.
  absl::StatusOr<std::optional<ContextSummary>> At(const ContextRecord& context, uint8_t level,
                                                   uint64_t first) const;
  // Summaries of `level` that touch [first, end), in order, until `visit`
  // returns false.
  absl::Status Scan(const ContextRecord& context, uint8_t level, uint64_t first, uint64_t end,
                    const std::function<bool(ContextSummary&)>& visit) const;

 private:
  const ContextStores stores_;
};

// As it is stored.
std::string EncodeConsolidation(const Consolidation& progress, uint64_t seed);

}  // namespace mnemo

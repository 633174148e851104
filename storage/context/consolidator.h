// Makes the summaries of contexts, chunk by chunk behind the appends.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/context/context_store.h"
#include "storage/context/summary.h"

namespace mnemo {

// Thread-safe; two steps of one context at once do the same work twice. How far
// it is lies in the store, in the summaries' own batch: killed at any moment, it
// goes on. Borrows all.
class Consolidator {
 public:
  Consolidator(ContextStore& contexts, const Clock& clock) : contexts_(contexts), clock_(clock) {}

  // Summarises at most 16 chunks that are complete and have no summary.
  // `more`: whether others are left. Errors: kNotFound (deleted), kDataLoss, and
  // those of Store.
  struct Progress {
    uint32_t summaries = 0;  // written by this step
    bool more = false;
  };
  absl::StatusOr<Progress> Step(const ContextRecord& context);

  // Tokens, from the first, that have summaries of 128.
  absl::StatusOr<uint64_t> ConsolidatedTokens(const ContextRecord& context) const;
  // Summaries of `level` that touch [first, end), in order, until `visit`
  // returns false.
  absl::Status ScanSummaries(const ContextRecord& context, uint8_t level, uint64_t first,
                             uint64_t end, const std::function<bool(ContextSummary&)>& visit) const;

 private:
  ContextStore& contexts_;
  const Clock& clock_;
};

}  // namespace mnemo

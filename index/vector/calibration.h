// Measuring which effort reaches which recall.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/effort_curve.h"
#include "index/vector/row_map.h"
#include "index/vector/segment.h"

namespace mnemo {

struct CalibrationTask {
  std::span<const Query> queries;
  size_t k = 10;
  // Efforts to try, rising. The rest is skipped once one finds everything.
  std::span<const uint32_t> efforts;
  // The rows that count, and those among them that do not: null, or rows that
  // the segment does not hold yet.
  const RowMap* map = nullptr;
  const RowSet* left_out = nullptr;
  // For each query, a row that is the query itself and does not count. Empty:
  // none is.
  std::span<const RowId> self;
  const std::atomic<bool>* cancelled = nullptr;
};

// Offers what a search of `effort` finds.
using EffortSearch = std::function<absl::Status(const Query&, uint32_t effort, TopK&)>;

// Exact search on the stored vectors, in one pass over them, beside `search` for
// each effort.
// Errors: kInvalidArgument (a query of another shape; k); kCancelled; the
// reader's; the search's.
absl::StatusOr<EffortCurve> MeasureEfforts(const VectorShape& shape, const Kernels& kernels,
                                           const CalibrationTask& task, const VectorReader& reader,
                                           const EffortSearch& search);

}  // namespace mnemo

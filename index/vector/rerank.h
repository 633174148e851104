// Exact scores of rows that codes found.
#pragma once

#include <span>

#include "index/vector/segment.h"

namespace mnemo {

// Scores `rows` on their stored vectors and offers them to `best`. Reads in
// batches, in the given order. `rows` may be any number.
// Errors: the reader's.
absl::Status Rerank(const VectorShape& shape, const Kernels& kernels, const Query& query,
                    std::span<const RowId> rows, uint64_t first_id, const VectorReader& reader,
                    ReadScratch& scratch, TopK& best, SearchCounters* counters);

// Scores every row below `rows` that `options.filter` lets through on its
// stored vector: exact, without any index, so for few rows or as the truth.
// Errors: kInvalidArgument as Segment::Search; kCancelled; the reader's.
absl::Status ScanRows(const VectorShape& shape, const Kernels& kernels, const Query& query,
                      const SegmentSearch& options, uint32_t rows, const VectorReader& reader,
                      TopK& best, SearchCounters* counters);

}  // namespace mnemo

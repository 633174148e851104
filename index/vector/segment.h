// A searchable run of rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "index/vector/query.h"
#include "index/vector/top_k.h"
#include "index/vector/vector_types.h"

namespace mnemo {

enum class SegmentKind : uint8_t { kFlat = 0, kHnsw = 1, kIvf = 2 };

class Candidates;

struct SegmentSearch {
  // Added to a row to make a Hit's id: the position of row 0, for example.
  uint64_t first_id = 0;
  // Only these rows are found. Null: all. Rows from its size() on are not.
  const RowSet* filter = nullptr;
  // How much work: nodes that HNSW keeps in sight, lists that IVF looks into; a
  // flat segment heeds neither. 0: what the segment's calibration says reaches
  // `target_recall`. More work, more recall.
  uint32_t ef_search = 0;
  uint32_t nprobe = 0;
  // In (0, 1]. Of the true k nearest, the share that is found on average.
  float target_recall = 0.95F;
  // When it becomes true the search ends early with kCancelled. May be null.
  const std::atomic<bool>* cancelled = nullptr;
  // Where a segment may leave what it would have to read many vectors for, to be
  // confirmed with that of others. Null: it reads them itself.
  Candidates* candidates = nullptr;
};

// What a search did; added up over segments.
struct SearchCounters {
  uint64_t distances = 0;  // estimated or exact, of rows
  uint64_t reranked = 0;   // rows read through the VectorReader
};

// Thread-safe: any number of searches at once.
class Segment {
 public:
  virtual ~Segment() = default;

  virtual SegmentKind kind() const = 0;
  virtual const VectorShape& shape() const = 0;
  // Rows that a search may find, deleted ones included.
  virtual uint32_t rows() const = 0;
  // RAM, stored vectors of the caller's not counted.
  virtual size_t memory_bytes() const = 0;

  // Offers what is near the query to `best`, or leaves it in options.candidates.
  // Scores in `best` are exact with respect to the stored vectors. `reader` gives rows 0 to rows()
  // - 1; a growing segment does not use it. Hits at or above best.bound() may be missed, as
  // target_recall says, hits below it are not looked for. On an error what is
  // in `best` is unspecified. `counters` may be null.
  // Errors: kInvalidArgument (the query's dimension or metric, target_recall);
  // kCancelled; the reader's.
  virtual absl::Status Search(const Query& query, const SegmentSearch& options,
                              const VectorReader& reader, TopK& best,
                              SearchCounters* counters) const = 0;
};

// Checks what does not depend on a segment's kind.
absl::Status CheckSearch(const VectorShape& shape, const Query& query,
                         const SegmentSearch& options);

}  // namespace mnemo

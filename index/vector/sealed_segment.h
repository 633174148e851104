// Segments that are built once and then only searched.
//
// A sealed segment keeps codes and structure; the vectors themselves stay with
// the caller and are read for exact re-ranking.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "index/vector/segment.h"

namespace mnemo {

struct HnswOptions {
  static constexpr uint32_t kMinLinks = 4;
  static constexpr uint32_t kMaxLinks = 64;
  uint32_t links = 16;             // M: 2 M on the ground level; 4 to 64
  uint32_t ef_construction = 100;  // 8 to 1,024
};

struct IvfOptions {
  static constexpr uint32_t kMaxLists = 65536;
  uint32_t lists = 0;       // 0: about sqrt(rows) / 1.4; at most kMaxLists
  uint32_t iterations = 8;  // of k-means, 1 to 100
};

struct BuildOptions {
  SegmentKind kind = SegmentKind::kHnsw;  // not kFlat
  HnswOptions hnsw;
  IvfOptions ivf;
  // Rows that calibration uses as queries, 0 to 4,096. 0: no calibration, and
  // searches by target_recall use a cautious default.
  uint32_t calibration_queries = 128;
  uint64_t seed = 1;
  // Looked at often; when it becomes true the build ends with kCancelled. May
  // be null.
  const std::atomic<bool>* cancelled = nullptr;

  absl::Status Validate() const;
};

class SealedSegment : public Segment {
 public:
  // The bytes of docs/formats/vector-segment.md. They hold their own checksums;
  // `digest` is what Load wants to see again.
  struct Serialized {
    std::string bytes;
    uint64_t digest = 0;
  };
  virtual Serialized Serialize() const = 0;

  // Rows that it holds: rows() less those that were deleted when it was built.
  virtual uint32_t held_rows() const = 0;

  // Learns from queries how much effort reaches which recall: exact search on
  // the stored vectors beside a ladder of efforts. Replaces what was learnt
  // before. Takes queries x rows x RowBytes of reading. Thread-safe; searches
  // go on. `k` 1 to 1,024.
  // Errors: kInvalidArgument; kCancelled; the reader's.
  virtual absl::Status Calibrate(std::span<const Query> queries, size_t k,
                                 const VectorReader& reader,
                                 const std::atomic<bool>* cancelled) = 0;

  // The effort that calibration found to reach `target_recall`.
  virtual uint32_t EffortFor(float target_recall) const = 0;
};

// Builds over rows 0 to `rows` - 1 of `reader`. Rows in `deleted` (may be
// null) are left out; the others keep their ids, so what was built is found by
// the same ids. A merge of segments is a build over all of their rows.
// Thread-safe; may take minutes.
// Errors: kInvalidArgument (options, rows of 0 or over kMaxSegmentRows, a value
// that is not finite); kCancelled; kInternal (FAISS failed); the reader's.
absl::StatusOr<std::unique_ptr<SealedSegment>> BuildSegment(const VectorShape& shape, uint32_t rows,
                                                            const VectorReader& reader,
                                                            const RowSet* deleted,
                                                            const BuildOptions& options,
                                                            const Kernels& kernels);

// Reads what Serialize gave. Every byte is checked before it is believed.
// Errors: kDataLoss (another digest, a checksum, a value out of range);
// kFailedPrecondition (a format version that this build does not read).
absl::StatusOr<std::unique_ptr<SealedSegment>> LoadSegment(ByteView bytes, uint64_t digest,
                                                           const Kernels& kernels);

}  // namespace mnemo

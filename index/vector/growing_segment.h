// Rows as they arrive: scanned exactly, found at once.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "index/vector/segment.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Holds its own copy of the rows: RowBytes each, in blocks of 1,024 rows that
// are made as needed and never move. Appending and searching may go on at once
// from any threads: a search sees a prefix of the appends, and at least those
// that had returned when it began. Searches take no lock.
class GrowingSegment final : public Segment {
 public:
  static constexpr uint32_t kBlockRows = 1024;

  // Room for `capacity` rows, 1 to kMaxSegmentRows.
  // Errors: kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<GrowingSegment>> Create(const VectorShape& shape,
                                                                uint32_t capacity,
                                                                const Kernels& kernels);
  ~GrowingSegment() override;

  // `rows` are whole stored rows, one behind the other; all become visible at
  // once, or none. Values are not judged: EncodeRow or the caller did.
  // Errors: kInvalidArgument (not a multiple of row_bytes());
  // kResourceExhausted (over capacity).
  absl::Status Append(ByteView rows);

  // The stored bytes of row `row`, which is below rows(); never moves.
  const uint8_t* Row(RowId row) const {
    return blocks_[row / kBlockRows].load(std::memory_order_relaxed) +
           static_cast<size_t>(row % kBlockRows) * row_bytes_;
  }
  uint32_t capacity() const { return capacity_; }

  SegmentKind kind() const override { return SegmentKind::kFlat; }
  const VectorShape& shape() const override { return shape_; }
  uint32_t rows() const override { return rows_.load(std::memory_order_acquire); }
  size_t memory_bytes() const override;
  absl::Status Search(const Query& query, const SegmentSearch& options, const VectorReader& reader,
                      TopK& best, SearchCounters* counters) const override;

 private:
  GrowingSegment(const VectorShape& shape, uint32_t capacity, const Kernels& kernels);

  const VectorShape shape_;
  const size_t row_bytes_;
  const uint32_t capacity_;
  const ScoreRowsFn score_;
  Mutex append_;  // guards the order of appends, and the making of blocks
  // Published before the rows in them are.
  std::vector<std::atomic<uint8_t*>> blocks_;
  std::atomic<uint32_t> rows_{0};
};

// Reads a growing segment's own rows, for building from it.
class GrowingReader final : public VectorReader {
 public:
  explicit GrowingReader(const GrowingSegment& segment) : segment_(segment) {}
  // Errors: kOutOfRange.
  absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                    std::span<const uint8_t*> out) const override;

 private:
  const GrowingSegment& segment_;
};

}  // namespace mnemo

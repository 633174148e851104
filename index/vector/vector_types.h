// The words that the vector index and its callers share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/kernels/element_type.h"
#include "index/kernels/kernels.h"
#include "storage/base/bytes.h"

namespace mnemo {

// A row of a segment, from 0. The caller knows which position of which context
// the first row is.
using RowId = uint32_t;

inline constexpr uint32_t kMaxVectorDimension = 4096;
// Rows of one segment. A range of a context has 131,072.
inline constexpr uint32_t kMaxSegmentRows = uint32_t{1} << 24;

// What all vectors of a segment, and the queries to it, have in common.
struct VectorShape {
  uint32_t dimension = 0;
  ElementType type = ElementType::kFloat16;  // as stored; queries are fp32
  Metric metric = Metric::kCosine;

  size_t row_bytes() const { return RowBytes(type, dimension); }
  // kInvalidArgument, naming the field and its range.
  absl::Status Validate() const;
  friend bool operator==(const VectorShape&, const VectorShape&) = default;
};

// A set of rows: a filter, or what was deleted. Not thread-safe.
class RowSet {
 public:
  RowSet() = default;
  // Rows 0 to size - 1, all in the set or none.
  explicit RowSet(uint32_t size, bool all = false);

  uint32_t size() const { return size_; }
  // False beyond size().
  bool Contains(RowId row) const {
    return row < size_ && ((words_[row >> 6] >> (row & 63)) & 1) != 0;
  }
  // `row` is below size().
  void Add(RowId row) { words_[row >> 6] |= uint64_t{1} << (row & 63); }
  void Remove(RowId row) { words_[row >> 6] &= ~(uint64_t{1} << (row & 63)); }
  // Rows first to last - 1, as far as there are any. O(size / 64).
  void AddRange(RowId first, RowId last);

  // Adds row 64 x word + i for each bit i of `bits`, all below size().
  void AddWord(size_t word, uint64_t bits) { words_[word] |= bits; }

  // Takes out what is in `other`. O(size / 64).
  void Subtract(const RowSet& other);
  // The set of rows r of [0, count) for which this has first + r. O(count / 64).
  RowSet Slice(RowId first, uint32_t count) const;

  // How many are in the set. O(size / 64).
  uint32_t Count() const;
  // Bit row % 64 of word row / 64; bits from size() on are 0.
  std::span<const uint64_t> words() const { return words_; }

 private:
  uint32_t size_ = 0;
  std::vector<uint64_t> words_;
};

// Memory for rows that a reader has to copy or decode, and what it must hold
// on to while they are looked at. One a search; not thread-safe.
class ReadScratch {
 public:
  // At least `bytes` bytes, good until Release.
  uint8_t* Allocate(size_t bytes);
  // Keeps `pin` until Release.
  void Hold(std::shared_ptr<const void> pin) { pins_.push_back(std::move(pin)); }
  void Release();

 private:
  struct Block {
    std::unique_ptr<uint8_t[]> bytes;
    size_t size = 0;
  };
  std::vector<Block> blocks_;
  size_t used_blocks_ = 0;
  size_t used_bytes_ = 0;  // of the last used block
  std::vector<std::shared_ptr<const void>> pins_;
};

// Where the stored vectors are that a segment is about: the caller's chunks.
// Implementations are thread-safe and outlive the call that they are handed to.
class VectorReader {
 public:
  virtual ~VectorReader() = default;

  // Points out[i] at the stored vector of rows[i], VectorShape::row_bytes()
  // long, good until scratch.Release() or the end of the segment's call.
  // Called with at most 4,096 rows, in the order in which they are wanted.
  // Errors pass through to the segment's caller.
  virtual absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                            std::span<const uint8_t*> out) const = 0;
};

// Rows one behind the other in memory. `bytes` outlives it.
class ContiguousReader final : public VectorReader {
 public:
  ContiguousReader(ByteView bytes, size_t row_bytes) : bytes_(bytes), row_bytes_(row_bytes) {}
  // Errors: kOutOfRange.
  absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                    std::span<const uint8_t*> out) const override;

 private:
  ByteView bytes_;
  size_t row_bytes_;
};

// Checks that `values` are `shape.dimension` finite numbers, of fp16 range if
// stored as such, and encodes them as a stored row, appended to `out`.
// Errors: kInvalidArgument, naming what is wrong.
absl::Status EncodeRow(const VectorShape& shape, std::span<const float> values, std::string& out);

}  // namespace mnemo

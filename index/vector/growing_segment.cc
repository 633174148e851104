#include "index/vector/growing_segment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Rows that are scored before the best are looked at.
constexpr size_t kBatch = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<GrowingSegment>> GrowingSegment::Create(const VectorShape& shape,
                                                                       uint32_t capacity,
                                                                       const Kernels& kernels) {
  MNEMO_RETURN_IF_ERROR(shape.Validate());
  if (capacity < 1 || capacity > kMaxSegmentRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("capacity is ", capacity, ", expected 1 to ", kMaxSegmentRows));
  }
  return std::unique_ptr<GrowingSegment>(new GrowingSegment(shape, capacity, kernels));
}

GrowingSegment::GrowingSegment(const VectorShape& shape, uint32_t capacity, const Kernels& kernels)
    : shape_(shape),
      row_bytes_(shape.row_bytes()),
      capacity_(capacity),
      score_(kernels.ScoreRows(shape.metric, shape.type)),
      blocks_((size_t{capacity} + kBlockRows - 1) / kBlockRows) {}

GrowingSegment::~GrowingSegment() {
  for (std::atomic<uint8_t*>& block : blocks_) delete[] block.load(std::memory_order_relaxed);
}

absl::Status GrowingSegment::Append(ByteView rows) {
  if (rows.size() % row_bytes_ != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.size(), " bytes are not whole rows of ", row_bytes_));
  }
  const size_t count = rows.size() / row_bytes_;
  const MutexLock lock(append_);
  uint32_t at = rows_.load(std::memory_order_relaxed);
  if (count > capacity_ - at) {
    return absl::ResourceExhaustedError(
        absl::StrCat(count, " rows do not fit: ", at, " of ", capacity_, " are used"));
  }
  const uint8_t* source = rows.data();
  for (size_t left = count; left > 0;) {
    const uint32_t offset = at % kBlockRows;
    std::atomic<uint8_t*>& block = blocks_[at / kBlockRows];
    if (offset == 0) block.store(new uint8_t[kBlockRows * row_bytes_], std::memory_order_relaxed);
    const size_t part = std::min<size_t>(left, kBlockRows - offset);
    std::memcpy(block.load(std::memory_order_relaxed) + offset * row_bytes_, source,
                part * row_bytes_);
    source += part * row_bytes_;
    at += static_cast<uint32_t>(part);
    left -= part;
  }
  rows_.store(at, std::memory_order_release);
  return absl::OkStatus();
}

size_t GrowingSegment::memory_bytes() const {
  const size_t made = (size_t{rows()} + kBlockRows - 1) / kBlockRows;
  return sizeof(*this) + blocks_.size() * sizeof(blocks_[0]) + made * kBlockRows * row_bytes_;
}

absl::Status GrowingSegment::Search(const Query& query, const SegmentSearch& options,
                                    const VectorReader& reader, TopK& best,
                                    SearchCounters* counters) const {
  MNEMO_RETURN_IF_ERROR(CheckSearch(shape_, query, options));
  std::array<const uint8_t*, kBatch> pointers;
  std::array<RowId, kBatch> ids;
  std::array<float, kBatch> scores;
  const uint32_t count = rows();
  const uint32_t end = options.filter != nullptr ? std::min(count, options.filter->size()) : count;
  uint64_t scored = 0;
  for (uint32_t begin = 0; begin < end; begin += kBatch) {
    if (options.cancelled != nullptr && options.cancelled->load(std::memory_order_relaxed)) {
      return absl::CancelledError("search cancelled");
    }
    const uint32_t batch_end = std::min<uint32_t>(begin + kBatch, end);
    // A batch is one word of the filter.
    uint64_t wanted = ~uint64_t{0} >> (kBatch - (batch_end - begin));
    if (options.filter != nullptr) wanted &= options.filter->words()[begin / kBatch];
    size_t n = 0;
    for (; wanted != 0; wanted &= wanted - 1) {
      ids[n] = begin + static_cast<RowId>(std::countr_zero(wanted));
      pointers[n] = Row(ids[n]);
      ++n;
    }
    score_(query.values(), pointers.data(), n, shape_.dimension, scores.data());
    for (size_t i = 0; i < n; ++i) {
      if (scores[i] >= best.bound()) best.Push(options.first_id + ids[i], scores[i]);
    }
    scored += n;
  }
  if (counters != nullptr) counters->distances += scored;
  return absl::OkStatus();
}

absl::Status GrowingReader::Read(std::span<const RowId> rows, ReadScratch& scratch,
                                 std::span<const uint8_t*> out) const {
  const uint32_t count = segment_.rows();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] >= count) {
      return absl::OutOfRangeError(absl::StrCat("row ", rows[i], " of ", count));
    }
    out[i] = segment_.Row(rows[i]);
  }
  return absl::OkStatus();
}

}  // namespace mnemo

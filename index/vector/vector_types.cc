#include "index/vector/vector_types.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "index/kernels/half.h"

namespace mnemo {
namespace {

constexpr size_t kScratchBlock = 256 << 10;
constexpr float kHalfMax = 65504.0F;

}  // namespace

absl::Status VectorShape::Validate() const {
  if (dimension < 1 || dimension > kMaxVectorDimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("dimension is ", dimension, ", expected 1 to ", kMaxVectorDimension));
  }
  if (static_cast<size_t>(type) >= kScoredTypes) {
    return absl::InvalidArgumentError(
        absl::StrCat("element type ", static_cast<int>(type), " is not one to search"));
  }
  if (static_cast<size_t>(metric) >= kMetrics) {
    return absl::InvalidArgumentError(
        absl::StrCat("metric ", static_cast<int>(metric), " is unknown"));
  }
  return absl::OkStatus();
}

RowSet::RowSet(uint32_t size, bool all) : size_(size), words_((size_t{size} + 63) / 64) {
  if (all) AddRange(0, size);
}

void RowSet::AddRange(RowId first, RowId last) {
  last = std::min(last, size_);
  if (first >= last) return;
  const size_t first_word = first >> 6;
  const size_t last_word = (last - 1) >> 6;
  const uint64_t head = ~uint64_t{0} << (first & 63);
  const uint64_t tail = ~uint64_t{0} >> (63 - ((last - 1) & 63));
  if (first_word == last_word) {
    words_[first_word] |= head & tail;
    return;
  }
  words_[first_word] |= head;
  std::fill(words_.begin() + first_word + 1, words_.begin() + last_word, ~uint64_t{0});
  words_[last_word] |= tail;
}

void RowSet::Subtract(const RowSet& other) {
  const size_t common = std::min(words_.size(), other.words_.size());
  for (size_t word = 0; word < common; ++word) words_[word] &= ~other.words_[word];
}

RowSet RowSet::Slice(RowId first, uint32_t count) const {
  RowSet slice(count);
  const auto word_at = [&](size_t index) { return index < words_.size() ? words_[index] : 0; };
  const uint32_t shift = first & 63;
  for (size_t word = 0; word < slice.words_.size(); ++word) {
    const size_t from = (first >> 6) + word;
    uint64_t bits = word_at(from) >> shift;
    if (shift != 0) bits |= word_at(from + 1) << (64 - shift);
    slice.words_[word] = bits;
  }
  if (count % 64 != 0) slice.words_.back() &= ~uint64_t{0} >> (64 - count % 64);
  return slice;
}

uint32_t RowSet::Count() const {
  uint32_t count = 0;
  for (const uint64_t word : words_) count += static_cast<uint32_t>(std::popcount(word));
  return count;
}

uint8_t* ReadScratch::Allocate(size_t bytes) {
  bytes = (bytes + 63) & ~size_t{63};
  while (used_blocks_ == 0 || used_bytes_ + bytes > blocks_[used_blocks_ - 1].size) {
    if (used_blocks_ == blocks_.size()) {
      const size_t size = std::max(bytes, kScratchBlock);
      blocks_.push_back({std::make_unique<uint8_t[]>(size), size});
    }
    ++used_blocks_;
    used_bytes_ = 0;
  }
  uint8_t* const allocated = blocks_[used_blocks_ - 1].bytes.get() + used_bytes_;
  used_bytes_ += bytes;
  return allocated;
}

void ReadScratch::Release() {
  used_blocks_ = 0;
  used_bytes_ = 0;
  pins_.clear();
}

absl::Status ContiguousReader::Read(std::span<const RowId> rows, ReadScratch& scratch,
                                    std::span<const uint8_t*> out) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t begin = size_t{rows[i]} * row_bytes_;
    if (begin + row_bytes_ > bytes_.size()) {
      return absl::OutOfRangeError(
          absl::StrCat("row ", rows[i], " of ", bytes_.size() / row_bytes_));
    }
    out[i] = bytes_.data() + begin;
  }
  return absl::OkStatus();
}

absl::Status EncodeRow(const VectorShape& shape, std::span<const float> values, std::string& out) {
  if (values.size() != shape.dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("vector of ", values.size(), " values, expected ", shape.dimension));
  }
  float largest = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return absl::InvalidArgumentError(absl::StrCat("value ", i, " is not a finite number"));
    }
    largest = std::max(largest, std::abs(values[i]));
  }
  switch (shape.type) {
    case ElementType::kFloat32:
      for (const float value : values) AppendLittle(out, value);
      break;
    case ElementType::kFloat16:
      if (largest > kHalfMax) {
        return absl::InvalidArgumentError(
            absl::StrCat("value of ", largest, " does not fit fp16, whose largest is ", kHalfMax));
      }
      for (const float value : values) AppendLittle(out, FloatToHalf(value));
      break;
    case ElementType::kBfloat16:
      for (const float value : values) AppendLittle(out, FloatToBfloat(value));
      break;
    case ElementType::kInt8: {
      // Not 1 / scale, which overflows for the smallest numbers.
      const float scale = largest / 127;
      for (const float value : values) {
        const float step = scale > 0 ? std::round(value / scale) : 0;
        out.push_back(static_cast<char>(static_cast<int8_t>(std::clamp(step, -127.0F, 127.0F))));
      }
      AppendLittle(out, scale);
      break;
    }
    case ElementType::kRotated4:
      return absl::InvalidArgumentError("rotated codes are not searched");
  }
  return absl::OkStatus();
}

}  // namespace mnemo

// Embeddings in fewer bytes: rows of fp32 of one width, for search and for reading back.
//
// A section describes itself: form, width, rows, and the basis that it leans on. Rows
// decode alone. Bytes: docs/formats/embedding-section.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/codec/rotated_rows.h"
#include "storage/codec/tensor_codec.h"

namespace mnemo {

// On disk: never renumber.
enum class EmbeddingForm : uint8_t {
  kInt8 = 1,        // a scale for each row
  kFp8 = 2,         // e4m3, one scale for all
  kReducedFp8 = 3,  // the first coordinates along principal axes, in e4m3
  kRotated4 = 4,    // rotated, Lloyd-Max levels of 4 bits, a gain in fp16 for each row
};

inline constexpr uint32_t kMaxEmbeddingDimension = 16384;

// What embeddings of one kind have in common: their mean, and the directions in which
// they differ most. Immutable, thread-safe. Memory: 4 bytes x dimension x (kept + 1).
class EmbeddingBasis {
 public:
  static constexpr uint32_t kMaxDimension = 1024;

  // From `rows` [n, dimension]. Time: O(n dimension^2 + dimension^3). Errors:
  // kInvalidArgument (dimension 2 to kMaxDimension; kept 1 to dimension - 1; rows that
  // are not whole, or fewer than kept); kOutOfRange (a value that is not finite, or
  // beyond 1e15).
  static absl::StatusOr<std::shared_ptr<const EmbeddingBasis>> Fit(std::span<const float> rows,
                                                                   uint32_t dimension,
                                                                   uint32_t kept);
  // Errors: kDataLoss (damaged, another version, numbers that make no sense).
  static absl::StatusOr<std::shared_ptr<const EmbeddingBasis>> Parse(ByteView bytes);
  std::string Serialize() const;

  // Names it in sections: from its checksum, never 0.
  uint32_t id() const { return id_; }
  uint32_t dimension() const { return dimension_; }
  uint32_t kept() const { return kept_; }
  // `row` [dimension] to `coordinates` [kept], and back.
  void Project(std::span<const float> row, std::span<float> coordinates) const;
  void Restore(std::span<const float> coordinates, std::span<float> row) const;

 private:
  EmbeddingBasis() = default;

  uint32_t dimension_ = 0;
  uint32_t kept_ = 0;
  uint32_t id_ = 0;
  std::vector<float> mean_;  // [dimension]
  std::vector<float> axes_;  // [kept, dimension]
};

struct EncodedEmbeddings {
  uint64_t bytes = 0;
  EncodingError error;
};

// One form. Immutable, thread-safe.
class EmbeddingCodec {
 public:
  // `basis` is that of kReducedFp8, and null of others. Errors: kInvalidArgument
  // (dimension 1 to kMaxEmbeddingDimension, and that of the basis).
  static absl::StatusOr<EmbeddingCodec> Create(EmbeddingForm form, uint32_t dimension,
                                               std::shared_ptr<const EmbeddingBasis> basis);

  // Of a section of `rows`.
  uint64_t EncodedSize(uint32_t rows) const;
  // Encodes `embeddings` [rows, dimension] into the front of `into`, which has
  // EncodedSize(rows) bytes or more. Temporary memory: two rows. Errors: kInvalidArgument
  // (no rows, or not whole ones; too little room); kOutOfRange (a value that is not
  // finite, or beyond 1e15).
  absl::StatusOr<EncodedEmbeddings> Encode(std::span<const float> embeddings,
                                           MutableByteView into) const;
  // Decodes rows [first, first + count) of a section of this form, dimension and basis into
  // `into` [count, dimension]. `section` may be damaged: nothing outside it and `into` is
  // touched, and values are finite. Errors: kInvalidArgument (no such rows, another size of
  // `into`); kDataLoss; kFailedPrecondition (another form, dimension or basis).
  absl::Status Decode(ByteView section, uint32_t first, uint32_t count,
                      std::span<float> into) const;

 private:
  EmbeddingCodec(EmbeddingForm form, uint32_t dimension,
                 std::shared_ptr<const EmbeddingBasis> basis);
  // Numbers that are stored of a row, and the bytes that they take.
  uint32_t Numbers() const { return basis_ ? basis_->kept() : dimension_; }
  uint64_t RowBytes() const;
  // What the largest value of a section is stored as.
  float Most() const;
  // One row there and back; `row` may be changed. `scale` is the section's.
  void EncodeRow(std::span<const float> row, float scale, std::span<float> work,
                 uint8_t* out) const;
  absl::Status DecodeRow(const uint8_t* in, float scale, std::span<float> work,
                         std::span<float> row) const;
  EmbeddingForm form_;
  uint32_t dimension_;
  std::shared_ptr<const EmbeddingBasis> basis_;
  std::shared_ptr<const RotatedRows> rotated_;  // of kRotated4; shared by copies
};

}  // namespace mnemo

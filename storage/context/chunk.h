// A chunk of a context as it is stored: 128 consecutive tokens, or fewer while
// it is unfinished, column by column: one value has the small columns, others
// the embeddings with a fixed stride. docs/formats/context.md has the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/context/context_types.h"

namespace mnemo {

// In a stored kind: a payload covers the token.
inline constexpr uint8_t kPayloadBit = 0x80;

// Everything but the embeddings of consecutive tokens of one chunk.
struct ChunkColumns {
  uint64_t first_position = 0;
  uint32_t count = 0;
  std::vector<uint32_t> ids;           // [count]; empty: all 0
  std::vector<uint8_t> kinds;          // [count]: TokenKind, and kPayloadBit
  std::vector<float> importances;      // [count]; empty: not known
  std::vector<int64_t> times_unix_us;  // [count]

  uint64_t end_position() const { return first_position + count; }
  uint32_t id(size_t i) const { return ids.empty() ? 0 : ids[i]; }
  float importance(size_t i) const { return importances.empty() ? 0 : importances[i]; }
  TokenKind kind(size_t i) const { return static_cast<TokenKind>(kinds[i] & ~kPayloadBit); }
  bool has_payload(size_t i) const { return (kinds[i] & kPayloadBit) != 0; }
  friend bool operator==(const ChunkColumns&, const ChunkColumns&) = default;
};

// `seed` is a checksum of the key that the value lies under, so that a value
// under another key is damage. Errors of decoding: kDataLoss.
std::string EncodeColumns(const ChunkColumns& columns, uint64_t seed);
absl::StatusOr<ChunkColumns> DecodeColumns(ByteView value, uint64_t seed);

// Adds what follows directly in the same chunk.
void Extend(ChunkColumns& columns, const ChunkColumns& more);
// Tokens [first, first + count) of `columns`.
ChunkColumns Slice(const ChunkColumns& columns, uint32_t first, uint32_t count);

// How much later than the earliest of `times`, of which there is one, each is; none if one is
// more than 2^32 - 1 us later.
std::optional<std::vector<uint32_t>> LaterThanEarliest(const std::vector<int64_t>& times,
                                                       int64_t& earliest);

// Embeddings of consecutive tokens of one chunk. Immutable; owns its bytes.
class ChunkRows {
 public:
  // Takes a stored value. Errors: kDataLoss.
  static absl::StatusOr<ChunkRows> Decode(std::string value, uint64_t seed);

  uint64_t first_position() const { return first_position_; }
  uint64_t end_position() const { return first_position_ + count_; }
  uint32_t count() const { return count_; }
  ElementType type() const { return type_; }
  uint32_t dimension() const { return dimension_; }
  size_t row_bytes() const { return RowBytes(type_, dimension_); }
  // Row `i` of count().
  const uint8_t* row(size_t i) const { return rows().data() + i * row_bytes(); }
  // All, one behind the other.
  ByteView rows() const { return AsBytes(value_).subspan(begin_, count_ * row_bytes()); }
  size_t memory_bytes() const { return rows().size(); }

  using Ptr = std::shared_ptr<const ChunkRows>;
  // Tokens [first, first + count), of `parts`, which are in order; copied unless
  // one part is just that. Null if they have not all of them.
  static Ptr Join(std::span<const Ptr> parts, uint64_t first, uint32_t count);

 private:
  ChunkRows() = default;
  std::string value_;  // rows, and what is stored with them
  size_t begin_ = 0;   // of the rows
  uint64_t first_position_ = 0;
  uint32_t count_ = 0;
  ElementType type_ = ElementType::kFloat16;
  uint32_t dimension_ = 0;
};

// `rows` are count x RowBytes(type, dimension).
std::string EncodeChunkRows(uint64_t first_position, uint32_t count, ElementType type,
                            uint32_t dimension, ByteView rows, uint64_t seed);

}  // namespace mnemo

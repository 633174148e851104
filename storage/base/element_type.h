// How a stored vector's elements lie in bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mnemo {

// Little-endian, no padding. kInt8 is signed bytes under one scale a row: an
// element is scale * byte, and the fp32 scale lies behind the last byte. kRotated4 is
// only stored: an fp16 gain and 4 bits a value of the rotated row
// (storage/codec/rotated_rows.h).
enum class ElementType : uint8_t {
  kFloat32 = 0,
  kFloat16 = 1,
  kBfloat16 = 2,
  kInt8 = 3,
  kRotated4 = 4,
};
inline constexpr size_t kElementTypes = 5;
// Those that distances are computed of; the first ones.
inline constexpr size_t kScoredTypes = 4;

// Bytes of a row of `dimension` elements.
constexpr size_t RowBytes(ElementType type, size_t dimension) {
  switch (type) {
    case ElementType::kFloat32:
      return dimension * 4;
    case ElementType::kFloat16:
    case ElementType::kBfloat16:
      return dimension * 2;
    case ElementType::kInt8:
      return dimension + sizeof(float);
    case ElementType::kRotated4:
      return sizeof(uint16_t) + (dimension + 7) / 8 * 4;
  }
  return 0;
}

// How near two vectors are. Scores are the larger, the nearer.
//   kInnerProduct  q . x
//   kCosine        q . x / (|q| |x|); 0 for a row of zeros
//   kL2            -|q - x|^2
enum class Metric : uint8_t { kInnerProduct = 0, kCosine = 1, kL2 = 2 };
inline constexpr size_t kMetrics = 3;

}  // namespace mnemo

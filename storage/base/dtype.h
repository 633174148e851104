// How the numbers of a tensor are stored, as a space declares it.
#pragma once

#include <cstdint>

namespace mnemo {

// On disk and on the wire (mnemo.v1.DType) with the same numbers.
enum class DType : uint8_t {
  kBytes = 0,
  kF32 = 1,
  kF16 = 2,
  kBF16 = 3,
  kFp8E4M3 = 4,
  kFp8E5M2 = 5,
  kInt8 = 6,
  kInt4 = 7
};

// Bits of one value.
constexpr uint32_t BitsOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 32;
    case DType::kF16:
    case DType::kBF16:
      return 16;
    case DType::kInt4:
      return 4;
    case DType::kBytes:
    case DType::kFp8E4M3:
    case DType::kFp8E5M2:
    case DType::kInt8:
      return 8;
  }
  return 8;
}

// Whether values are floating-point numbers, which codecs may approximate.
constexpr bool IsFloat(DType dtype) { return dtype >= DType::kF32 && dtype <= DType::kFp8E5M2; }

}  // namespace mnemo

// OCP 8-bit floats (Open Compute Project, OFP8, 2023) to fp32 and back.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace mnemo {

// E4M3: bias 7, no infinity, S.1111.111 is NaN, largest 448. Exact.
inline float Fp8E4M3ToFloat(uint8_t value) {
  const uint32_t exponent = (value >> 3) & 15;
  const uint32_t mantissa = value & 7;
  float magnitude;
  if (exponent == 15 && mantissa == 7) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    magnitude = std::bit_cast<float>(((exponent + 120) << 23) | (mantissa << 20));
  }
  return std::copysign(magnitude, (value & 0x80) != 0 ? -1.0F : 1.0F);
}

// E5M2: bias 15, infinities and NaN as in IEEE 754, largest 57,344. Exact.
inline float Fp8E5M2ToFloat(uint8_t value) {
  const uint32_t exponent = (value >> 2) & 31;
  const uint32_t mantissa = value & 3;
  float magnitude;
  if (exponent == 31) {
    magnitude = mantissa == 0 ? std::numeric_limits<float>::infinity()
                              : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-16f;
  } else {
    magnitude = std::bit_cast<float>(((exponent + 112) << 23) | (mantissa << 21));
  }
  return std::copysign(magnitude, (value & 0x80) != 0 ? -1.0F : 1.0F);
}

namespace internal {

// Rounds a finite magnitude to `mantissa_bits` below exponents of `least` and
// up, ties to even, as the code without its sign.
inline uint32_t RoundToFp8(float magnitude, int least, int mantissa_bits) {
  if (magnitude == 0) return 0;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, least);
  // In units of the last place; what carries over moves into the exponent.
  const auto units =
      static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent)));
  return (static_cast<uint32_t>(exponent - least) << mantissa_bits) + units;
}

}  // namespace internal

// Round to nearest, ties to even; what is too large, infinity too, becomes the
// largest finite value; NaN stays NaN.
inline uint8_t FloatToFp8E4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const float magnitude = std::fabs(value);
  if (magnitude >= 448) return sign | 0x7e;
  return static_cast<uint8_t>(sign | internal::RoundToFp8(magnitude, -6, 3));
}
inline uint8_t FloatToFp8E5M2(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7e;
  const float magnitude = std::fabs(value);
  if (magnitude >= 57344) return sign | 0x7b;
  return static_cast<uint8_t>(sign | internal::RoundToFp8(magnitude, -14, 2));
}

}  // namespace mnemo

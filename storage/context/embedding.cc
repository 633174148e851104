#include "storage/context/embedding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "storage/base/half.h"
#include "storage/base/status_macros.h"
#include "storage/codec/rotated_rows.h"

namespace mnemo {
namespace {

// Without a branch, so that the compiler can take several at once: the
// multiplication mends the exponent's bias, and subnormals with it. Not for
// infinities and NaN, which nothing stored has.
float FiniteHalfToFloat(uint16_t half) {
  const float magnitude =
      std::bit_cast<float>(static_cast<uint32_t>(half & 0x7fff) << 13) * 0x1p112F;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) |
                              (static_cast<uint32_t>(half & 0x8000) << 16));
}

// In blocks of a fixed size, which is what makes GCC take several at once
// without -O3.
constexpr size_t kBlock = 16;

void DecodeHalf(const uint8_t* row, size_t dimension, float* __restrict out) {
  const auto decode = [&](size_t i) {
    out[i] = FiniteHalfToFloat(LoadLittle<uint16_t>(row + 2 * i));
  };
  size_t begin = 0;
  for (; begin + kBlock <= dimension; begin += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) decode(begin + i);
  }
  for (; begin < dimension; ++begin) decode(begin);
}

// A gain that is no number was refused when the value was opened.
void DecodeRotated(const uint8_t* row, size_t dimension, float* out) {
  const RotatedRows& codec = RotatedRows::Of(static_cast<uint32_t>(dimension));
  std::vector<float> work(codec.padded());
  MNEMO_CHECK(codec.Decode(row, /*scale=*/1, work, {out, dimension}));
  for (size_t i = 0; i < dimension; ++i) {
    out[i] = std::clamp(out[i], -kMaxEmbeddingValue, kMaxEmbeddingValue);
  }
}

void EncodeRotated(const float* values, size_t dimension, uint8_t* out) {
  const RotatedRows& codec = RotatedRows::Of(static_cast<uint32_t>(dimension));
  std::vector<float> work(codec.padded());
  codec.Encode({values, dimension}, /*scale=*/1, work, out);
}

void DecodeRow(ElementType type, const uint8_t* row, size_t dimension, float* out) {
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out, row, dimension * sizeof(float));
      return;
    case ElementType::kFloat16:
      DecodeHalf(row, dimension, out);
      return;
    case ElementType::kBfloat16:
      for (size_t i = 0; i < dimension; ++i)
        out[i] = BfloatToFloat(LoadLittle<uint16_t>(row + 2 * i));
      return;
    case ElementType::kInt8: {
      const float scale = LoadLittle<float>(row + dimension);
      for (size_t i = 0; i < dimension; ++i)
        out[i] = scale * static_cast<float>(static_cast<int8_t>(row[i]));
      return;
    }
    case ElementType::kRotated4:
      DecodeRotated(row, dimension, out);
      return;
  }
}

void EncodeHalf(const float* values, size_t dimension, uint8_t* out) {
  for (size_t i = 0; i < dimension; ++i) StoreLittle(out + 2 * i, FloatToHalf(values[i]));
}

void EncodeInt8(const float* values, size_t dimension, uint8_t* out) {
  float largest = 0;
  for (size_t i = 0; i < dimension; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / 127;
  // A largest magnitude so small that its 127th part is 0 is a row of zeros.
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (size_t i = 0; i < dimension; ++i) {
    const float steps = std::isfinite(inverse) ? values[i] * inverse : 0;
    out[i] = static_cast<uint8_t>(static_cast<int8_t>(std::lrintf(steps)));
  }
  StoreLittle(out + dimension, std::isfinite(inverse) ? scale : 0.0F);
}

template <typename T, typename IsBad>
std::optional<size_t> FindFirst(ByteView bytes, IsBad is_bad) {
  const size_t count = bytes.size() / sizeof(T);
  // All at once first: nearly always nothing is wrong.
  bool any = false;
  for (size_t i = 0; i < count; ++i) any |= is_bad(LoadLittle<T>(bytes.data() + i * sizeof(T)));
  for (size_t i = 0; any && i < count; ++i) {
    if (is_bad(LoadLittle<T>(bytes.data() + i * sizeof(T)))) return i;
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> FindBadElement(ElementType type, ByteView bytes) {
  // As integers, magnitudes are in order, infinities and NaN above all numbers.
  constexpr uint32_t kMaxBits = std::bit_cast<uint32_t>(kMaxEmbeddingValue);
  switch (type) {
    case ElementType::kFloat32:
      return FindFirst<uint32_t>(bytes,
                                 [](uint32_t bits) { return (bits & 0x7fffffff) > kMaxBits; });
    case ElementType::kFloat16:
      return FindFirst<uint16_t>(bytes, [](uint16_t bits) { return (bits & 0x7fff) >= 0x7c00; });
    case ElementType::kBfloat16:
      return FindFirst<uint16_t>(bytes,
                                 [](uint16_t bits) { return (bits & 0x7fffU) > (kMaxBits >> 16); });
    case ElementType::kInt8:
    case ElementType::kRotated4:
      break;
  }
  MNEMO_CHECK(false);
}

void ConvertRows(ElementType from, const uint8_t* rows, size_t count, size_t dimension,
                 ElementType to, uint8_t* out) {
  const size_t from_bytes = RowBytes(from, dimension);
  const size_t to_bytes = RowBytes(to, dimension);
  if (from == to) {
    std::memcpy(out, rows, count * to_bytes);
    return;
  }
  std::vector<float> values(dimension);
  for (size_t i = 0; i < count; ++i, rows += from_bytes, out += to_bytes) {
    DecodeRow(from, rows, dimension, values.data());
    switch (to) {
      case ElementType::kFloat16:
        EncodeHalf(values.data(), dimension, out);
        break;
      case ElementType::kInt8:
        EncodeInt8(values.data(), dimension, out);
        break;
      case ElementType::kRotated4:
        EncodeRotated(values.data(), dimension, out);
        break;
      case ElementType::kFloat32:
      case ElementType::kBfloat16:
        MNEMO_CHECK(false);
    }
  }
}

void EncodeRows(ElementType from, ByteView rows, size_t count, size_t dimension, ElementType to,
                std::string& out) {
  const size_t begin = out.size();
  out.resize(begin + count * RowBytes(to, dimension));
  ConvertRows(from, rows.data(), count, dimension, to,
              reinterpret_cast<uint8_t*>(out.data()) + begin);
}

float Dot(const float* a, const float* b, size_t dimension) {
  // Named, not an array, so that they stay in registers; in a single sum each
  // addition would wait for the one before.
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
  size_t i = 0;
  for (; i + 8 <= dimension; i += 8) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
    s4 += a[i + 4] * b[i + 4];
    s5 += a[i + 5] * b[i + 5];
    s6 += a[i + 6] * b[i + 6];
    s7 += a[i + 7] * b[i + 7];
  }
  float rest = 0;
  for (; i < dimension; ++i) rest += a[i] * b[i];
  return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)) + rest;
}

void Accumulate(size_t dimension, const float* sum, const float* min, const float* max,
                float* __restrict to_sum, float* __restrict to_min, float* __restrict to_max) {
  const auto add = [&](size_t i) { to_sum[i] += sum[i]; };
  const auto take_min = [&](size_t i) { to_min[i] = std::min(to_min[i], min[i]); };
  const auto take_max = [&](size_t i) { to_max[i] = std::max(to_max[i], max[i]); };
  size_t begin = 0;
  for (; begin + kBlock <= dimension; begin += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) add(begin + i);
    for (size_t i = 0; i < kBlock; ++i) take_min(begin + i);
    for (size_t i = 0; i < kBlock; ++i) take_max(begin + i);
  }
  for (; begin < dimension; ++begin) {
    add(begin);
    take_min(begin);
    take_max(begin);
  }
}

void DecodeRows(ElementType type, const uint8_t* rows, size_t count, size_t dimension, float* out) {
  const size_t row_bytes = RowBytes(type, dimension);
  for (size_t i = 0; i < count; ++i) {
    DecodeRow(type, rows + i * row_bytes, dimension, out + i * dimension);
  }
}

}  // namespace mnemo

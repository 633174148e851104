// Plain C++: what every SIMD level is tested against.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/fp8.h"
#include "storage/base/half.h"
#include "storage/codec/row_kernels.h"

namespace mnemo::codec {
namespace {

uint8_t CodeAt(const uint8_t* row, size_t row_bytes, uint32_t width, size_t i) {
  if (width == 8) return row[i];
  if (width == 1) return (row[i / 8] >> (i % 8)) & 1;
  const size_t part = i / row_bytes;
  return static_cast<uint8_t>((row[i % row_bytes] >> (width * part)) & ((1U << width) - 1));
}

void Unpack(const CodePlane* planes, size_t plane_count, size_t rows, size_t padded,
            uint8_t* codes) {
  std::fill(codes, codes + rows * padded, uint8_t{0});
  for (size_t p = 0; p < plane_count; ++p) {
    const uint32_t width = planes[p].width;
    const size_t row_bytes = PlaneRowBytes(padded, width);
    for (size_t row = 0; row < rows; ++row) {
      const uint8_t* const in = planes[p].rows + row * row_bytes;
      uint8_t* const out = codes + row * padded;
      for (size_t i = 0; i < padded; ++i) {
        const uint32_t above = width == 8 ? 0 : uint32_t{out[i]} << width;
        out[i] = static_cast<uint8_t>(above | CodeAt(in, row_bytes, width, i));
      }
    }
  }
}

void ScaleCodes(const uint8_t* codes, const float* scale, const float* offset, size_t count,
                float* values) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = offset[i] + scale[i] * static_cast<float>(codes[i]);
  }
}

void LookUp(const uint8_t* codes, const LevelTable& table, size_t count, float* values) {
  for (size_t i = 0; i < count; ++i) values[i] = table.values[codes[i]];
}

void ScaleRows(float* values, const float* gains, const float* scale, const float* offset,
               size_t rows, size_t padded) {
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = row * padded; i < (row + 1) * padded; ++i) {
      values[i] = values[i] * gains[row] * scale[i] + offset[i];
    }
  }
}

void Turn(float* values, const float* cosine, const float* sine, float sign, bool interleaved,
          size_t rows, size_t dimension, size_t stride) {
  const size_t pairs = dimension / 2;
  for (size_t row = 0; row < rows; ++row) {
    float* const at = values + row * stride;
    for (size_t pair = 0; pair < pairs; ++pair) {
      const size_t a = interleaved ? 2 * pair : pair;
      const size_t b = interleaved ? a + 1 : a + pairs;
      const float was = at[a];
      at[a] = was * cosine[a] + sign * at[b] * sine[a];
      at[b] = at[b] * cosine[b] + sign * was * sine[b];
    }
  }
}

void Advance(float* cosine, float* sine, const float* step_cosine, const float* step_sine,
             size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float was = cosine[i];
    cosine[i] = was * step_cosine[i] - sine[i] * step_sine[i];
    sine[i] = sine[i] * step_cosine[i] + was * step_sine[i];
  }
}

void Project(const float* rows, size_t stride, size_t tokens, const float* axes, size_t count,
             size_t padded, float* coordinates) {
  for (size_t c = 0; c < count; ++c) {
    for (size_t t = 0; t < tokens; ++t) {
      float sum = 0;
      for (size_t i = 0; i < padded; ++i) sum += rows[t * stride + i] * axes[c * padded + i];
      coordinates[c * kTileTokens + t] = sum;
    }
  }
}

void Mix(const float* coordinates, const float* axes, const float* offset, size_t count,
         size_t padded, float* rows, size_t stride) {
  for (size_t t = 0; t < kTileTokens; ++t) {
    float* const row = rows + t * stride;
    std::copy(offset, offset + padded, row);
    for (size_t c = 0; c < count; ++c) {
      const float weight = coordinates[c * kTileTokens + t];
      for (size_t i = 0; i < padded; ++i) row[i] += weight * axes[c * padded + i];
    }
  }
}

void Place(const int16_t* codes, const int16_t* inward, uint32_t shift, size_t count,
           int16_t* points) {
  if (count % 2 != 0) std::fill_n(points + (count - 1) * kTileTokens, 2 * kTileTokens, int16_t{0});
  for (size_t i = 0; i < count * kTileTokens; ++i) {
    const size_t c = i / kTileTokens;
    const int code = codes[i];
    const int less = inward[std::abs(code) == 1 ? c : count + c];
    const int point = code == 0 ? 0 : code * (1 << shift) - (code < 0 ? -less : less);
    points[(c / 2 * kTileTokens + i % kTileTokens) * 2 + c % 2] = static_cast<int16_t>(point);
  }
}

void MixPoints(const int16_t* points, const int16_t* axes, const float* steps, const float* begin,
               size_t begin_stride, size_t count, size_t padded, float* rows, size_t stride) {
  std::vector<uint32_t> sums(padded);
  for (size_t t = 0; t < kTileTokens; ++t) {
    std::fill(sums.begin(), sums.end(), 0U);
    for (size_t c = 0; c < count; ++c) {
      const int32_t point = points[(c / 2 * kTileTokens + t) * 2 + c % 2];
      const int16_t* const axis = axes + c / 2 * padded * 2 + c % 2;
      // A product fits; their sum may wrap around.
      for (size_t i = 0; i < padded; ++i) sums[i] += static_cast<uint32_t>(point * axis[2 * i]);
    }
    for (size_t i = 0; i < padded; ++i) {
      rows[t * stride + i] = begin[t * begin_stride + i] +
                             steps[t] * static_cast<float>(static_cast<int32_t>(sums[i]));
    }
  }
}

constexpr float kLargestHalf = 65504.0F;
constexpr float kLargestBfloat = 0x1.fep127F;
constexpr float kLargestFloat = 0x1.fffffep127F;

float Clamp(float value, float largest) { return std::clamp(value, -largest, largest); }

template <typename T, T (*kConvert)(float)>
void StoreAs(const float* in, size_t count, uint8_t* out, float largest) {
  for (size_t i = 0; i < count; ++i) {
    StoreLittle<T>(out + i * sizeof(T), kConvert(Clamp(in[i], largest)));
  }
}
float Same(float value) { return value; }

template <typename T, float (*kConvert)(T)>
void LoadAs(const uint8_t* in, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = kConvert(LoadLittle<T>(in + i * sizeof(T)));
}

// 8-bit floats by table.
template <float (*kConvert)(uint8_t)>
void LoadFp8(const uint8_t* in, size_t count, float* out) {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> made;
    for (size_t i = 0; i < made.size(); ++i) made[i] = kConvert(static_cast<uint8_t>(i));
    return made;
  }();
  for (size_t i = 0; i < count; ++i) out[i] = table[in[i]];
}

}  // namespace

const RowKernels& ScalarRowKernels() {
  static const RowKernels kernels = [] {
    RowKernels made{};
    made.unpack = Unpack;
    made.scale_codes = ScaleCodes;
    made.look_up = LookUp;
    made.hadamard = Hadamard;
    made.scale_rows = ScaleRows;
    made.turn = Turn;
    made.advance = Advance;
    made.project = Project;
    made.mix = Mix;
    made.place = Place;
    made.mix_points = MixPoints;
    const auto at = [](DType dtype) { return static_cast<size_t>(dtype); };
    made.load[at(DType::kF32)] = LoadAs<float, Same>;
    made.load[at(DType::kF16)] = LoadAs<uint16_t, HalfToFloat>;
    made.load[at(DType::kBF16)] = LoadAs<uint16_t, BfloatToFloat>;
    made.load[at(DType::kFp8E4M3)] = LoadFp8<Fp8E4M3ToFloat>;
    made.load[at(DType::kFp8E5M2)] = LoadFp8<Fp8E5M2ToFloat>;
    made.store[at(DType::kF32)] = [](const float* in, size_t count, uint8_t* out) {
      StoreAs<float, Same>(in, count, out, kLargestFloat);
    };
    made.store[at(DType::kF16)] = [](const float* in, size_t count, uint8_t* out) {
      StoreAs<uint16_t, FloatToHalf>(in, count, out, kLargestHalf);
    };
    made.store[at(DType::kBF16)] = [](const float* in, size_t count, uint8_t* out) {
      StoreAs<uint16_t, FloatToBfloat>(in, count, out, kLargestBfloat);
    };
    // These saturate by themselves.
    made.store[at(DType::kFp8E4M3)] = [](const float* in, size_t count, uint8_t* out) {
      StoreAs<uint8_t, FloatToFp8E4M3>(in, count, out, kLargestFloat);
    };
    made.store[at(DType::kFp8E5M2)] = [](const float* in, size_t count, uint8_t* out) {
      StoreAs<uint8_t, FloatToFp8E5M2>(in, count, out, kLargestFloat);
    };
    return made;
  }();
  return kernels;
}

void PackRow(const uint8_t* codes, size_t padded, uint32_t width, uint8_t* row) {
  const size_t row_bytes = PlaneRowBytes(padded, width);
  if (width == 8) {
    std::memcpy(row, codes, padded);
    return;
  }
  std::fill(row, row + row_bytes, uint8_t{0});
  for (size_t i = 0; i < padded; ++i) {
    const size_t byte = width == 1 ? i / 8 : i % row_bytes;
    const size_t shift = width == 1 ? i % 8 : width * (i / row_bytes);
    row[byte] = static_cast<uint8_t>(row[byte] | (codes[i] << shift));
  }
}

}  // namespace mnemo::codec

// Inner loops of the tensor codecs over rows of one token's heads; private to
// this room.
//
// A row in work has `padded` values: its dimension rounded up to a multiple of
// 8; what is behind the dimension is anything finite. All functions are pure and
// thread-safe, and read and write unaligned memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "storage/base/dtype.h"
#include "storage/base/rotation.h"
#include "storage/base/simd_level.h"

namespace mnemo::codec {

constexpr size_t PaddedDimension(size_t dimension) { return (dimension + 7) / 8 * 8; }

// Codes of a few bits, row behind row, each row on its own bytes. Of width 1,
// bit i of a row, from the lowest of the first byte, is code i. Of widths 2 and
// 4, byte j of a row has the codes j, j + n, ... from its lowest bits up, n being
// the bytes of the row. Of width 8, bytes are codes.
constexpr size_t PlaneRowBytes(size_t padded, uint32_t width) { return padded / 8 * width; }

struct CodePlane {
  const uint8_t* rows = nullptr;  // the first one wanted
  uint32_t width = 0;             // 1, 2, 4 or 8 bits
};
inline constexpr size_t kMaxCodePlanes = 6;

// Tokens that the transform codec works on at once.
inline constexpr size_t kTileTokens = 16;

// What codes of up to 8 bits stand for. Levels are whole numbers of kLevelUnit, so
// that they are the same everywhere.
struct LevelTable {
  uint32_t count = 0;  // 2^bits
  int16_t units[256] = {};
  float values[256] = {};
};
inline constexpr float kLevelUnit = 1.0F / 4096;

struct RowKernels {
  // Codes [rows x padded] of which each plane has some bits, from the highest.
  void (*unpack)(const CodePlane* planes, size_t plane_count, size_t rows, size_t padded,
                 uint8_t* codes);
  // values[i] = offset[i] + scale[i] * codes[i].
  void (*scale_codes)(const uint8_t* codes, const float* scale, const float* offset, size_t count,
                      float* values);
  // values[i] = table.values[codes[i]].
  void (*look_up)(const uint8_t* codes, const LevelTable& table, size_t count, float* values);
  HadamardFn hadamard = nullptr;
  // Of each row r: values[i] = values[i] * gains[r] * scale[i] + offset[i], scale and
  // offset [rows x padded].
  void (*scale_rows)(float* values, const float* gains, const float* scale, const float* offset,
                     size_t rows, size_t padded);
  // Turns pairs in rows [dimension], `stride` apart: values[i] * cosine[i] + sign *
  // partner(values)[i] * sine[i], the partner of i being i +- dimension / 2, or i ^ 1
  // if `interleaved`. `dimension` is even.
  void (*turn)(float* values, const float* cosine, const float* sine, float sign, bool interleaved,
               size_t rows, size_t dimension, size_t stride);
  // cosine and sine [count] of angles that grow by those of the steps.
  void (*advance)(float* cosine, float* sine, const float* step_cosine, const float* step_sine,
                  size_t count);
  // Of tiles of kTileTokens tokens, and `count` axes, `padded` apart:
  // coordinates[c * kTileTokens + t] = rows[t * stride] . axis c, for t below `tokens`.
  void (*project)(const float* rows, size_t stride, size_t tokens, const float* axes, size_t count,
                  size_t padded, float* coordinates);
  // rows[t * stride] = offset + sum over c of coordinates[c * kTileTokens + t] * axis c, for all
  // tokens of the tile.
  void (*mix)(const float* coordinates, const float* axes, const float* offset, size_t count,
              size_t padded, float* rows, size_t stride);
  // Of each of `count` coordinates of a tile: the code's point, code * 2^shift and then inward[c]
  // nearer to 0 for codes +-1 and inward[count + c] for those beyond; 0 for 0. A point that does
  // not fit wraps around. Points of two coordinates lie side by side, those of tokens behind one
  // another, as `mix_points` takes them; where `count` is odd, the last one's neighbour is 0.
  void (*place)(const int16_t* codes, const int16_t* inward, uint32_t shift, size_t count,
                int16_t* points);
  // rows[t * stride] = begin[t * begin_stride] + steps[t] * sum over c of point (c, t) * axis c,
  // for all tokens of the tile. Axes of two coordinates have their numbers side by side, and so do
  // points: axes[(c / 2 * padded + i) * 2 + c % 2], points[(c / 2 * kTileTokens + t) * 2 + c % 2];
  // `count` is even. Sums are whole numbers modulo 2^32, the same at every level. `rows` may be
  // `begin`.
  void (*mix_points)(const int16_t* points, const int16_t* axes, const float* steps,
                     const float* begin, size_t begin_stride, size_t count, size_t padded,
                     float* rows, size_t stride);
  // By DType, the floating-point ones. Too large a value is stored as the largest
  // finite one.
  void (*load[6])(const uint8_t* in, size_t count, float* out);
  void (*store[6])(const float* in, size_t count, uint8_t* out);

  void Load(DType dtype, const uint8_t* in, size_t count, float* out) const {
    load[static_cast<size_t>(dtype)](in, count, out);
  }
  void Store(DType dtype, const float* in, size_t count, uint8_t* out) const {
    store[static_cast<size_t>(dtype)](in, count, out);
  }
};

// Plain C++.
const RowKernels& ScalarRowKernels();
// Those of a level, which live as long as the process; null if this processor or
// build lacks it. Sums and products are rounded otherwise at each level, to 1e-5 of
// their size; what has no rounding is the same.
const RowKernels* FindRowKernels(SimdLevel level);
const RowKernels& BestRowKernels();

// The inverse of `unpack`, for one plane of one row; each code is below
// 2^width.
void PackRow(const uint8_t* codes, size_t padded, uint32_t width, uint8_t* row);

}  // namespace mnemo::codec

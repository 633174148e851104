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

struct RowKernels {
  // Codes [rows x padded] of which each plane has some bits, from the highest.
  void (*unpack)(const CodePlane* planes, size_t plane_count, size_t rows, size_t padded,
                 uint8_t* codes);
  // values[i] = offset[i] + scale[i] * codes[i].
  void (*scale_codes)(const uint8_t* codes, const float* scale, const float* offset, size_t count,
                      float* values);
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

// The inverse of `unpack`, for one plane of one row; each code is below
// 2^width.
void PackRow(const uint8_t* codes, size_t padded, uint32_t width, uint8_t* row);

}  // namespace mnemo::codec

// Distance kernels, chosen once, outside of loops.
//
// A Kernels value is a table of plain functions for one SIMD level. All
// functions are pure, thread-safe, and read unaligned memory. Sums are in
// another order at each level, so floating-point results agree to about
// 1e-5 of the terms' size; integer results agree exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "index/kernels/element_type.h"
#include "index/kernels/simd_level.h"
#include "storage/base/rotation.h"

namespace mnemo {

// Scores of an fp32 query [dimension] against `count` rows, wherever they lie:
// out[i] is the metric's score of rows[i]. For kCosine the query has norm 1.
using ScoreRowsFn = void (*)(const float* query, const uint8_t* const* rows, size_t count,
                             size_t dimension, float* out);

// One row [dimension] of an element type to fp32.
using DecodeRowFn = void (*)(const uint8_t* row, size_t dimension, float* out);

// Dot products of an int16 query [dimension] with `count` rows of int8, exact
// in int32: the caller keeps dimension * 127 * max |query| below 2^31.
// `dimension` is a multiple of kCodeAlignment.
using DotRowsFn = void (*)(const int16_t* query, const int8_t* const* rows, size_t count,
                           size_t dimension, int32_t* out);
inline constexpr size_t kCodeAlignment = 64;

// Sums of table entries by 4-bit codes, for blocks of kBlockCodes codes.
// `codes` [blocks x tables x 16 bytes]: byte j of a table has code j in its low
// half and code j + 16 in its high half. `lut` [tables x 16]; the greatest
// entries of all tables add up to at most 65,535. out [blocks x kBlockCodes].
// `tables` is a multiple of 16.
using SumCodesFn = void (*)(const uint8_t* codes, size_t blocks, size_t tables, const uint8_t* lut,
                            uint16_t* out);
inline constexpr size_t kBlockCodes = 32;

struct Kernels {
  SimdLevel level = SimdLevel::kScalar;

  // By Metric, then by ElementType.
  ScoreRowsFn score[kMetrics][kScoredTypes] = {};
  // By ElementType.
  DecodeRowFn decode[kScoredTypes] = {};
  DotRowsFn dot_rows = nullptr;
  SumCodesFn sum_codes = nullptr;
  HadamardFn hadamard = nullptr;

  ScoreRowsFn ScoreRows(Metric metric, ElementType type) const {
    return score[static_cast<size_t>(metric)][static_cast<size_t>(type)];
  }
  DecodeRowFn DecodeRow(ElementType type) const { return decode[static_cast<size_t>(type)]; }
};

// The kernels of a level, or of the best one. The table lives as long as the
// process.
// Errors: kFailedPrecondition, if this processor or build lacks the level.
absl::StatusOr<const Kernels*> FindKernels(std::optional<SimdLevel> level);

// The best that there is. Never fails.
const Kernels& BestKernels();

}  // namespace mnemo

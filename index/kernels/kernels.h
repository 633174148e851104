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

namespace mnemo {

// Scores of an fp32 query [dimension] against `count` rows, wherever they lie:
// out[i] is the metric's score of rows[i]. For kCosine the query has norm 1.
using ScoreRowsFn = void (*)(const float* query, const uint8_t* const* rows, size_t count,
                             size_t dimension, float* out);

// One row [dimension] of an element type to fp32.
using DecodeRowFn = void (*)(const uint8_t* row, size_t dimension, float* out);

struct Kernels {
  SimdLevel level = SimdLevel::kScalar;

  // By Metric, then by ElementType.
  ScoreRowsFn score[kMetrics][kElementTypes] = {};
  // By ElementType.
  DecodeRowFn decode[kElementTypes] = {};

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

// Learns a TransformBasis from rows; private to this room.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "storage/codec/transform_basis.h"

namespace mnemo::codec {

// The row's size, in half octaves of its root mean square; none of a row of zeros.
std::optional<int> HalfOctavesOf(std::span<const float> row);
// 2^(half_octaves / 2), of -250 to 250, and 2^(level / 16).
float HalfOctaves(int half_octaves);
float Levels(int level);

// More than any code.
inline constexpr float kMostSteps = 1e6F;
// The code of a coordinate, in steps. `narrow`: of a coordinate that spreads over a few steps
// only, for which it pays to round towards 0.
inline int CodeOf(float steps, bool narrow) {
  // What is so much over half a step is rounded away from 0. 0.5 has the least error; a little
  // less, the least error for its bits (decision 0105).
  constexpr float kNarrowRounding = 0.42F;
  const float size = std::min(std::abs(steps) + (narrow ? kNarrowRounding : 0.5F), kMostSteps);
  const int code = static_cast<int>(size);
  return steps < 0 ? -code : code;
}
inline bool IsNarrow(const SpreadClass& of) {
  return of.table < kSpreadTables - 4 && of.raw_bits == 0;
}

// Of all heads of keys, or of values. Not thread-safe.
// Memory: 8 bytes for each pair of channels of a head, and kSampleRows rows of each in fp32.
class TransformFit {
 public:
  // Of values, rows count alike whatever their size, and are coded relative to it.
  TransformFit(uint64_t heads, uint32_t dimension, bool values);

  // A row of a head, positions taken off.
  void Add(uint64_t head, std::span<const float> row);
  // `mean` [head, dimension] is what is taken off rows when they are coded. Each head has
  // seen some rows. O(heads x dimension^3).
  TransformBasis Finish(std::span<const float> mean) const;

 private:
  struct Head {
    std::vector<double> products;  // [dimension, dimension], sum of w x_i x_j for i <= j
    std::vector<double> sums;      // [dimension], sum of w x_i
    double weights = 0;
    double half_octaves = 0;
    uint64_t rows = 0;
    // Every `stride`-th row.
    std::vector<float> sample;
    uint64_t seen = 0;
    uint64_t stride = 1;
  };
  // [coordinate, sampled row] of a head, in units of its spread's own size.
  struct Sample {
    std::vector<float> coordinates;
    size_t rows = 0;
  };

  static constexpr size_t kSampleRows = 128;

  void Sampled(Head& head, std::span<const float> row) const;
  std::vector<double> Covariance(const Head& head, std::span<const float> mean) const;
  Sample Project(uint64_t head, std::span<const float> mean, const TransformBasis& basis,
                 std::vector<double>& gains) const;

  uint32_t dimension_;
  bool values_;
  std::vector<Head> heads_;
};

}  // namespace mnemo::codec

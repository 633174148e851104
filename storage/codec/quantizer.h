// Scalar quantisers of values that are distributed as N(0, 1); private to this room.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/codec/row_kernels.h"

namespace mnemo::codec {

// The levels of least squared error (Lloyd 1982, Max 1960) at 1 to 5 bits. Their
// distortions are 0.3634, 0.1175, 0.03454, 0.00950, 0.00250 (Max 1960, table I).
const LevelTable& LloydMaxLevels(uint32_t bits);

// Codes of 8 bits whose highest bits are good codes themselves: u = Phi(x / 1.5)
// in 256 equal steps. A code cut to `bits` (2, 3, 4, 5 or 8) stands for the
// centroid of what is left of its cell.
bool IsFidelity(uint32_t bits);
const LevelTable& ProgressiveLevels(uint32_t bits);

// The code of x: the number of thresholds that are at most x, which ascend.
class Thresholds {
 public:
  explicit Thresholds(std::vector<float> ascending) : at_(std::move(ascending)) {}
  uint8_t CodeOf(float x) const;

 private:
  std::vector<float> at_;  // 2^bits - 1
};
const Thresholds& LloydMaxThresholds(uint32_t bits);
const Thresholds& ProgressiveThresholds();

}  // namespace mnemo::codec

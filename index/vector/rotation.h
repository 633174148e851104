// A fixed random rotation, which makes every coordinate of a vector about as
// large as every other.
//
// Hidden states of a model have a few coordinates a hundred times as large as
// the rest; codes with one step for all of them would lose the rest. After a
// randomised Hadamard transform (QuaRot, Ashkboos et al. 2024; RaBitQ, Gao and
// Long 2024) one step fits all.
#pragma once

#include <cstdint>
#include <vector>

#include "index/kernels/kernels.h"

namespace mnemo {

// Immutable, thread-safe. The same for the same dimension and seed, at every
// SIMD level but for rounding: it is stored as its seed.
class Rotation {
 public:
  Rotation(uint32_t dimension, uint64_t seed);

  // `dimension` rounded up to a multiple of kCodeAlignment; what is between is
  // taken as zero.
  static uint32_t Padded(uint32_t dimension) {
    return static_cast<uint32_t>((dimension + kCodeAlignment - 1) / kCodeAlignment *
                                 kCodeAlignment);
  }
  uint32_t padded() const { return padded_; }

  // Rotates `in` [dimension] into `out` [padded]. Norms and inner products
  // stay. O(padded log padded).
  void Apply(const Kernels& kernels, const float* in, float* out) const;

 private:
  uint32_t dimension_;
  uint32_t padded_;
  uint32_t window_;  // largest power of two that is at most padded_
  // Random signs, [kRounds x padded].
  std::vector<float> signs_;
};

}  // namespace mnemo

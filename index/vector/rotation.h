// The rotation of vectors that become codes: storage/base/rotation.h, by kernels
// of the level in use, for rows that are filled up to what kernels want.
#pragma once

#include <cstdint>

#include "index/kernels/kernels.h"
#include "storage/base/rotation.h"

namespace mnemo {

// Immutable, thread-safe.
class Rotation {
 public:
  Rotation(uint32_t dimension, uint64_t seed) : rotation_(dimension, Padded(dimension), seed) {}

  // `dimension` rounded up to a multiple of kCodeAlignment; what is between is
  // taken as zero.
  static uint32_t Padded(uint32_t dimension) {
    return static_cast<uint32_t>((dimension + kCodeAlignment - 1) / kCodeAlignment *
                                 kCodeAlignment);
  }
  uint32_t padded() const { return rotation_.padded(); }

  // Rotates `in` [dimension] into `out` [padded].
  void Apply(const Kernels& kernels, const float* in, float* out) const {
    rotation_.Apply(kernels.hadamard, in, out);
  }

 private:
  RandomRotation rotation_;
};

}  // namespace mnemo

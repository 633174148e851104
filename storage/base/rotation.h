// A fixed random rotation, which makes every coordinate of a vector about as
// large as every other.
//
// Hidden states and keys have a few coordinates a hundred times as large as the
// rest; codes with one step for all of them would lose the rest. After a
// randomised Hadamard transform (QuaRot, Ashkboos et al. 2024; RaBitQ, Gao and
// Long 2024; TurboQuant, Zandieh et al. 2025) one step fits all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mnemo {

// The Walsh-Hadamard transform of `values` [size], in place, divided by
// sqrt(size), so that norms stay. `size` is a power of two, at least 8.
using HadamardFn = void (*)(float* values, size_t size);

// Plain C++.
void Hadamard(float* values, size_t size);

// Immutable, thread-safe. The same for the same dimension and seed, whoever does
// the transforms, but for rounding: it is stored as its seed.
class RandomRotation {
 public:
  // Of `dimension` values, filled up with zeros to `padded`, a multiple of 8.
  RandomRotation(uint32_t dimension, uint32_t padded, uint64_t seed);

  uint32_t padded() const { return padded_; }

  // Rotates `in` [dimension] into `out` [padded]. Norms and inner products
  // stay. O(padded log padded).
  void Apply(HadamardFn hadamard, const float* in, float* out) const;
  // Takes the rotation off `values` [padded], in place, but for the signs of its
  // first step: values[i] * signs()[i] is what was rotated. Callers that scale
  // anyway take the signs along.
  void InvertUpToSigns(HadamardFn hadamard, float* values) const;
  const float* signs() const { return signs_.data(); }

 private:
  uint32_t dimension_;
  uint32_t padded_;
  uint32_t window_;  // largest power of two that is at most padded_
  uint32_t rounds_;
  // Random signs, [rounds x padded].
  std::vector<float> signs_;
};

}  // namespace mnemo

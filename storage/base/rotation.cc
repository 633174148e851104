#include "storage/base/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

namespace mnemo {
namespace {

// A transform covers a power of two, at the front and at the back in turn; what
// both cover carries energy from one end to the other.
constexpr uint32_t kRounds = 4;

}  // namespace

void Hadamard(float* values, size_t size) {
  for (size_t half = 1; half < size; half *= 2) {
    for (size_t begin = 0; begin < size; begin += 2 * half) {
      for (size_t i = begin; i < begin + half; ++i) {
        const float a = values[i];
        const float b = values[i + half];
        values[i] = a + b;
        values[i + half] = a - b;
      }
    }
  }
  const float scale = 1 / std::sqrt(static_cast<float>(size));
  for (size_t i = 0; i < size; ++i) values[i] *= scale;
}

RandomRotation::RandomRotation(uint32_t dimension, uint32_t padded, uint64_t seed)
    : dimension_(dimension),
      padded_(padded),
      window_(std::bit_floor(padded)),
      // One transform after random signs is enough where it covers everything.
      rounds_(window_ == padded ? 1 : kRounds),
      signs_(size_t{kRounds} * padded) {
  // The engine's output is defined by the standard; the distributions' is not.
  std::mt19937_64 random(seed);
  for (float& sign : signs_) sign = (random() >> 63) != 0 ? 1.0F : -1.0F;
}

void RandomRotation::Apply(HadamardFn hadamard, const float* in, float* out) const {
  std::copy(in, in + dimension_, out);
  std::fill(out + dimension_, out + padded_, 0.0F);
  for (uint32_t round = 0; round < rounds_; ++round) {
    const float* const signs = signs_.data() + size_t{round} * padded_;
    for (uint32_t i = 0; i < padded_; ++i) out[i] *= signs[i];
    hadamard(round % 2 == 0 ? out : out + (padded_ - window_), window_);
  }
}

void RandomRotation::InvertUpToSigns(HadamardFn hadamard, float* values) const {
  for (uint32_t round = rounds_; round-- > 0;) {
    hadamard(round % 2 == 0 ? values : values + (padded_ - window_), window_);
    if (round == 0) break;
    const float* const signs = signs_.data() + size_t{round} * padded_;
    for (uint32_t i = 0; i < padded_; ++i) values[i] *= signs[i];
  }
}

}  // namespace mnemo

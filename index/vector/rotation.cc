#include "index/vector/rotation.h"

#include <algorithm>
#include <bit>
#include <random>

namespace mnemo {
namespace {

// A transform covers a power of two, at the front and at the back in turn; what
// both cover carries energy from one end to the other.
constexpr uint32_t kRounds = 4;

}  // namespace

Rotation::Rotation(uint32_t dimension, uint64_t seed)
    : dimension_(dimension),
      padded_(Padded(dimension)),
      window_(std::bit_floor(padded_)),
      signs_(size_t{kRounds} * padded_) {
  // The engine's output is defined by the standard; the distributions' is not.
  std::mt19937_64 random(seed);
  for (float& sign : signs_) sign = (random() >> 63) != 0 ? 1.0F : -1.0F;
}

void Rotation::Apply(const Kernels& kernels, const float* in, float* out) const {
  std::copy(in, in + dimension_, out);
  std::fill(out + dimension_, out + padded_, 0.0F);
  // One transform after random signs is enough where it covers everything.
  const uint32_t rounds = window_ == padded_ ? 1 : kRounds;
  for (uint32_t round = 0; round < rounds; ++round) {
    const float* const signs = signs_.data() + size_t{round} * padded_;
    for (uint32_t i = 0; i < padded_; ++i) out[i] *= signs[i];
    kernels.hadamard(round % 2 == 0 ? out : out + (padded_ - window_), window_);
  }
}

}  // namespace mnemo

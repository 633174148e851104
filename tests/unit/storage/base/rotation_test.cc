#include "storage/base/rotation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mnemo {
namespace {

TEST(RandomRotationTest, IsUndone) {
  for (const uint32_t dimension : {1u, 8u, 20u, 64u, 96u, 576u}) {
    const uint32_t padded = (dimension + 7) / 8 * 8;
    const RandomRotation rotation(dimension, padded, 5);
    std::vector<float> in(dimension), out(padded);
    double squares = 0, rotated_squares = 0;
    for (uint32_t i = 0; i < dimension; ++i) {
      in[i] = static_cast<float>(i % 7) - 2.5F;
      squares += in[i] * in[i];
    }
    rotation.Apply(Hadamard, in.data(), out.data());
    for (const float value : out) rotated_squares += value * value;
    EXPECT_NEAR(rotated_squares, squares, 1e-4 * squares);
    rotation.InvertUpToSigns(Hadamard, out.data());
    for (uint32_t i = 0; i < padded; ++i) {
      EXPECT_NEAR(out[i] * rotation.signs()[i], i < dimension ? in[i] : 0, 1e-4) << dimension;
    }
  }
}

TEST(RandomRotationTest, SpreadsOneCoordinateOverAll) {
  for (const uint32_t dimension : {64u, 96u}) {
    const RandomRotation rotation(dimension, dimension, 5);
    std::vector<float> in(dimension), out(dimension);
    in[3] = 1;
    rotation.Apply(Hadamard, in.data(), out.data());
    for (const float value : out) EXPECT_LT(std::abs(value), 0.5F);
  }
}

}  // namespace
}  // namespace mnemo

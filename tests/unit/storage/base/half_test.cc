#include "index/kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mnemo {
namespace {

TEST(HalfTest, EveryHalfSurvivesTheWayToFloatAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = HalfToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value)))) << bits;
    } else {
      EXPECT_EQ(FloatToHalf(value), bits) << value;
    }
  }
}

TEST(HalfTest, RoundsToTheNearestAndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = HalfToFloat(static_cast<uint16_t>(bits));
    const float high = HalfToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    EXPECT_EQ(FloatToHalf(middle), even) << middle;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, 0.0F)), bits) << middle;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, 1e6F)), bits + 1) << middle;
  }
}

TEST(HalfTest, TooLargeBecomesInfinity) {
  EXPECT_EQ(FloatToHalf(65519.0F), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0F), 0x7c00);
  EXPECT_EQ(FloatToHalf(-1e9F), 0xfc00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::infinity()), 0x7c00);
}

TEST(HalfTest, EveryBfloatSurvivesTheWayToFloatAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = BfloatToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(BfloatToFloat(FloatToBfloat(value)))) << bits;
    } else {
      EXPECT_EQ(FloatToBfloat(value), bits) << value;
    }
  }
}

TEST(HalfTest, BfloatRoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(FloatToBfloat(BfloatToFloat(0x3f80) + 0x1p-8F), 0x3f80);
  EXPECT_EQ(FloatToBfloat(BfloatToFloat(0x3f81) + 0x1p-8F), 0x3f82);
  EXPECT_EQ(FloatToBfloat(1 + 0x1.01p-8F), 0x3f81);
}

}  // namespace
}  // namespace mnemo

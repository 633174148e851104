#include "storage/base/fp8.h"

#include <gtest/gtest.h>

namespace mnemo {
namespace {

// The values that the OCP specification lists (tables 2 and 3 there).
TEST(Fp8Test, DecodesTheValuesOfTheSpecification) {
  EXPECT_EQ(Fp8E4M3ToFloat(0x7e), 448.0F);
  EXPECT_EQ(Fp8E4M3ToFloat(0x08), 0x1p-6F);
  EXPECT_EQ(Fp8E4M3ToFloat(0x07), 0x1.cp-7F);
  EXPECT_EQ(Fp8E4M3ToFloat(0x81), -0x1p-9F);
  EXPECT_TRUE(std::isnan(Fp8E4M3ToFloat(0x7f)));
  EXPECT_EQ(Fp8E5M2ToFloat(0x7b), 57344.0F);
  EXPECT_EQ(Fp8E5M2ToFloat(0x04), 0x1p-14F);
  EXPECT_EQ(Fp8E5M2ToFloat(0x03), 0x1.8p-15F);
  EXPECT_EQ(Fp8E5M2ToFloat(0x81), -0x1p-16F);
  EXPECT_EQ(Fp8E5M2ToFloat(0xfc), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(Fp8E5M2ToFloat(0x7d)));
}

template <typename Decode, typename Encode>
void CheckRounding(Decode decode, Encode encode, int largest) {
  for (int code = 0; code <= largest; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    EXPECT_EQ(encode(decode(byte)), byte);
    EXPECT_EQ(encode(-decode(byte)), byte | 0x80);
    if (code == largest) break;
    const float low = decode(byte);
    const float high = decode(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;  // exact: both have 3 bits or less
    EXPECT_EQ(encode(middle), code % 2 == 0 ? byte : byte + 1) << "a tie goes to the even one";
    EXPECT_EQ(encode(std::nextafter(middle, low)), byte);
    EXPECT_EQ(encode(std::nextafter(middle, high)), byte + 1);
  }
}

TEST(Fp8Test, RoundsToTheNearestAndTiesToEven) {
  CheckRounding(Fp8E4M3ToFloat, FloatToFp8E4M3, 0x7e);
  CheckRounding(Fp8E5M2ToFloat, FloatToFp8E5M2, 0x7b);
}

TEST(Fp8Test, TooLargeBecomesTheLargestAndNanStays) {
  EXPECT_EQ(FloatToFp8E4M3(1e9F), 0x7e);
  EXPECT_EQ(FloatToFp8E4M3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(FloatToFp8E5M2(60000.0F), 0x7b);
  EXPECT_TRUE(std::isnan(Fp8E4M3ToFloat(FloatToFp8E4M3(std::nanf("")))));
  EXPECT_TRUE(std::isnan(Fp8E5M2ToFloat(FloatToFp8E5M2(std::nanf("")))));
}

}  // namespace
}  // namespace mnemo

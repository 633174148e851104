#include "storage/context/embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "storage/base/half.h"

namespace mnemo {
namespace {

template <typename T>
ByteView BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

TEST(EmbeddingTest, EveryFiniteHalfDecodesAsTheReferenceSays) {
  std::vector<uint16_t> halves;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00) != 0x7c00) halves.push_back(static_cast<uint16_t>(bits));
  }
  std::vector<float> decoded(halves.size());
  DecodeRows(ElementType::kFloat16, BytesOf(halves).data(), 1, halves.size(), decoded.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(HalfToFloat(halves[i])))
        << halves[i];
  }
}

TEST(EmbeddingTest, FindsTheFirstValueThatCannotBeStored) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FindBadElement(ElementType::kFloat32, BytesOf(std::vector<float>{1, -65504, 65504})),
            std::nullopt);
  for (const float bad : {inf, -inf, nan, 65536.0F, -65536.0F, 1e30F}) {
    EXPECT_EQ(FindBadElement(ElementType::kFloat32, BytesOf(std::vector<float>{0, 1, bad, bad})),
              2U)
        << bad;
    EXPECT_EQ(FindBadElement(ElementType::kBfloat16,
                             BytesOf(std::vector<uint16_t>{0, FloatToBfloat(bad)})),
              1U)
        << bad;
  }
  for (const uint16_t bad : {0x7c00, 0xfc00, 0x7e00}) {
    EXPECT_EQ(FindBadElement(ElementType::kFloat16, BytesOf(std::vector<uint16_t>{0x7bff, bad})),
              1U);
  }
}

TEST(EmbeddingTest, HalvesAreTakenAsTheyAre) {
  const std::vector<uint16_t> halves = {0x3c00, 0x0001, 0x8000, 0x7bff};
  std::string stored;
  EncodeRows(ElementType::kFloat16, BytesOf(halves), 2, 2, ElementType::kFloat16, stored);
  EXPECT_EQ(stored, AsText(BytesOf(halves)));
}

TEST(EmbeddingTest, FloatsAndBfloatsRoundToTheNearestHalf) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(64);
  for (float& value : values) value = normal(random);
  std::string stored;
  EncodeRows(ElementType::kFloat32, BytesOf(values), 8, 8, ElementType::kFloat16, stored);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(LoadLittle<uint16_t>(stored.data() + 2 * i), FloatToHalf(values[i]));
  }
  std::vector<uint16_t> brains;
  for (const float value : values) brains.push_back(FloatToBfloat(value));
  stored.clear();
  EncodeRows(ElementType::kBfloat16, BytesOf(brains), 8, 8, ElementType::kFloat16, stored);
  for (size_t i = 0; i < brains.size(); ++i) {
    EXPECT_EQ(LoadLittle<uint16_t>(stored.data() + 2 * i), FloatToHalf(BfloatToFloat(brains[i])));
  }
}

TEST(EmbeddingTest, RotatedCodesAreOffByATenthWhateverTheDimensionAndSize) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const size_t dimension : {1U, 3U, 8U, 100U, 384U, 4096U}) {
    for (const float size : {1e-3F, 1.0F, 1e4F}) {
      std::vector<float> values(4 * dimension);
      for (float& value : values) value = size * normal(random);
      // A few coordinates that are larger than all others, as hidden states have.
      if (dimension >= 100) values[5] = values[dimension + 7] = 6 * size;
      std::string stored;
      EncodeRows(ElementType::kFloat32, BytesOf(values), 4, dimension, ElementType::kRotated4,
                 stored);
      ASSERT_EQ(stored.size(), 4 * RowBytes(ElementType::kRotated4, dimension));
      EXPECT_EQ(stored.size(), 4 * (2 + (dimension + 7) / 8 * 4));
      std::vector<float> decoded(values.size());
      DecodeRows(ElementType::kRotated4, AsBytes(stored).data(), 4, dimension, decoded.data());
      double squares = 0, errors = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        squares += double{values[i]} * values[i];
        errors += std::pow(double{values[i]} - decoded[i], 2);
      }
      EXPECT_LT(std::sqrt(errors / squares), dimension < 100 ? 0.3 : 0.11) << dimension;
      if (dimension >= 100) {
        EXPECT_GT(std::sqrt(errors / squares), 0.08) << dimension;
      }
      // Each row stands alone, and as halves they are the same.
      std::string halves;
      EncodeRows(ElementType::kRotated4,
                 AsBytes(stored).subspan(RowBytes(ElementType::kRotated4, dimension)), 1, dimension,
                 ElementType::kFloat16, halves);
      for (size_t i = 0; i < dimension; ++i) {
        ASSERT_EQ(LoadLittle<uint16_t>(halves.data() + 2 * i), FloatToHalf(decoded[dimension + i]));
      }
    }
  }
}

TEST(EmbeddingTest, RotatedCodesOfTheLargestAndOfZeros) {
  for (const float value : {kMaxEmbeddingValue, -kMaxEmbeddingValue, 0.0F}) {
    constexpr size_t kSize = 384;
    const std::vector<float> values(kSize, value);
    std::string stored;
    EncodeRows(ElementType::kFloat32, BytesOf(values), 1, kSize, ElementType::kRotated4, stored);
    std::string halves;
    EncodeRows(ElementType::kRotated4, AsBytes(stored), 1, kSize, ElementType::kFloat16, halves);
    double squared_errors = 0;
    for (size_t i = 0; i < kSize; ++i) {
      const float half = HalfToFloat(LoadLittle<uint16_t>(halves.data() + 2 * i));
      ASSERT_TRUE(std::isfinite(half));
      squared_errors += std::pow(double{half} - value, 2);
    }
    EXPECT_LE(std::sqrt(squared_errors / kSize), 0.11 * std::abs(value));
  }
}

TEST(EmbeddingTest, ADotProductTakesEveryElementOfAnyDimension) {
  for (size_t dimension = 1; dimension <= 40; ++dimension) {
    std::vector<float> a(dimension), b(dimension);
    float expected = 0;  // of small whole numbers: exact in any order
    for (size_t i = 0; i < dimension; ++i) {
      a[i] = static_cast<float>(i + 1);
      b[i] = i % 2 == 0 ? 3.0F : -2.0F;
      expected += a[i] * b[i];
    }
    EXPECT_EQ(Dot(a.data(), b.data(), dimension), expected) << dimension;
  }
}

TEST(EmbeddingTest, Int8IsOffByHalfAStepAtMost) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> values(4 * 100);
  for (float& value : values) value = normal(random);
  std::fill(values.begin() + 100, values.begin() + 200, 0.0F);                 // zeros
  for (size_t i = 200; i < 300; ++i) values[i] = std::ldexp(values[i], -140);  // subnormal
  std::string stored;
  EncodeRows(ElementType::kFloat32, BytesOf(values), 4, 100, ElementType::kInt8, stored);
  ASSERT_EQ(stored.size(), 4 * RowBytes(ElementType::kInt8, 100));
  std::vector<float> decoded(values.size());
  DecodeRows(ElementType::kInt8, AsBytes(stored).data(), 4, 100, decoded.data());
  for (size_t row = 0; row < 4; ++row) {
    float largest = 0;
    for (size_t i = 0; i < 100; ++i) largest = std::max(largest, std::fabs(values[row * 100 + i]));
    // Where the step itself is subnormal, a row may become zeros.
    const float step = row == 2 ? 2 * largest : largest / 127;
    for (size_t i = row * 100; i < (row + 1) * 100; ++i) {
      EXPECT_LE(std::fabs(decoded[i] - values[i]), step * 0.501F) << i;
    }
  }
}

}  // namespace
}  // namespace mnemo

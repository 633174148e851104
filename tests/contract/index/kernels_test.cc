// Every SIMD level against plain C++.
#include "index/kernels/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "index/kernels/half.h"
#include "storage/base/bytes.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr Metric kAllMetrics[] = {Metric::kInnerProduct, Metric::kCosine, Metric::kL2};
constexpr ElementType kAllTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                     ElementType::kBfloat16, ElementType::kInt8};
constexpr size_t kDimensions[] = {1, 3, 7, 8, 15, 16, 31, 33, 64, 100, 128, 256, 640, 4096};

// Rows at odd addresses, with nothing behind the last one.
struct Rows {
  Rows(ElementType type, size_t dimension, size_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::string bytes;
    for (size_t r = 0; r < count; ++r) {
      for (size_t i = 0; i < dimension; ++i) {
        const float value = normal(random);
        if (type == ElementType::kFloat32) AppendLittle(bytes, value);
        if (type == ElementType::kFloat16) AppendLittle(bytes, FloatToHalf(value));
        if (type == ElementType::kBfloat16) AppendLittle(bytes, FloatToBfloat(value));
        if (type == ElementType::kInt8) bytes.push_back(static_cast<char>(random() % 255 - 127));
      }
      if (type == ElementType::kInt8) AppendLittle(bytes, 0.03F * static_cast<float>(r + 1));
    }
    storage.resize(bytes.size() + 1);
    std::memcpy(storage.data() + 1, bytes.data(), bytes.size());
    for (size_t r = 0; r < count; ++r) {
      pointers.push_back(storage.data() + 1 + r * RowBytes(type, dimension));
    }
  }
  std::vector<uint8_t> storage;
  std::vector<const uint8_t*> pointers;
};

std::vector<float> RandomQuery(size_t dimension, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> query(dimension);
  double norm = 0;
  for (float& value : query) {
    value = normal(random);
    norm += value * value;
  }
  for (float& value : query) value = static_cast<float>(value / std::sqrt(norm));
  return query;
}

class KernelsTest : public testing::TestWithParam<SimdLevel> {
 protected:
  const Kernels& scalar_ = **FindKernels(SimdLevel::kScalar);
  const Kernels& kernels_ = **FindKernels(GetParam());
};

TEST_P(KernelsTest, ScoresAsPlainCodeDoes) {
  EXPECT_EQ(kernels_.level, GetParam());
  for (const Metric metric : kAllMetrics) {
    for (const ElementType type : kAllTypes) {
      for (const size_t dimension : kDimensions) {
        for (const size_t count : {0, 1, 3, 4, 5, 9}) {
          const Rows rows(type, dimension, count, dimension * 31 + count);
          const std::vector<float> query = RandomQuery(dimension, dimension);
          std::vector<float> expected(count + 1, -7);
          std::vector<float> actual(count + 1, -7);
          scalar_.ScoreRows(metric, type)(query.data(), rows.pointers.data(), count, dimension,
                                          expected.data());
          kernels_.ScoreRows(metric, type)(query.data(), rows.pointers.data(), count, dimension,
                                           actual.data());
          for (size_t i = 0; i < count; ++i) {
            // Terms are a few units each for L2, below one for the others.
            const float tolerance = 2e-5F * (1 + std::abs(expected[i]));
            EXPECT_NEAR(actual[i], expected[i], tolerance)
                << "metric " << static_cast<int>(metric) << " type " << static_cast<int>(type)
                << " dimension " << dimension << " row " << i << " of " << count;
          }
          EXPECT_EQ(actual[count], -7) << "wrote behind the last score";
        }
      }
    }
  }
}

TEST_P(KernelsTest, DecodesBitForBit) {
  for (const ElementType type : kAllTypes) {
    for (const size_t dimension : kDimensions) {
      const Rows rows(type, dimension, 1, dimension);
      std::vector<float> expected(dimension + 1, -7);
      std::vector<float> actual(dimension + 1, -7);
      scalar_.DecodeRow(type)(rows.pointers[0], dimension, expected.data());
      kernels_.DecodeRow(type)(rows.pointers[0], dimension, actual.data());
      EXPECT_EQ(actual, expected) << static_cast<int>(type) << " " << dimension;
    }
  }
}

TEST_P(KernelsTest, CosineOfZerosIsZero) {
  const std::vector<float> query = RandomQuery(24, 1);
  const std::vector<uint8_t> zeros(24 * 4 + 4);
  const std::vector<const uint8_t*> rows(5, zeros.data());
  for (const ElementType type : kAllTypes) {
    std::vector<float> scores(5, 1);
    kernels_.ScoreRows(Metric::kCosine, type)(query.data(), rows.data(), 5, 24, scores.data());
    EXPECT_EQ(scores, std::vector<float>(5, 0));
  }
}

TEST_P(KernelsTest, DotRowsIsExact) {
  std::mt19937_64 random(4);
  for (const size_t dimension : {64, 128, 192, 640, 4096}) {
    // As far as the sums fit.
    const auto largest =
        static_cast<int64_t>(std::min<size_t>(32767, (size_t{1} << 31) / (127 * dimension) - 1));
    for (const size_t count : {0, 1, 3, 4, 5, 9}) {
      std::vector<int16_t> query(dimension);
      for (int16_t& value : query) {
        value = static_cast<int16_t>(static_cast<int64_t>(random() % (2 * largest + 1)) - largest);
      }
      std::vector<int8_t> codes(dimension * count + 1);
      for (int8_t& code : codes) code = static_cast<int8_t>(random() % 255 - 127);
      std::vector<const int8_t*> rows;
      for (size_t r = 0; r < count; ++r) rows.push_back(codes.data() + 1 + r * dimension);
      // Once the greatest sum that there can be.
      if (count == 9) {
        std::fill(query.begin(), query.end(), static_cast<int16_t>(largest));
        std::fill(codes.begin(), codes.end(), int8_t{127});
      }
      std::vector<int32_t> expected(count + 1, -7);
      std::vector<int32_t> actual(count + 1, -7);
      scalar_.dot_rows(query.data(), rows.data(), count, dimension, expected.data());
      kernels_.dot_rows(query.data(), rows.data(), count, dimension, actual.data());
      EXPECT_EQ(actual, expected) << dimension << " x " << count;
    }
  }
}

TEST_P(KernelsTest, SumCodesIsExact) {
  std::mt19937_64 random(6);
  for (const size_t tables : {16, 32, 64, 256, 1024}) {
    for (const size_t blocks : {0, 1, 3}) {
      // The greatest entries that still fit.
      const size_t largest = std::min<size_t>(255, 65535 / tables);
      std::vector<uint8_t> lut(tables * 16 + 1);
      for (uint8_t& entry : lut) {
        entry = static_cast<uint8_t>(blocks == 3 ? largest : random() % (largest + 1));
      }
      std::vector<uint8_t> codes(blocks * tables * 16 + 1);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
      std::vector<uint16_t> expected(blocks * kBlockCodes + 1, 7);
      std::vector<uint16_t> actual(blocks * kBlockCodes + 1, 7);
      scalar_.sum_codes(codes.data() + 1, blocks, tables, lut.data() + 1, expected.data());
      kernels_.sum_codes(codes.data() + 1, blocks, tables, lut.data() + 1, actual.data());
      EXPECT_EQ(actual, expected) << tables << " tables, " << blocks << " blocks";
    }
  }
}

TEST_P(KernelsTest, HadamardKeepsNormsAndIsItsOwnInverse) {
  for (const size_t size : {8, 16, 64, 512, 4096}) {
    std::vector<float> values = RandomQuery(size, size);
    const std::vector<float> before = values;
    std::vector<float> expected = values;
    scalar_.hadamard(expected.data(), size);
    kernels_.hadamard(values.data(), size);
    double norm = 0;
    for (size_t i = 0; i < size; ++i) {
      EXPECT_NEAR(values[i], expected[i], 1e-5);
      norm += double{values[i]} * values[i];
    }
    EXPECT_NEAR(norm, 1, 1e-4);
    kernels_.hadamard(values.data(), size);
    for (size_t i = 0; i < size; ++i) EXPECT_NEAR(values[i], before[i], 1e-5);
  }
}

std::string LevelName(const testing::TestParamInfo<SimdLevel>& info) {
  return std::string(SimdLevelName(info.param));
}
INSTANTIATE_TEST_SUITE_P(Levels, KernelsTest, testing::ValuesIn(SupportedSimdLevels()), LevelName);

TEST(SimdLevelTest, ParsesWhatItNames) {
  for (const SimdLevel level : SupportedSimdLevels()) {
    const auto parsed = ParseSimdLevel(SimdLevelName(level));
    ASSERT_OK(parsed);
    EXPECT_EQ(*parsed, level);
  }
  EXPECT_EQ(*ParseSimdLevel("auto"), std::nullopt);
  EXPECT_THAT(ParseSimdLevel("avx9"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SimdLevelTest, TheBestIsTheLastSupported) {
  EXPECT_EQ(BestKernels().level, SupportedSimdLevels().back());
  EXPECT_EQ(*FindKernels(std::nullopt), &BestKernels());
}

}  // namespace
}  // namespace mnemo

// Every SIMD level of the codecs' inner loops against plain C++.
#include "storage/codec/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/codec/quantizer.h"
#include "storage/codec/tensor_codec.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tensors.h"

namespace mnemo::codec {
namespace {

constexpr size_t kDimensions[] = {8, 16, 24, 40, 64, 96, 128, 192, 256, 576};

// Behind what a kernel may write there is a guard.
constexpr float kGuard = -12345.0F;

std::vector<float> Normal(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<uint8_t> Noise(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected, float scale) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], 1e-5F * (scale + std::abs(expected[i]))) << i;
  }
}

class RowKernelsTest : public ::testing::TestWithParam<SimdLevel> {
 protected:
  const RowKernels& scalar_ = ScalarRowKernels();
  const RowKernels& kernels_ = *FindRowKernels(GetParam());
};

TEST_P(RowKernelsTest, UnpackWhatWasPacked) {
  const std::vector<std::vector<uint32_t>> splits = {{1}, {2},    {4},
                                                     {8}, {2, 1}, {2, 1, 1, 1, 2, 1}};
  for (const size_t padded : kDimensions) {
    for (const std::vector<uint32_t>& widths : splits) {
      uint32_t bits = 0;
      for (const uint32_t width : widths) bits += width;
      constexpr size_t kRows = 3;
      std::vector<uint8_t> codes = Noise(kRows * padded, padded + bits);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(code & ((1U << bits) - 1));
      // Each plane ends where its memory ends, for a sanitizer to see.
      std::vector<std::vector<uint8_t>> bytes;
      std::vector<CodePlane> planes;
      uint32_t below = bits;
      for (const uint32_t width : widths) {
        below -= width;
        bytes.emplace_back(kRows * PlaneRowBytes(padded, width));
        std::vector<uint8_t> part(padded);
        for (size_t row = 0; row < kRows; ++row) {
          for (size_t i = 0; i < padded; ++i) {
            part[i] =
                static_cast<uint8_t>((codes[row * padded + i] >> below) & ((1U << width) - 1));
          }
          PackRow(part.data(), padded, width,
                  bytes.back().data() + row * PlaneRowBytes(padded, width));
        }
      }
      for (size_t p = 0; p < widths.size(); ++p) planes.push_back({bytes[p].data(), widths[p]});
      std::vector<uint8_t> out(codes.size() + 1, 0xee);
      kernels_.unpack(planes.data(), planes.size(), kRows, padded, out.data());
      EXPECT_EQ(out.back(), 0xee);
      out.pop_back();
      EXPECT_EQ(out, codes) << padded << " " << bits;
    }
  }
}

TEST_P(RowKernelsTest, LookUpExactly) {
  for (const size_t count : {0u, 1u, 8u, 24u, 64u, 100u, 513u}) {
    for (const LevelTable* table :
         {&LloydMaxLevels(1), &LloydMaxLevels(4), &LloydMaxLevels(5), &ProgressiveLevels(3),
          &ProgressiveLevels(5), &ProgressiveLevels(8)}) {
      std::vector<uint8_t> codes = Noise(count, count);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(code % table->count);
      std::vector<float> expected(count + 1, kGuard), actual(count + 1, kGuard);
      scalar_.look_up(codes.data(), *table, count, expected.data());
      kernels_.look_up(codes.data(), *table, count, actual.data());
      EXPECT_EQ(actual, expected) << table->count;
    }
  }
}

TEST_P(RowKernelsTest, ScaleAsPlainCodeDoes) {
  for (const size_t padded : kDimensions) {
    constexpr size_t kRows = 3;
    const size_t count = kRows * padded;
    const std::vector<uint8_t> codes = Noise(count, 1);
    const std::vector<float> scale = Normal(count, 2), offset = Normal(count, 3);
    const std::vector<float> gains = Normal(kRows, 4);
    std::vector<float> expected(count + 1, kGuard), actual(count + 1, kGuard);
    scalar_.scale_codes(codes.data(), scale.data(), offset.data(), count, expected.data());
    kernels_.scale_codes(codes.data(), scale.data(), offset.data(), count, actual.data());
    ExpectNear(actual, expected, 255);
    scalar_.scale_rows(expected.data(), gains.data(), scale.data(), offset.data(), kRows, padded);
    actual.assign(expected.begin(), expected.end());
    expected = Normal(count, 5);
    expected.push_back(kGuard);
    actual = expected;
    scalar_.scale_rows(expected.data(), gains.data(), scale.data(), offset.data(), kRows, padded);
    kernels_.scale_rows(actual.data(), gains.data(), scale.data(), offset.data(), kRows, padded);
    ExpectNear(actual, expected, 10);
  }
}

TEST_P(RowKernelsTest, TransformAsPlainCodeDoes) {
  for (size_t size = 8; size <= 4096; size *= 2) {
    std::vector<float> expected = Normal(size, size);
    expected.push_back(kGuard);
    std::vector<float> actual = expected;
    scalar_.hadamard(expected.data(), size);
    kernels_.hadamard(actual.data(), size);
    ExpectNear(actual, expected, 10);
  }
}

TEST_P(RowKernelsTest, TurnAsPlainCodeDoes) {
  for (const size_t dimension : kDimensions) {
    for (const bool interleaved : {false, true}) {
      for (const float sign : {1.0F, -1.0F}) {
        constexpr size_t kRows = 2;
        const size_t stride = PaddedDimension(dimension) + 8;
        std::vector<float> expected = Normal(kRows * stride, dimension);
        std::vector<float> actual = expected;
        std::vector<float> cosine = Normal(dimension, 1), sine = Normal(dimension, 2);
        scalar_.turn(expected.data(), cosine.data(), sine.data(), sign, interleaved, kRows,
                     dimension, stride);
        kernels_.turn(actual.data(), cosine.data(), sine.data(), sign, interleaved, kRows,
                      dimension, stride);
        ExpectNear(actual, expected, 10);
        const std::vector<float> steps = Normal(dimension, 3), step_sines = Normal(dimension, 4);
        std::vector<float> cosine_too = cosine, sine_too = sine;
        scalar_.advance(cosine.data(), sine.data(), steps.data(), step_sines.data(), dimension);
        kernels_.advance(cosine_too.data(), sine_too.data(), steps.data(), step_sines.data(),
                         dimension);
        ExpectNear(cosine_too, cosine, 10);
        ExpectNear(sine_too, sine, 10);
      }
    }
  }
}

TEST_P(RowKernelsTest, ConvertBitForBit) {
  // All halves and bfloats and what lies between them; too large; zeros.
  std::vector<float> values = {0.0F, -0.0F, 1e30F, -1e30F, 65519, 65520, 3.4e38F, 1e-40F, 6e-8F};
  std::mt19937_64 random(9);
  while (values.size() < 200'003) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(value)) values.push_back(value);
    const auto exponent = static_cast<int>(random() % 40) - 28;
    values.push_back(std::ldexp(static_cast<float>(random() % 8192) / 2048, exponent));
  }
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kFp8E4M3, DType::kFp8E5M2}) {
    const size_t width = BitsOf(dtype) / 8;
    std::vector<uint8_t> expected(values.size() * width + 1, 0xee);
    std::vector<uint8_t> actual = expected;
    scalar_.Store(dtype, values.data(), values.size(), expected.data());
    kernels_.Store(dtype, values.data(), values.size(), actual.data());
    EXPECT_EQ(actual, expected) << static_cast<int>(dtype);
    std::vector<float> was(values.size() + 1, kGuard), is(values.size() + 1, kGuard);
    scalar_.Load(dtype, expected.data(), values.size(), was.data());
    kernels_.Load(dtype, expected.data(), values.size(), is.data());
    EXPECT_EQ(is, was) << static_cast<int>(dtype);
  }
}

TEST_P(RowKernelsTest, ProjectAndMixTiles) {
  constexpr size_t kAxes = 11;
  for (const size_t padded : kDimensions) {
    const size_t stride = padded + 8;
    const std::vector<float> axes = Normal(kAxes * padded, padded);
    const std::vector<float> rows = Normal(kTileTokens * stride, padded + 1);
    for (const size_t tokens : {1u, 4u, 13u, 16u}) {
      std::vector<float> was(kAxes * kTileTokens, kGuard), is = was;
      scalar_.project(rows.data(), stride, tokens, axes.data(), kAxes, padded, was.data());
      kernels_.project(rows.data(), stride, tokens, axes.data(), kAxes, padded, is.data());
      ExpectNear(is, was, static_cast<float>(padded));
    }
    const std::vector<float> weights = Normal(kAxes * kTileTokens, padded + 2);
    const std::vector<float> offset = Normal(padded, padded + 3);
    std::vector<float> was(kTileTokens * stride, kGuard), is = was;
    scalar_.mix(weights.data(), axes.data(), offset.data(), kAxes, padded, was.data(), stride);
    kernels_.mix(weights.data(), axes.data(), offset.data(), kAxes, padded, is.data(), stride);
    ExpectNear(is, was, kAxes);
  }
}

TEST_P(RowKernelsTest, PlaceCodesAtTheirPoints) {
  std::mt19937_64 random(7);
  for (const size_t count : {1u, 5u, 6u}) {
    std::vector<int16_t> codes(count * kTileTokens), inward(2 * count);
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<int16_t>(i < 40 ? static_cast<int>(i % 5) - 2 : random());
    }
    for (int16_t& less : inward) less = static_cast<int16_t>(random() % 255) - 127;
    inward[0] = 64;
    inward[count] = -32;
    for (const uint32_t shift : {4u, 8u}) {
      std::vector<int16_t> was((count + 1) / 2 * 2 * kTileTokens + 1, 1234), is = was;
      scalar_.place(codes.data(), inward.data(), shift, count, was.data());
      kernels_.place(codes.data(), inward.data(), shift, count, is.data());
      EXPECT_EQ(is, was);
      EXPECT_EQ(was.back(), 1234);
    }
    // At 256 units a step. Points of the same token are neighbours.
    std::vector<int16_t> points((count + 1) / 2 * 2 * kTileTokens);
    kernels_.place(codes.data(), inward.data(), 8, count, points.data());
    const std::vector<int16_t> expected = {-2 * 256 - 32, -256 + 64, 0, 256 - 64, 2 * 256 + 32};
    for (size_t t = 0; t < expected.size(); ++t) EXPECT_EQ(points[2 * t], expected[t]) << t;
    if (count == 1) {
      EXPECT_EQ(points[1], 0);
    }
  }
}

// Sums are whole numbers: the same at every level, also where they wrap around.
TEST_P(RowKernelsTest, MixPointsExactly) {
  std::mt19937_64 random(11);
  const auto any = [&](size_t count) {
    std::vector<int16_t> made(count);
    for (int16_t& value : made) value = static_cast<int16_t>(random());
    return made;
  };
  for (const size_t padded : kDimensions) {
    const size_t stride = padded + 8;
    for (const size_t count : {0u, 2u, 12u}) {
      const std::vector<int16_t> points = any(count * kTileTokens), axes = any(count * padded);
      const std::vector<float> ones(kTileTokens, 1), zeros(padded, 0);
      std::vector<float> was(kTileTokens * stride, kGuard), is = was;
      scalar_.mix_points(points.data(), axes.data(), ones.data(), zeros.data(), 0, count, padded,
                         was.data(), stride);
      kernels_.mix_points(points.data(), axes.data(), ones.data(), zeros.data(), 0, count, padded,
                          is.data(), stride);
      EXPECT_EQ(is, was) << padded;
      // By steps, on top of what is there.
      std::vector<float> steps = Normal(kTileTokens, 8);
      for (float& step : steps) step *= 1e-9F;
      was = is = Normal(kTileTokens * stride, padded);
      scalar_.mix_points(points.data(), axes.data(), steps.data(), was.data(), stride, count,
                         padded, was.data(), stride);
      kernels_.mix_points(points.data(), axes.data(), steps.data(), is.data(), stride, count,
                          padded, is.data(), stride);
      ExpectNear(is, was, 10);
    }
  }
  // Two coordinates of one token, by hand.
  std::vector<int16_t> points(2 * kTileTokens), axes(2 * 8);
  points[2 * 3] = -5, points[2 * 3 + 1] = 7;
  axes[2 * 6] = 100, axes[2 * 6 + 1] = 1000;
  std::vector<float> steps(kTileTokens, 0.5F), begin(8, 1), rows(kTileTokens * 8);
  kernels_.mix_points(points.data(), axes.data(), steps.data(), begin.data(), 0, 2, 8, rows.data(),
                      8);
  EXPECT_EQ(rows[3 * 8 + 6], 1 + 0.5F * 6500);
  EXPECT_EQ(rows[3 * 8 + 5], 1);
}

// The whole way: sections decode to the same at every level, but for rounding.
TEST_P(RowKernelsTest, DecodeSectionsAsPlainCodeDoes) {
  CalibrationSet set;
  TensorDecoder plain(set, SimdLevel::kScalar);
  TensorDecoder fast(set, GetParam());
  for (const CodecId id :
       {CodecId::kKivi, CodecId::kRotated, CodecId::kProgressive, CodecId::kTransform}) {
    for (const uint32_t dimension : {24u, 64u, 128u}) {
      const TensorShape shape = {
          .dtype = DType::kF32, .tokens = 40, .heads = 3, .dimension = dimension};
      const auto codec = TensorCodec::Create(id, 4).value();
      const auto exact = ::mnemo::testing::NormalTensor(shape, dimension);
      std::vector<uint8_t> encoded(codec->MaxEncodedSize(shape));
      std::shared_ptr<const Calibration> calibration;
      if (id == CodecId::kTransform) {
        calibration = ::mnemo::testing::CalibrationOfNormal(shape, CalibrationKind::kAxes);
        set.Add(calibration);
      }
      encoded.resize(codec->Encode(shape, exact, calibration.get(), encoded)->bytes);
      std::vector<float> was(shape.bytes() / 4), is(shape.bytes() / 4);
      const auto bytes = [](std::vector<float>& values) {
        return MutableByteView(reinterpret_cast<uint8_t*>(values.data()), values.size() * 4);
      };
      ASSERT_OK(plain.Decode(encoded, shape, TensorSlice::All(shape), bytes(was)));
      ASSERT_OK(fast.Decode(encoded, shape, TensorSlice::All(shape), bytes(is)));
      ExpectNear(is, was, 50);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, RowKernelsTest, ::testing::ValuesIn(SupportedSimdLevels()),
                         [](const auto& info) { return std::string(SimdLevelName(info.param)); });

}  // namespace
}  // namespace mnemo::codec

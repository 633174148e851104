// Rotated codes and their progressive form: published distortions, planes, keys
// without positions.
#include <cmath>

#include "storage/codec/quantizer.h"
#include "storage/codec/tensor_codec.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tensors.h"

namespace mnemo {
namespace {

using ::mnemo::testing::Bytes;
using ::mnemo::testing::CapturedBlock;
using ::mnemo::testing::CapturedModel;
using ::mnemo::testing::CapturedModels;
using ::mnemo::testing::Coded;
using ::mnemo::testing::Encode;
using ::mnemo::testing::LoadCaptured;
using ::mnemo::testing::PutRow;
using ::testing::HasSubstr;

// Independent normal values: what the published distortions are of.
Bytes GaussianTensor(const TensorShape& shape) {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  Bytes bytes(shape.bytes());
  std::vector<float> row(shape.dimension);
  for (uint32_t token = 0; token < shape.tokens; ++token) {
    for (float& value : row) value = normal(random);
    PutRow(shape, row, 0, token, 0, bytes);
  }
  return bytes;
}

double Distortion(const EncodedTensor& facts) {
  return facts.error.squared_errors / facts.error.squares;
}

// 262,144 values, so the figures are good to half a percent or so.
constexpr TensorShape kGaussian = {.role = TensorRole::kValues,
                                   .dtype = DType::kF32,
                                   .tokens = 1024,
                                   .heads = 1,
                                   .dimension = 256};

TEST(RotatedTest, HasThePublishedDistortionsOfNormalValues) {
  const Bytes exact = GaussianTensor(kGaussian);
  const double published[] = {0.3634, 0.1175, 0.03454, 0.009501, 0.002499};
  for (uint32_t bits = 1; bits <= 5; ++bits) {
    EXPECT_NEAR(
        Distortion(Encode(CodecId::kRotated, bits, kGaussian, exact).facts) / published[bits - 1],
        1, 0.02)
        << bits;
  }
}

TEST(ProgressiveTest, IsNextToTheBestAtEachFidelity) {
  const Bytes exact = GaussianTensor(kGaussian);
  const std::pair<uint32_t, double> published[] = {{2, 0.1177}, {3, 0.0347}, {4, 0.0097}};
  for (const auto& [bits, distortion] : published) {
    EXPECT_NEAR(
        Distortion(Encode(CodecId::kProgressive, bits, kGaussian, exact).facts) / distortion, 1,
        0.02)
        << bits;
  }
  // Each bit more takes three quarters of the error off, or nearly.
  EXPECT_LT(Distortion(Encode(CodecId::kProgressive, 5, kGaussian, exact).facts), 0.0097 / 3.2);
  EXPECT_LT(Distortion(Encode(CodecId::kProgressive, 8, kGaussian, exact).facts), 0.0002);
}

TEST(QuantizerTest, LevelsAreTheMeansOfTheirCells) {
  // Lloyd's conditions, by integration.
  for (uint32_t bits = 1; bits <= 5; ++bits) {
    const codec::LevelTable& levels = codec::LloydMaxLevels(bits);
    const codec::Thresholds& thresholds = codec::LloydMaxThresholds(bits);
    std::vector<double> sum(levels.count), mass(levels.count);
    for (int step = -80'000; step < 80'000; ++step) {
      const double x = (step + 0.5) * 1e-4;
      const uint8_t code = thresholds.CodeOf(static_cast<float>(x));
      ASSERT_LT(code, levels.count);
      mass[code] += std::exp(-x * x / 2);
      sum[code] += x * std::exp(-x * x / 2);
    }
    for (uint32_t code = 0; code < levels.count; ++code) {
      EXPECT_NEAR(levels.values[code], sum[code] / mass[code], 6e-4) << bits << " " << code;
      EXPECT_EQ(levels.values[code], static_cast<float>(levels.units[code]) / 4096);
    }
  }
}

TEST(QuantizerTest, CutCodesStandForTheCentroidsOfTheirCells) {
  for (const uint32_t bits : {2u, 3u, 4u, 5u, 8u}) {
    const codec::LevelTable& levels = codec::ProgressiveLevels(bits);
    ASSERT_EQ(levels.count, 1u << bits);
    std::vector<double> sum(levels.count), mass(levels.count);
    for (int step = -80'000; step < 80'000; ++step) {
      const double x = (step + 0.5) * 1e-4;
      const size_t code =
          codec::ProgressiveThresholds().CodeOf(static_cast<float>(x)) >> (8 - bits);
      mass[code] += std::exp(-x * x / 2);
      sum[code] += x * std::exp(-x * x / 2);
    }
    for (uint32_t code = 0; code < levels.count; ++code) {
      EXPECT_NEAR(levels.values[code], sum[code] / mass[code], 1e-3) << bits << " " << code;
    }
  }
}

TEST(RotatedTest, CostsItsBitsAndOneNumberARow) {
  const TensorShape shape = {.layers = 2, .tokens = 64, .heads = 2, .dimension = 128};
  const Bytes exact = ::mnemo::testing::NormalTensor(shape, 1);
  for (uint32_t bits = 1; bits <= 5; ++bits) {
    const size_t size = Encode(CodecId::kRotated, bits, shape, exact).bytes.size();
    EXPECT_NEAR(8.0 * static_cast<double>(size) / (2.0 * 64 * 2 * 128), bits + 16.0 / 128, 0.01);
  }
}

// The bytes themselves: these must decode for ever. The values are those of a
// second implementation, in numpy.
TEST(RotatedTest, DecodesTheBytesOfItsFormat) {
  const CalibrationSet none;
  TensorDecoder decoder(none);
  // 24 values take the rotation of four rounds; gain 2, 3 bits, codes 0 to 7 thrice.
  const TensorShape shape = {.dtype = DType::kF32, .tokens = 1, .heads = 1, .dimension = 24};
  const Bytes section = {1, 3, 3,    1,    1,    1,    1,    24,   0,    0,    0,    0,
                         0, 0, 0x40, 0x6c, 0x6c, 0xb1, 0xb1, 0xc6, 0xc6, 0xaa, 0xaa, 0xaa};
  std::vector<float> decoded(24);
  ASSERT_OK(decoder.Decode(section, shape, TensorSlice::All(shape),
                           {reinterpret_cast<uint8_t*>(decoded.data()), 96}));
  const std::vector<float> expected = {
      -0.010254F, -4.313232F, -1.793701F, 3.996582F, -2.601562F, -1.676270F, 1.308594F, -0.939941F,
      -0.326172F, -0.113037F, 6.219971F,  0.132812F, 1.476074F,  1.676270F,  3.485352F, -3.241211F,
      -0.685303F, -0.419434F, 6.771484F,  1.273193F, 1.221436F,  -1.784180F, 0.122559F, -0.633545F};
  for (size_t i = 0; i < 24; ++i) EXPECT_NEAR(decoded[i], expected[i], 1e-5) << i;
}

TEST(ProgressiveTest, DroppingPlanesIsDecodingFewerBits) {
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    const TensorShape shape = {.role = role,
                               .layers = 2,
                               .tokens = 20,
                               .heads = 3,
                               .dimension = 64,
                               .tail_bytes = 3,
                               .exact_tokens = 4};
    const Bytes exact = ::mnemo::testing::NormalTensor(shape, 2);
    const Coded full = Encode(CodecId::kProgressive, 8, shape, exact);
    const CalibrationSet none;
    TensorDecoder decoder(none);
    Bytes demoted = full.bytes;
    double before = 0;
    for (const uint32_t bits : {5u, 4u, 3u, 2u}) {
      Bytes taken(shape.bytes()), left(shape.bytes());
      ASSERT_OK(decoder.Decode(full.bytes, shape, TensorSlice::All(shape), taken, bits));
      ASSERT_OK_AND_ASSIGN(const uint64_t size, Demote(demoted, bits));
      EXPECT_LT(size, demoted.size());
      demoted.resize(size);
      ASSERT_OK(decoder.Decode(demoted, shape, TensorSlice::All(shape), left));
      EXPECT_EQ(left, taken);
      // It is the section that encoding at these bits would have made.
      const Coded fresh = Encode(CodecId::kProgressive, bits, shape, exact);
      EXPECT_EQ(fresh.bytes, demoted);
      EXPECT_GT(fresh.facts.error.relative(), before);
      before = fresh.facts.error.relative();
    }
    EXPECT_THAT(Demote(demoted, 4),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("progressive of 2 bits")));
    Bytes into(shape.bytes());
    EXPECT_THAT(decoder.Decode(demoted, shape, TensorSlice::All(shape), into, 3),
                StatusIs(absl::StatusCode::kInvalidArgument));
    demoted.pop_back();
    EXPECT_THAT(Demote(demoted, 2), StatusIs(absl::StatusCode::kDataLoss));
  }
  const TensorShape shape = {.tokens = 8, .heads = 1, .dimension = 64};
  Bytes rotated =
      Encode(CodecId::kRotated, 4, shape, ::mnemo::testing::NormalTensor(shape, 3)).bytes;
  EXPECT_THAT(Demote(rotated, 2), StatusIs(absl::StatusCode::kInvalidArgument));
}

// Keys of real models, with their positions taken off, centred and evened out, lose
// far less than as they are.
TEST(RotatedTest, ACalibrationMakesKeysEasier) {
  for (const CapturedModel& model : CapturedModels()) {
    const auto calibration = ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, model);
    ASSERT_NE(calibration, nullptr);
    for (const uint32_t tokens : {16u, 256u}) {
      const CapturedBlock block =
          LoadCaptured(MNEMO_TEST_DATA, model, "heldout", TensorRole::kKeys, tokens, 2);
      const double plain =
          Encode(CodecId::kRotated, 3, block.shape, block.bytes).facts.error.relative();
      const Coded coded = Encode(CodecId::kRotated, 3, block.shape, block.bytes, calibration.get());
      EXPECT_LT(coded.facts.error.relative(), 0.75 * plain) << model.name << " " << tokens;

      // Any token is decoded at its own position.
      CalibrationSet set;
      set.Add(calibration);
      TensorDecoder decoder(set);
      Bytes whole(block.bytes.size());
      ASSERT_OK(decoder.Decode(coded.bytes, block.shape, TensorSlice::All(block.shape), whole));
      TensorSlice last = TensorSlice::All(block.shape);
      last.first_token = tokens - 1;
      last.tokens = 1;
      const TensorShape one = ShapeOf(block.shape, last);
      Bytes token(one.bytes());
      ASSERT_OK(decoder.Decode(coded.bytes, block.shape, last, token));
      for (uint32_t layer = 0; layer < 2; ++layer) {
        EXPECT_EQ(::mnemo::testing::RowAt(one, token, layer, 0, 0),
                  ::mnemo::testing::RowAt(block.shape, whole, layer, tokens - 1, 0));
      }
    }
  }
}

}  // namespace
}  // namespace mnemo

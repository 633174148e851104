// The transform codec: its distortion, what it does to keys and values of models, and
// what it asks of a calibration.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "storage/base/checksum.h"
#include "storage/codec/tensor_codec.h"
#include "storage/codec/transform_basis.h"
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
using ::mnemo::testing::RowAt;
using ::testing::HasSubstr;

constexpr uint32_t kWidth = 32;
constexpr TensorShape kShape = {.role = TensorRole::kValues,
                                .dtype = DType::kF32,
                                .tokens = 512,
                                .heads = 1,
                                .dimension = kWidth};

// Normal values in a basis that no channel is in: coordinate i has the deviation 2^(-decay i).
Bytes MixedTensor(const TensorShape& shape, uint64_t seed, float scale = 1, float decay = 0.25F) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Bytes bytes(shape.bytes());
  std::vector<float> row(kWidth);
  for (uint32_t token = 0; token < shape.tokens; ++token) {
    std::fill(row.begin(), row.end(), 0.0F);
    for (uint32_t i = 0; i < kWidth; ++i) {
      const float along = scale * normal(random) * std::exp2(-decay * static_cast<float>(i));
      // The orthonormal cosines.
      for (uint32_t j = 0; j < kWidth; ++j) {
        row[j] += along * static_cast<float>(std::sqrt((i == 0 ? 1.0 : 2.0) / kWidth) *
                                             std::cos(std::numbers::pi * i * (j + 0.5) / kWidth));
      }
    }
    PutRow(shape, row, 0, token, 0, bytes);
  }
  return bytes;
}

std::shared_ptr<const Calibration> CalibrationOfMixed(CalibrationKind kind,
                                                      const TensorShape& shape, float scale = 1,
                                                      float decay = 0.25F) {
  CalibrationFit fit =
      CalibrationFit::Create(
          {.layers = 1, .heads = 1, .k_dimension = kWidth, .v_dimension = kWidth, .ropes = {{}}},
          kind)
          .value();
  TensorShape many = shape;
  many.tokens = 8192;
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    many.role = role;
    EXPECT_OK(fit.Add(many, MixedTensor(many, 1, scale, decay)));
  }
  return fit.Finish().value();
}

// min sum lambda_i 4^-b_i, and a uniform quantiser's part in it: where all coordinates are
// coded, step^2 / 12 each, at log2(sqrt(2 pi e) deviation / step) bits (Gish and Pierce 1968).
TEST(TransformTest, HasTheDistortionOfAUniformQuantiserAtEachSize) {
  TensorShape shape = kShape;
  shape.role = TensorRole::kKeys;
  const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, shape);
  const Bytes exact = MixedTensor(shape, 2);
  for (const uint32_t bits : {3u, 4u, 5u}) {
    const Coded coded = Encode(CodecId::kTransform, bits, shape, exact, calibration.get());
    const double spent =
        8.0 * static_cast<double>(coded.bytes.size()) / (double{kWidth} * shape.tokens);
    EXPECT_NEAR(spent, bits, 0.06 * bits);
    double logs = 0;
    double squares = 0;
    for (uint32_t i = 0; i < kWidth; ++i) {
      logs += -0.25 * i / kWidth;
      squares += std::exp2(-0.5 * i) / kWidth;
    }
    const double step = std::sqrt(2 * std::numbers::pi * std::numbers::e) * std::exp2(logs - spent);
    const double expected = step * step / 12 / squares;
    EXPECT_NEAR(coded.facts.error.squared_errors / coded.facts.error.squares / expected, 1, 0.12)
        << bits;
  }
}

// Codes of up to some thousands of steps, which take another way than the usual ones, err no more.
TEST(TransformTest, HasOneErrorForCoordinatesOfAnySpread) {
  constexpr float kDecay = 0.5F;
  TensorShape shape = kShape;
  shape.role = TensorRole::kKeys;
  const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, shape, 1, kDecay);
  const codec::TransformBasis& basis = *calibration->basis(shape.role);
  const Bytes exact = MixedTensor(shape, 2, 1, kDecay);
  for (const uint32_t bits : {1u, 2u, 3u, 4u, 5u}) {
    const Coded coded = Encode(CodecId::kTransform, bits, shape, exact, calibration.get());
    const double step = std::exp2(basis.step(0, bits) / double{codec::kLevelsAnOctave});
    // In octaves over a step.
    const double widest = (basis.spreads[0] - basis.step(0, bits)) / double{codec::kLevelsAnOctave};
    EXPECT_GT(widest, 2 * bits);
    // What is not coded, for it spreads less than a step, errs less.
    const double squares = coded.facts.error.squared_errors / (double{kWidth} * shape.tokens);
    EXPECT_LT(squares / (step * step / 12), 1.1) << bits;
    if (bits == 5) {
      EXPECT_GT(widest, 9);
      EXPECT_GT(squares / (step * step / 12), 0.7);
    }
  }
}

// What it is for: less error than the rotated codec at the same size. Not Gemma's values: axes of
// 256 dimensions from no more than 1,024 tokens are not worth having for what is spread so evenly.
TEST(TransformTest, ErrsLessThanRotatedCodesAtTheirSize) {
  for (const CapturedModel& model : CapturedModels()) {
    const auto calibration =
        ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, model, CalibrationKind::kAxes);
    ASSERT_NE(calibration, nullptr);
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      if (model.name == "gemma" && role == TensorRole::kValues) continue;
      for (const uint32_t tokens : {16u, 256u}) {
        const CapturedBlock block =
            LoadCaptured(MNEMO_TEST_DATA, model, "heldout", role, tokens, 2);
        // An error that halves with each bit, as both do, at 0 bits.
        const auto at_no_bits = [&](CodecId id) {
          const Coded coded = Encode(id, 2, block.shape, block.bytes, calibration.get());
          const double bits = 16.0 * static_cast<double>(coded.bytes.size()) /
                              static_cast<double>(block.bytes.size());
          return coded.facts.error.relative() * std::exp2(bits);
        };
        EXPECT_LT(at_no_bits(CodecId::kTransform), 0.9 * at_no_bits(CodecId::kRotated))
            << model.name << " " << tokens << " " << static_cast<int>(role);
      }
    }
  }
}

TEST(TransformTest, RowsOfValuesAreCodedRelativeToTheirSize) {
  const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, kShape);
  const auto relative = [&](float scale) {
    return Encode(CodecId::kTransform, 4, kShape, MixedTensor(kShape, 3, scale), calibration.get())
        .facts.error.relative();
  };
  const double usual = relative(1);
  EXPECT_LT(usual, 0.06);
  EXPECT_NEAR(relative(0.01F) / usual, 1, 0.1);
  EXPECT_NEAR(relative(1000) / usual, 1, 0.1);
}

TEST(TransformTest, AKeyBeyondWhatWasSeenIsCodedWithALargerStep) {
  TensorShape shape = kShape;
  shape.role = TensorRole::kKeys;
  const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, shape);
  const auto relative = [&](float scale) {
    return Encode(CodecId::kTransform, 3, shape, MixedTensor(shape, 3, scale), calibration.get())
        .facts.error.relative();
  };
  EXPECT_LT(relative(1000), 0.2);
  // Up to where no step is large enough.
  const auto tiny = CalibrationOfMixed(CalibrationKind::kAxes, shape, 1e-5F);
  const auto codec = TensorCodec::Create(CodecId::kTransform, 3).value();
  Bytes into(codec->MaxEncodedSize(shape));
  EXPECT_THAT(codec->Encode(shape, MixedTensor(shape, 3, 10'000), tiny.get(), into),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("too large")));
}

// A calibration of one head of two dimensions, byte by byte.
std::string GoldenCalibration() {
  std::string bytes = "MENC";
  for (const uint32_t number : {2u, 1u, 1u, 2u, 0u}) AppendLittle(bytes, number);
  bytes.append(16, '\0');  // no RoPE
  for (const float number : {1.0F, -2.0F, 1.0F, 1.0F, 0.0F, 0.0F, 0.0F, 0.0F}) {
    AppendLittle(bytes, number);
  }
  // 0.6 0.8 and 0.8 -0.6, in fp16.
  for (const uint16_t half : {0x38cd, 0x3a66, 0x3a66, 0xb8cd}) AppendLittle(bytes, half);
  // Spreads, unit, steps.
  for (const int16_t level : {48, 0, 1, 16, 0, -16, -32, -48}) AppendLittle(bytes, level);
  uint8_t table = 0;
  for (const int m : {5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 24, 31}) {
    AppendLittle(bytes, table);
    AppendLittle(bytes, static_cast<uint8_t>(2 * table++));
    for (int symbol = 0; symbol <= 2 * m; ++symbol) {
      AppendLittle(bytes, static_cast<uint16_t>(symbol == m ? 4096 - 120 * m : 60));
    }
  }
  for (int gain = 0; gain < 64; ++gain) AppendLittle(bytes, uint16_t{64});
  AppendLittle(bytes, Checksum64(AsBytes(bytes)));
  return bytes;
}

TEST(TransformTest, RefusesValuesWhoseSumsAreNoNumbers) {
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    TensorShape shape = kShape;
    shape.role = role;
    const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, shape);
    Bytes exact = MixedTensor(shape, 3);
    std::vector<float> row(kWidth, 3e38F);
    for (size_t i = 0; i < kWidth; i += 2) row[i] = -3e38F;
    PutRow(shape, row, 0, 100, 0, exact);
    const auto codec = TensorCodec::Create(CodecId::kTransform, 3).value();
    Bytes into(codec->MaxEncodedSize(shape));
    EXPECT_THAT(codec->Encode(shape, exact, calibration.get(), into),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("too large")));
  }
}

// What the largest numbers of a calibration and of a stream may come to is finite.
TEST(TransformTest, NoCodeLeavesTheRangeOfFloats) {
  std::string bytes = GoldenCalibration();
  bytes.resize(bytes.size() - 8);
  // Spreads, unit, steps.
  const size_t at = 24 + 16 + 8 * 4 + 4 * 2;
  for (size_t i = 0; i < 8; ++i) {
    StoreLittle(bytes.data() + at + 2 * i, static_cast<int16_t>(i == 2 ? 64 : 511));
  }
  AppendLittle(bytes, Checksum64(AsBytes(bytes)));
  ASSERT_OK_AND_ASSIGN(const auto calibration, Calibration::Parse(AsBytes(bytes)));
  CalibrationSet set;
  set.Add(calibration);
  TensorDecoder decoder(set);
  const TensorShape shape = {.dtype = DType::kF32, .tokens = 256, .heads = 1, .dimension = 2};
  Bytes section = {1, 5, 2, 0x41, 1, 0x80, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 7};
  StoreLittle(section.data() + 14, calibration->id());
  section.resize(section.size() + 2 * 1023, 0xff);
  std::vector<float> decoded(512);
  ASSERT_OK(decoder.Decode(section, shape, TensorSlice::All(shape),
                           {reinterpret_cast<uint8_t*>(decoded.data()), 2048}));
  EXPECT_GT(*std::max_element(decoded.begin(), decoded.end()), 1e20F);
  for (const float value : decoded) {
    ASSERT_TRUE(std::isfinite(value));
    ASSERT_LT(std::abs(value), 1e37F);
  }
}

TEST(TransformTest, TakesACalibrationWithAxesAndNoOther) {
  const auto codec = TensorCodec::Create(CodecId::kTransform, 2).value();
  const auto with_axes = CalibrationOfMixed(CalibrationKind::kAxes, kShape);
  const auto without = CalibrationOfMixed(CalibrationKind::kStatistics, kShape);
  const Bytes exact = MixedTensor(kShape, 4);
  Bytes into(codec->MaxEncodedSize(kShape));
  for (const Calibration* none : {static_cast<const Calibration*>(nullptr), without.get()}) {
    EXPECT_THAT(codec->Encode(kShape, exact, none, into),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("with axes")));
  }
  TensorShape other = kShape;
  other.first_head = 1;
  EXPECT_THAT(codec->Encode(other, exact, with_axes.get(), into),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads to 2")));

  Coded coded = Encode(CodecId::kTransform, 2, kShape, exact, with_axes.get());
  CalibrationSet set;
  TensorDecoder decoder(set);
  Bytes decoded(exact.size());
  const auto decode = [&] {
    return decoder.Decode(coded.bytes, kShape, TensorSlice::All(kShape), decoded);
  };
  EXPECT_THAT(decode(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is not here")));
  set.Add(with_axes);
  EXPECT_OK(decode());
  // One that names another's calibration, which has none.
  set.Add(without);
  constexpr size_t kIdAt = 4 + 10;  // the tokens' varint has two bytes
  ASSERT_EQ(LoadLittle<uint32_t>(coded.bytes.data() + kIdAt), with_axes->id());
  StoreLittle(coded.bytes.data() + kIdAt, without->id());
  EXPECT_THAT(decode(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no axes")));
  // One that names none.
  coded.bytes[3] &= 0xbf;
  coded.bytes.erase(coded.bytes.begin() + kIdAt, coded.bytes.begin() + kIdAt + 4);
  EXPECT_THAT(decode(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("names no calibration")));
}

TEST(TransformTest, AStreamThatLiesOfItsLengthIsDamage) {
  const auto calibration = CalibrationOfMixed(CalibrationKind::kAxes, kShape);
  CalibrationSet set;
  set.Add(calibration);
  TensorDecoder decoder(set);
  const Bytes exact = MixedTensor(kShape, 5);
  const Coded coded = Encode(CodecId::kTransform, 2, kShape, exact, calibration.get());
  Bytes decoded(exact.size());
  constexpr size_t kWordsAt = 4 + 10 + 4;
  for (const int change : {-1, 1, 64}) {
    Bytes bad = coded.bytes;
    bad[kWordsAt] =
        static_cast<uint8_t>((bad[kWordsAt] & 0x80) | ((bad[kWordsAt] + change) & 0x7f));
    EXPECT_THAT(decoder.Decode(bad, kShape, TensorSlice::All(kShape), decoded),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

// The bytes themselves: these must decode for ever. Stream and values are those of a second
// implementation, in Python. Three tokens: gains 24, 25, 20; codes -7 and 1, 31 and 0, 2 and -5.
TEST(TransformTest, DecodesTheBytesOfItsFormat) {
  ASSERT_OK_AND_ASSIGN(const auto calibration, Calibration::Parse(AsBytes(GoldenCalibration())));
  CalibrationSet set;
  set.Add(calibration);
  TensorDecoder decoder(set);
  const TensorShape shape = {.dtype = DType::kF32, .tokens = 3, .heads = 1, .dimension = 2};
  Bytes section = {1, 5, 2, 0x41, 1, 3, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  StoreLittle(section.data() + 13, calibration->id());
  const Bytes stream = {6, 0x0b, 0x96, 0x13, 3, 4, 0x95, 0x65, 6, 0x69, 0x96, 0xec, 0xe8};
  section.insert(section.end(), stream.begin(), stream.end());
  std::vector<float> decoded(6);
  ASSERT_OK(decoder.Decode(section, shape, TensorSlice::All(shape),
                           {reinterpret_cast<uint8_t*>(decoded.data()), 24}));
  const std::vector<float> expected = {-3.844916F, -10.739808F, 38.206055F,
                                       47.587891F, 0.028138F,   -0.386880F};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(decoded[i], expected[i], 2e-5) << i;
}

}  // namespace
}  // namespace mnemo

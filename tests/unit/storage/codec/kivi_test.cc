// KIVI and int8: steps, sizes, and keys of small blocks.
#include <cmath>

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
using ::mnemo::testing::NormalTensor;
using ::mnemo::testing::RowAt;
using ::testing::HasSubstr;

// No value is further off than half a step between its group's extremes, and what
// fp16 takes off scale and zero.
void ExpectWithinHalfAStep(const TensorShape& shape, const Bytes& exact, const Bytes& decoded,
                           uint32_t bits) {
  const uint32_t token_group = shape.role == TensorRole::kKeys ? 32 : 1;
  const uint32_t channel_group = shape.role == TensorRole::kKeys ? 1 : 32;
  for (uint32_t t = 0; t < shape.tokens; t += token_group) {
    for (uint32_t c = 0; c < shape.dimension; c += channel_group) {
      float low = 1e9F, high = -1e9F, worst = 0;
      for (uint32_t token = t; token < std::min(t + token_group, shape.tokens); ++token) {
        const std::vector<float> was = RowAt(shape, exact, 0, token, 0);
        const std::vector<float> is = RowAt(shape, decoded, 0, token, 0);
        for (uint32_t i = c; i < std::min(c + channel_group, shape.dimension); ++i) {
          low = std::min(low, was[i]);
          high = std::max(high, was[i]);
          worst = std::max(worst, std::abs(is[i] - was[i]));
        }
      }
      const float step = (high - low) / static_cast<float>((1U << bits) - 1);
      const float rounding = 2e-3F * std::max(std::abs(low), std::abs(high));
      EXPECT_LE(worst, 0.5F * step + rounding) << "token " << t << " channel " << c;
    }
  }
}

TEST(KiviTest, IsOffByHalfAStepOfItsGroupAtMost) {
  for (const uint32_t bits : {2u, 4u, 8u}) {
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      const TensorShape shape = {
          .role = role, .dtype = DType::kF32, .tokens = 70, .heads = 1, .dimension = 80};
      const Bytes exact = NormalTensor(shape, bits);
      const Coded coded = Encode(CodecId::kKivi, bits, shape, exact);
      const CalibrationSet none;
      Bytes decoded(shape.bytes());
      ASSERT_OK(TensorDecoder(none).Decode(coded.bytes, shape, TensorSlice::All(shape), decoded));
      ExpectWithinHalfAStep(shape, exact, decoded, bits);
    }
  }
}

TEST(KiviTest, CostsItsBitsAndOneOfScales) {
  for (const uint32_t bits : {2u, 4u, 8u}) {
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      const TensorShape shape = {
          .role = role, .layers = 2, .tokens = 64, .heads = 2, .dimension = 128};
      const Coded coded = Encode(CodecId::kKivi, bits, shape, NormalTensor(shape, 1));
      const double values = 2.0 * 64 * 2 * 128;
      EXPECT_NEAR(8.0 * static_cast<double>(coded.bytes.size()) / values, bits + 1, 0.01);
    }
  }
}

// The bytes themselves: these must decode for ever.
TEST(KiviTest, DecodesTheBytesOfItsFormat) {
  const TensorShape shape = {.role = TensorRole::kValues,
                             .dtype = DType::kF32,
                             .tokens = 2,
                             .heads = 1,
                             .dimension = 8,
                             .exact_tokens = 1,
                             .first_position = 300};
  const Bytes section = {1, 2, 4, 0x11, 1, 2, 1, 8, 0, 1, 0, 0, 0xac, 2,
                         // token 0, exact: 1 ... 8
                         0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40, 0, 0,
                         0xa0, 0x40, 0, 0, 0xc0, 0x40, 0, 0, 0xe0, 0x40, 0, 0, 0, 0x41,
                         // token 1: scale 0.5, zero -1; codes 0 to 7
                         0, 0x38, 0, 0xbc, 0x40, 0x51, 0x62, 0x73};
  const CalibrationSet none;
  Bytes decoded(shape.bytes());
  ASSERT_OK(TensorDecoder(none).Decode(section, shape, TensorSlice::All(shape), decoded));
  EXPECT_EQ(RowAt(shape, decoded, 0, 0, 0), (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(RowAt(shape, decoded, 0, 1, 0), (std::vector<float>{-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5}));
}

TEST(KiviTest, KeysOfASmallBlockTakeTheirStepsFromTheCalibration) {
  for (const CapturedModel& model : CapturedModels()) {
    const auto calibration = ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, model);
    ASSERT_NE(calibration, nullptr);
    const CapturedBlock block =
        LoadCaptured(MNEMO_TEST_DATA, model, "heldout", TensorRole::kKeys, 16, 3);
    const Coded own = Encode(CodecId::kKivi, 4, block.shape, block.bytes);
    const Coded theirs = Encode(CodecId::kKivi, 4, block.shape, block.bytes, calibration.get());
    const auto values = static_cast<double>(block.shape.rows() * block.shape.dimension);
    EXPECT_NEAR(8.0 * static_cast<double>(own.bytes.size()) / values, 6, 0.1);
    EXPECT_NEAR(8.0 * static_cast<double>(theirs.bytes.size()) / values, 4, 0.1);
    EXPECT_LT(theirs.facts.error.relative(), 0.2) << model.name;

    // Who decodes needs that calibration, and no other does.
    Bytes decoded(block.bytes.size());
    CalibrationSet set;
    TensorDecoder decoder(set);
    const auto decode = [&] {
      return decoder.Decode(theirs.bytes, block.shape, TensorSlice::All(block.shape), decoded);
    };
    EXPECT_THAT(decode(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is not here")));
    set.Add(calibration);
    EXPECT_OK(decode());
  }
}

TEST(KiviTest, ALargerBlockHasItsOwnSteps) {
  const CapturedModel model = CapturedModels()[0];
  const auto calibration = ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, model);
  const CapturedBlock block =
      LoadCaptured(MNEMO_TEST_DATA, model, "heldout", TensorRole::kKeys, 64, 1);
  EXPECT_EQ(Encode(CodecId::kKivi, 4, block.shape, block.bytes, calibration.get()).bytes,
            Encode(CodecId::kKivi, 4, block.shape, block.bytes).bytes);
}

TEST(KiviTest, ACalibrationOfAnotherGeometryIsRefused) {
  const auto calibration = ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, CapturedModels()[0]);
  const TensorShape shape = {.tokens = 16, .heads = 1, .dimension = 256};
  const auto codec = TensorCodec::Create(CodecId::kKivi, 4).value();
  Bytes into(codec->MaxEncodedSize(shape));
  EXPECT_THAT(codec->Encode(shape, NormalTensor(shape, 1), calibration.get(), into),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dimension 256")));
}

}  // namespace
}  // namespace mnemo

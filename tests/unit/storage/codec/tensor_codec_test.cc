// What every tensor codec promises, whatever it is.
#include "storage/codec/tensor_codec.h"

#include <cmath>
#include <limits>
#include <tuple>

#include "tests/support/status_matchers.h"
#include "tests/support/tensors.h"

namespace mnemo {
namespace {

using ::mnemo::testing::Bytes;
using ::mnemo::testing::NormalTensor;
using ::mnemo::testing::PutRow;
using ::mnemo::testing::RowAt;
using ::testing::HasSubstr;

struct CodecCase {
  CodecId id;
  uint32_t bits;
};
constexpr CodecCase kCases[] = {
    {CodecId::kKivi, 2},        {CodecId::kKivi, 4},        {CodecId::kKivi, 8},
    {CodecId::kRotated, 1},     {CodecId::kRotated, 2},     {CodecId::kRotated, 3},
    {CodecId::kRotated, 4},     {CodecId::kRotated, 5},     {CodecId::kProgressive, 2},
    {CodecId::kProgressive, 3}, {CodecId::kProgressive, 4}, {CodecId::kProgressive, 5},
    {CodecId::kProgressive, 8}, {CodecId::kTransform, 2},   {CodecId::kTransform, 4}};

// Shapes of all layouts, with whole and partial groups, odd dimensions, tails.
std::vector<TensorShape> Shapes() {
  std::vector<TensorShape> shapes;
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    shapes.push_back({.role = role, .layers = 2, .tokens = 64, .heads = 2, .dimension = 64});
    shapes.push_back(
        {.role = role, .layers = 1, .tokens = 16, .heads = 3, .dimension = 128, .exact_tokens = 4});
    shapes.push_back({.role = role,
                      .dtype = DType::kF32,
                      .layers = 3,
                      .tokens = 50,
                      .heads = 1,
                      .dimension = 40,
                      .token_major = true,
                      .exact_tokens = 2});
    shapes.push_back({.role = role,
                      .dtype = DType::kF16,
                      .layers = 2,
                      .tokens = 37,
                      .heads = 2,
                      .dimension = 96,
                      .tail_bytes = 5,
                      .first_layer = 1,
                      .first_head = 1});
    shapes.push_back({.role = role,
                      .dtype = DType::kFp8E4M3,
                      .layers = 1,
                      .tokens = 33,
                      .heads = 2,
                      .dimension = 24,
                      .exact_tokens = 4});
    shapes.push_back({.role = role,
                      .dtype = DType::kFp8E5M2,
                      .layers = 1,
                      .tokens = 1,
                      .heads = 1,
                      .dimension = 16});
    shapes.push_back(
        {.role = role, .layers = 1, .tokens = 4, .heads = 1, .dimension = 64, .exact_tokens = 4});
  }
  return shapes;
}

class TensorCodecTest : public ::testing::TestWithParam<CodecCase> {
 protected:
  TensorCodecTest()
      : codec_(TensorCodec::Create(GetParam().id, GetParam().bits).value()),
        decoder_(calibrations_) {}

  Bytes Encode(const TensorShape& shape, const Bytes& exact, EncodedTensor* facts = nullptr) {
    Bytes encoded(codec_->MaxEncodedSize(shape));
    const auto made = codec_->Encode(shape, exact, CalibrationFor(shape), encoded);
    EXPECT_OK(made);
    if (!made.ok()) return {};
    EXPECT_LE(made->bytes, encoded.size());
    encoded.resize(made->bytes);
    if (facts != nullptr) *facts = *made;
    return encoded;
  }
  Bytes DecodeAll(const TensorShape& shape, const Bytes& encoded) {
    Bytes decoded(shape.bytes(), 0xee);
    EXPECT_OK(decoder_.Decode(encoded, shape, TensorSlice::All(shape), decoded));
    return decoded;
  }

  // Null where the codec can do without.
  const Calibration* CalibrationFor(const TensorShape& shape) {
    if (GetParam().id != CodecId::kTransform) return nullptr;
    const auto made = ::mnemo::testing::CalibrationOfNormal(shape, CalibrationKind::kAxes);
    calibrations_.Add(made);
    return calibrations_.Find(made->id());
  }

  CalibrationSet calibrations_;
  std::unique_ptr<TensorCodec> codec_;
  TensorDecoder decoder_;
};

TEST_P(TensorCodecTest, DecodesAnyBoxAsItDecodesTheWhole) {
  std::mt19937_64 random(5);
  const auto up_to = [&](uint32_t most) { return static_cast<uint32_t>(random() % most); };
  for (const TensorShape& shape : Shapes()) {
    const Bytes encoded = Encode(shape, NormalTensor(shape, 1));
    const Bytes whole = DecodeAll(shape, encoded);
    for (int round = 0; round < 20; ++round) {
      TensorSlice slice;
      slice.first_layer = up_to(shape.layers);
      slice.layers = 1 + up_to(shape.layers - slice.first_layer);
      slice.first_token = up_to(shape.tokens);
      slice.tokens = 1 + up_to(shape.tokens - slice.first_token);
      slice.first_head = up_to(shape.heads);
      slice.heads = 1 + up_to(shape.heads - slice.first_head);
      const TensorShape part = ShapeOf(shape, slice);
      Bytes box(part.bytes() + 1, 0xee);
      ASSERT_OK(decoder_.Decode(encoded, shape, slice, box));
      EXPECT_EQ(box.back(), 0xee) << "wrote behind the box";
      for (uint32_t l = 0; l < slice.layers; ++l) {
        for (uint32_t t = 0; t < slice.tokens; ++t) {
          for (uint32_t h = 0; h < slice.heads; ++h) {
            ASSERT_EQ(RowAt(part, box, l, t, h),
                      RowAt(shape, whole, slice.first_layer + l, slice.first_token + t,
                            slice.first_head + h));
          }
        }
      }
    }
  }
}

TEST_P(TensorCodecTest, KeepsExactTokensAndTails) {
  for (const TensorShape& shape : Shapes()) {
    const Bytes exact = NormalTensor(shape, 2);
    const Bytes decoded = DecodeAll(shape, Encode(shape, exact));
    for (uint32_t layer = 0; layer < shape.layers; ++layer) {
      for (uint32_t token = 0; token < shape.exact_tokens; ++token) {
        EXPECT_EQ(RowAt(shape, decoded, layer, token, 0), RowAt(shape, exact, layer, token, 0));
      }
      if (shape.tail_bytes == 0) continue;
      const auto tail = [&](const Bytes& bytes) {
        return Bytes(
            bytes.begin() + static_cast<int64_t>(shape.TailOffset(layer)),
            bytes.begin() + static_cast<int64_t>(shape.TailOffset(layer)) + shape.tail_bytes);
      };
      EXPECT_EQ(tail(decoded), tail(exact));
    }
  }
}

TEST_P(TensorCodecTest, TellsTheErrorOfWhatIsDecoded) {
  // Uniform or best steps over normal values: no codec here is worse than this.
  const double most = GetParam().bits == 1 ? 0.7 : GetParam().bits == 2 ? 0.45 : 0.25;
  for (const TensorShape& shape : Shapes()) {
    const Bytes exact = NormalTensor(shape, 3);
    EncodedTensor facts;
    const Bytes decoded = DecodeAll(shape, Encode(shape, exact, &facts));
    double squares = 0, errors = 0, largest = 0;
    uint64_t values = 0;
    for (uint32_t layer = 0; layer < shape.layers; ++layer) {
      for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
        for (uint32_t head = 0; head < shape.heads; ++head) {
          const std::vector<float> was = RowAt(shape, exact, layer, token, head);
          const std::vector<float> is = RowAt(shape, decoded, layer, token, head);
          for (size_t i = 0; i < was.size(); ++i, ++values) {
            const double difference = double{is[i]} - was[i];
            squares += double{was[i]} * was[i];
            errors += difference * difference;
            largest = std::max(largest, std::abs(difference));
          }
        }
      }
    }
    EXPECT_EQ(facts.error.values, values);
    EXPECT_NEAR(facts.error.squared_errors, errors, 1e-9 * errors);
    EXPECT_DOUBLE_EQ(facts.error.largest, largest);
    EXPECT_NEAR(facts.error.relative(), values == 0 ? 0 : std::sqrt(errors / squares), 1e-9);
    EXPECT_LT(facts.error.relative(), most) << shape.tokens << " x " << shape.dimension;
    EXPECT_EQ(facts.exact_bytes,
              shape.layers * shape.exact_tokens * shape.heads * shape.row_bytes());
  }
}

TEST_P(TensorCodecTest, ZerosStayZeros) {
  for (TensorShape shape : Shapes()) {
    shape.tail_bytes = 0;
    const Bytes zeros(shape.bytes());
    EncodedTensor facts;
    const Bytes decoded = DecodeAll(shape, Encode(shape, zeros, &facts));
    EXPECT_EQ(facts.error.relative(), 0);
    // To a calibration, zeros are as far from the mean as any row.
    if (GetParam().id == CodecId::kTransform) {
      EXPECT_LT(facts.error.largest, 6);
    } else {
      EXPECT_EQ(decoded, zeros);
    }
  }
}

TEST_P(TensorCodecTest, RefusesWhatIsNotFiniteAnywhereButInExactTokens) {
  const TensorShape shape = {
      .layers = 2, .tokens = 20, .heads = 2, .dimension = 64, .exact_tokens = 4};
  Bytes into(codec_->MaxEncodedSize(shape));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e30F}) {
    for (const uint32_t token : {3u, 4u, 19u}) {
      Bytes exact = NormalTensor(shape, 4);
      std::vector<float> row = RowAt(shape, exact, 1, token, 1);
      row[63] = bad;
      // Not by our own store, which makes everything finite.
      for (size_t i = 0; i < row.size(); ++i) {
        StoreLittle(exact.data() + shape.RowOffset(1, token, 1) + 2 * i,
                    static_cast<uint16_t>(std::bit_cast<uint32_t>(row[i]) >> 16));
      }
      const auto made = codec_->Encode(shape, exact, CalibrationFor(shape), into);
      if (token < 4) {
        ASSERT_OK(made);
        into.resize(made->bytes);
        const Bytes decoded = DecodeAll(shape, into);
        EXPECT_EQ(std::memcmp(decoded.data() + shape.RowOffset(1, 3, 1),
                              exact.data() + shape.RowOffset(1, 3, 1), 128),
                  0);
        into.resize(codec_->MaxEncodedSize(shape));
      } else {
        EXPECT_THAT(made, StatusIs(absl::StatusCode::kOutOfRange)) << bad;
      }
    }
  }
}

TEST_P(TensorCodecTest, RefusesTooLittleRoomAndOtherSizes) {
  const TensorShape shape = {.tokens = 16, .heads = 1, .dimension = 64};
  const Bytes exact = NormalTensor(shape, 5);
  Bytes into(codec_->MaxEncodedSize(shape));
  EXPECT_THAT(codec_->Encode(shape, exact, CalibrationFor(shape),
                             MutableByteView(into).first(into.size() - 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("room of")));
  EXPECT_THAT(
      codec_->Encode(shape, ByteView(exact).first(exact.size() - 1), CalibrationFor(shape), into),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a tensor of")));
  const Bytes encoded = Encode(shape, exact);
  Bytes short_one(shape.bytes() - 1);
  EXPECT_THAT(decoder_.Decode(encoded, shape, TensorSlice::All(shape), short_one),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("room of")));
}

TEST_P(TensorCodecTest, EveryCutIsDamageAndSoIsAByteMore) {
  const TensorShape shape = {.tokens = 7, .heads = 1, .dimension = 16, .exact_tokens = 1};
  Bytes encoded = Encode(shape, NormalTensor(shape, 6));
  Bytes decoded(shape.bytes());
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_THAT(
        decoder_.Decode(ByteView(encoded).first(size), shape, TensorSlice::All(shape), decoded),
        StatusIs(absl::StatusCode::kDataLoss))
        << size;
  }
  encoded.push_back(0);
  EXPECT_THAT(decoder_.Decode(encoded, shape, TensorSlice::All(shape), decoded),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("behind its end")));
}

TEST_P(TensorCodecTest, AnotherVersionCodecOrShapeIsDamage) {
  const TensorShape shape = {.tokens = 16, .heads = 2, .dimension = 64};
  const Bytes good = Encode(shape, NormalTensor(shape, 7));
  Bytes decoded(shape.bytes() * 2);
  const auto decode = [&](const Bytes& encoded, const TensorShape& as) {
    return decoder_.Decode(encoded, as, TensorSlice::All(as), decoded);
  };
  const auto with = [&](size_t at, uint8_t value) {
    Bytes bad = good;
    bad[at] = value;
    return bad;
  };
  EXPECT_THAT(decode(with(0, 2), shape),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("version 2")));
  EXPECT_THAT(decode(with(1, 15), shape),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("codec 15")));
  EXPECT_THAT(decode(with(2, 7), shape),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("of 7 bits")));
  EXPECT_THAT(decode(with(3, good[3] | 0x80), shape),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("flag")));
  const auto other = [&](auto change) {
    TensorShape changed = shape;
    change(changed);
    return decode(good, changed);
  };
  const auto damage = StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another shape"));
  EXPECT_THAT(other([](TensorShape& s) { s.tokens = 17; }), damage);
  EXPECT_THAT(other([](TensorShape& s) { s.first_position = 16; }), damage);
  EXPECT_THAT(other([](TensorShape& s) { s.dtype = DType::kF16; }), damage);
  EXPECT_THAT(other([](TensorShape& s) { s.role = TensorRole::kValues; }), damage);
}

TEST_P(TensorCodecTest, DamagedBytesDecodeToSomethingFiniteOrAreRefused) {
  std::mt19937_64 random(8);
  for (const TensorShape& shape : Shapes()) {
    const Bytes good = Encode(shape, NormalTensor(shape, 8));
    Bytes decoded(shape.bytes());
    for (int round = 0; round < 300; ++round) {
      Bytes bad = good;
      for (int flips = 0; flips < 4; ++flips)
        bad[random() % bad.size()] = static_cast<uint8_t>(random());
      const absl::Status status = decoder_.Decode(bad, shape, TensorSlice::All(shape), decoded);
      if (!status.ok()) continue;
      for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
        for (const float value : RowAt(shape, decoded, 0, token, 0))
          ASSERT_TRUE(std::isfinite(value));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, TensorCodecTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) {
                           return std::string(CodecName(static_cast<uint8_t>(info.param.id))) +
                                  std::to_string(info.param.bits);
                         });

TEST(TensorCodecFactoryTest, RefusesBitsThatACodecDoesNotHave) {
  EXPECT_THAT(TensorCodec::Create(CodecId::kKivi, 3),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"kivi\" of 3 bits")));
  EXPECT_THAT(TensorCodec::Create(CodecId::kLossless, 8),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TensorShapeTest, NamesTheFieldThatIsOutOfRange) {
  const TensorShape good = {.tokens = 16, .heads = 1, .dimension = 64};
  EXPECT_OK(ValidateTensor(good));
  const auto with = [&](auto change) {
    TensorShape shape = good;
    change(shape);
    return ValidateTensor(shape);
  };
  EXPECT_THAT(with([](TensorShape& s) { s.tokens = 0; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor.tokens is 0")));
  EXPECT_THAT(with([](TensorShape& s) { s.dtype = DType::kInt8; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor.dtype")));
  EXPECT_THAT(with([](TensorShape& s) { s.exact_tokens = 17; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("exact_tokens")));
  EXPECT_THAT(with([](TensorShape& s) {
                s.token_major = true;
                s.tail_bytes = 1;
              }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tail_bytes")));
  EXPECT_THAT(with([](TensorShape& s) {
                s.layers = 1024;
                s.heads = 1024;
                s.dimension = 16384;
                s.tokens = 65535;
              }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor.bytes")));
  TensorSlice slice = TensorSlice::All(good);
  slice.first_token = 1;
  EXPECT_THAT(ValidateSlice(good, slice),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("slice.tokens is 16 from 1")));
}

}  // namespace
}  // namespace mnemo

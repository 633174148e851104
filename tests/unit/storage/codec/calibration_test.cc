#include "storage/codec/calibration.h"

#include <cmath>

#include "storage/base/checksum.h"
#include "storage/codec/rope_rows.h"
#include "storage/codec/transform_basis.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tensors.h"

namespace mnemo {
namespace {

using ::mnemo::testing::Bytes;
using ::mnemo::testing::PutRow;
using ::testing::HasSubstr;

CalibrationGeometry Geometry(RopeStyle style) {
  return {.layers = 2,
          .heads = 1,
          .k_dimension = 16,
          .v_dimension = 8,
          .ropes = {{style, 10000}, {style, 1000}}};
}

TensorShape Keys(uint32_t tokens) {
  return {.dtype = DType::kF32,
          .layers = 2,
          .tokens = tokens,
          .heads = 1,
          .dimension = 16,
          .first_position = 1000};
}

// Keys that are `mean` plus noise before positions turn them.
Bytes TurnedKeys(const TensorShape& shape, const CalibrationGeometry& geometry) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> noise(0, 0.01F);
  Bytes bytes(shape.bytes());
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = 0; token < shape.tokens; ++token) {
      const bool half = geometry.ropes[layer].style == RopeStyle::kHalf;
      std::vector<float> row(16);
      for (size_t i = 0; i < 8; ++i) {
        const double angle = (1000.0 + token) * std::pow(geometry.ropes[layer].theta,
                                                         -2.0 * static_cast<double>(i) / 16);
        const size_t a = half ? i : 2 * i;
        const size_t b = half ? i + 8 : 2 * i + 1;
        const double x = 1.0 + static_cast<double>(a) + noise(random);
        const double y = 1.0 + static_cast<double>(b) + noise(random);
        row[a] = static_cast<float>(x * std::cos(angle) - y * std::sin(angle));
        row[b] = static_cast<float>(y * std::cos(angle) + x * std::sin(angle));
      }
      PutRow(shape, row, layer, token, 0, bytes);
    }
  }
  return bytes;
}

Bytes Values(const TensorShape& shape, float small_token) {
  Bytes bytes(shape.bytes());
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = 0; token < shape.tokens; ++token) {
      const float size = token % 4 == 0 ? small_token : 1;
      std::vector<float> row(8, size);
      row[token % 8] += 0.1F * size;
      PutRow(shape, row, layer, token, 0, bytes);
    }
  }
  return bytes;
}

std::shared_ptr<const Calibration> Fit(RopeStyle style, float small_token = 1) {
  CalibrationFit fit = CalibrationFit::Create(Geometry(style)).value();
  const TensorShape keys = Keys(600);
  EXPECT_OK(fit.Add(keys, TurnedKeys(keys, Geometry(style))));
  TensorShape values = keys;
  values.role = TensorRole::kValues;
  values.dimension = 8;
  EXPECT_OK(fit.Add(values, Values(values, small_token)));
  return fit.Finish().value();
}

TEST(CalibrationTest, TakesPositionsOffKeysBeforeItAveragesThem) {
  for (const RopeStyle style : {RopeStyle::kHalf, RopeStyle::kInterleaved}) {
    const auto calibration = Fit(style);
    const ChannelStatistics& keys = calibration->of(TensorRole::kKeys);
    for (size_t i = 0; i < 32; ++i) {
      EXPECT_NEAR(keys.mean[i], 1.0 + static_cast<double>(i % 16), 3e-3) << i;
      EXPECT_NEAR(keys.deviation[i], 0.01, 2e-3) << i;
    }
    // What is stored turns with its position, the fastest pair all the way round.
    EXPECT_LT(keys.low[0], -0.5F);
    EXPECT_GT(keys.high[0], 0.5F);
  }
}

TEST(CalibrationTest, ValuesKeepTheirMeanOnlyIfNoTokenGrowsByIt) {
  const auto alike = Fit(RopeStyle::kHalf, 1);
  for (const float mean : alike->of(TensorRole::kValues).mean) {
    EXPECT_NEAR(mean, 1.0125, 1e-3);
  }
  // A quarter of the tokens are tiny: taking a mean near 1 off them would make them
  // a hundred times as large.
  const auto unlike = Fit(RopeStyle::kHalf, 0.01F);
  for (const float mean : unlike->of(TensorRole::kValues).mean) {
    EXPECT_EQ(mean, 0);
  }
}

TEST(CalibrationTest, SurvivesItsBytesAndNamesThem) {
  const auto made = Fit(RopeStyle::kInterleaved);
  const std::string bytes = made->Serialize();
  ASSERT_OK_AND_ASSIGN(const auto read, Calibration::Parse(AsBytes(bytes)));
  EXPECT_EQ(read->id(), made->id());
  EXPECT_NE(read->id(), 0u);
  EXPECT_NE(read->id(), Fit(RopeStyle::kHalf)->id());
  EXPECT_EQ(read->geometry(), made->geometry());
  EXPECT_EQ(read->of(TensorRole::kKeys).deviation, made->of(TensorRole::kKeys).deviation);
  EXPECT_EQ(read->of(TensorRole::kValues).high, made->of(TensorRole::kValues).high);
}

TEST(CalibrationTest, EveryCutAndEveryFlippedBitIsDamage) {
  const std::string good = Fit(RopeStyle::kHalf)->Serialize();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Calibration::Parse(AsBytes(good).first(size)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 16);
    EXPECT_THAT(Calibration::Parse(AsBytes(bad)), StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
}

std::shared_ptr<const Calibration> FitWithAxes() {
  CalibrationFit fit =
      CalibrationFit::Create(Geometry(RopeStyle::kHalf), CalibrationKind::kAxes).value();
  const TensorShape keys = Keys(600);
  EXPECT_OK(fit.Add(keys, TurnedKeys(keys, Geometry(RopeStyle::kHalf))));
  TensorShape values = keys;
  values.role = TensorRole::kValues;
  values.dimension = 8;
  EXPECT_OK(fit.Add(values, Values(values, 1)));
  return fit.Finish().value();
}

TEST(CalibrationTest, AxesSurviveTheirBytesToo) {
  const auto made = FitWithAxes();
  EXPECT_TRUE(made->has_axes());
  EXPECT_FALSE(Fit(RopeStyle::kHalf)->has_axes());
  const std::string bytes = made->Serialize();
  ASSERT_OK_AND_ASSIGN(const auto read, Calibration::Parse(AsBytes(bytes)));
  EXPECT_EQ(read->id(), made->id());
  EXPECT_EQ(read->Serialize(), bytes);
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    EXPECT_EQ(read->basis(role)->axes, made->basis(role)->axes);
    EXPECT_EQ(read->basis(role)->steps, made->basis(role)->steps);
  }
  for (size_t size = 0; size + 8 < bytes.size(); size += 7) {
    std::string cut = bytes.substr(0, size);
    AppendLittle(cut, Checksum64(AsBytes(cut)));
    EXPECT_THAT(Calibration::Parse(AsBytes(cut)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
}

TEST(CalibrationTest, AxesAreOrthonormalAndTheWidestFirst) {
  const auto made = FitWithAxes();
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    const codec::TransformBasis& basis = *made->basis(role);
    const uint32_t n = basis.dimension;
    for (size_t head = 0; head < 2; ++head) {
      const float* const axes = basis.axes_of(head);
      for (size_t a = 0; a < n; ++a) {
        for (size_t b = 0; b < n; ++b) {
          double dot = 0;
          for (size_t i = 0; i < n; ++i) dot += axes[a * n + i] * axes[b * n + i];
          EXPECT_NEAR(dot, a == b ? 1 : 0, 2e-3);
        }
        if (a == 0) continue;
        EXPECT_LE(basis.spreads[head * n + a], basis.spreads[head * n + a - 1]);
      }
      // Less of a step, more bits.
      for (uint32_t bits = 2; bits <= 5; ++bits) {
        EXPECT_LT(basis.step(head, bits), basis.step(head, bits - 1));
      }
    }
  }
}

TEST(CalibrationTest, AxesThatMakeNoSenseAreDamageWhateverTheChecksumSays) {
  const std::string good = FitWithAxes()->Serialize();
  const size_t axes = 24 + 2 * 16 + 32 * 16 + 16 * 16;
  const size_t spreads = axes + 2 * 16 * 16 * 2;
  const size_t units = spreads + 2 * 16 * 2;
  const size_t steps = units + 2 * 2;
  const size_t table = steps + 2 * 5 * 2 + 2;
  const auto with = [&](size_t at, uint16_t value) {
    std::string bad = good;
    StoreLittle(bad.data() + at, value);
    StoreLittle(bad.data() + bad.size() - 8, Checksum64(AsBytes(bad).first(bad.size() - 8)));
    return Calibration::Parse(AsBytes(bad)).status();
  };
  EXPECT_OK(with(axes, 0x3c00));  // 1
  const auto damage = StatusIs(absl::StatusCode::kDataLoss, HasSubstr("axes"));
  EXPECT_THAT(with(axes, 0x4000), damage);      // 2
  EXPECT_THAT(with(axes, 0x7e00), damage);      // NaN
  EXPECT_THAT(with(spreads + 2, 500), damage);  // more than the first
  EXPECT_THAT(with(spreads, 512), damage);
  EXPECT_THAT(with(units, 65), damage);
  EXPECT_THAT(with(steps, static_cast<uint16_t>(-512)), damage);
  EXPECT_THAT(with(table, 0), damage);
  EXPECT_THAT(with(table, 4000), damage);  // more than all together
  EXPECT_THAT(CalibrationFit::Create(
                  {.layers = 1, .heads = 1, .k_dimension = 1025, .v_dimension = 0, .ropes = {{}}},
                  CalibrationKind::kAxes),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("with axes")));
}

TEST(CalibrationTest, NumbersOutOfRangeAreDamageWhateverTheChecksumSays) {
  const std::string good = Fit(RopeStyle::kHalf)->Serialize();
  const size_t mean = 24 + 2 * 16;
  const size_t deviation = mean + 32 * 4;
  const auto with = [&](size_t at, float value) {
    std::string bad = good;
    StoreLittle(bad.data() + at, value);
    const ByteView body = AsBytes(bad).first(bad.size() - 8);
    StoreLittle(bad.data() + body.size(), Checksum64(body));
    return Calibration::Parse(AsBytes(bad));
  };
  EXPECT_OK(with(mean, 65504.0F));
  EXPECT_OK(with(deviation, 0.5F));
  for (const float value : {65505.0F, -1e30F, std::nanf(""), INFINITY}) {
    EXPECT_THAT(with(mean, value), StatusIs(absl::StatusCode::kDataLoss)) << value;
  }
  for (const float value : {0.0F, -1.0F, 1e-7F, 1e30F}) {
    EXPECT_THAT(with(deviation, value), StatusIs(absl::StatusCode::kDataLoss)) << value;
  }
  CalibrationFit fit = CalibrationFit::Create(Geometry(RopeStyle::kNone)).value();
  const TensorShape keys = Keys(40);
  Bytes bytes(keys.bytes());
  StoreLittle(bytes.data(), 70000.0F);
  EXPECT_THAT(fit.Add(keys, bytes), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(CalibrationTest, NeedsEnoughTokensOfEveryLayer) {
  CalibrationFit fit = CalibrationFit::Create(Geometry(RopeStyle::kNone)).value();
  TensorShape shape = Keys(40);
  shape.layers = 1;
  ASSERT_OK(fit.Add(shape, Bytes(shape.bytes(), 0)));
  EXPECT_THAT(fit.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("layer 1, head 0: 0 tokens")));
  shape.first_layer = 2;
  EXPECT_THAT(fit.Add(shape, Bytes(shape.bytes(), 0)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CalibrationTest, RefusesAGeometryThatMakesNoSense) {
  CalibrationGeometry geometry = Geometry(RopeStyle::kHalf);
  geometry.ropes[1].theta = 0;
  EXPECT_THAT(CalibrationFit::Create(geometry),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("theta")));
  geometry = Geometry(RopeStyle::kHalf);
  geometry.ropes.pop_back();
  EXPECT_THAT(CalibrationFit::Create(geometry),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ropes")));
}

TEST(RopeRowsTest, FollowsTheAnglesThroughItsAnchors) {
  for (const RopeStyle style : {RopeStyle::kHalf, RopeStyle::kInterleaved}) {
    const codec::RowKernels& kernels = codec::ScalarRowKernels();
    codec::RopeRows rope({style, 10000}, 64);
    rope.MoveTo(kernels, 5000);
    double worst = 0;
    for (uint32_t position = 5000; position < 5700; ++position, rope.Advance(kernels)) {
      std::vector<float> row(64, 1);
      rope.PutOn(kernels, row.data(), 1, 64);
      for (size_t i = 0; i < 32; ++i) {
        const double angle = position * std::pow(10000, -2.0 * static_cast<double>(i) / 64);
        const size_t a = style == RopeStyle::kHalf ? i : 2 * i;
        worst = std::max(worst, std::abs(row[a] - (std::cos(angle) - std::sin(angle))));
      }
      rope.TakeOff(kernels, row.data(), 1, 64);
      for (const float value : row) worst = std::max(worst, std::abs(value - 1.0));
    }
    EXPECT_LT(worst, 5e-5);
    // The same wherever one began, and again after going back.
    std::vector<float> row(64, 1), other(64, 1), again(64, 1);
    rope.PutOn(kernels, row.data(), 1, 64);
    codec::RopeRows late({style, 10000}, 64);
    late.MoveTo(kernels, 5700);
    late.PutOn(kernels, other.data(), 1, 64);
    late.Advance(kernels);
    late.MoveTo(kernels, 5700);
    late.PutOn(kernels, again.data(), 1, 64);
    EXPECT_EQ(other, row);
    EXPECT_EQ(again, row);
  }
}

}  // namespace
}  // namespace mnemo

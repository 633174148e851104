#include "storage/codec/embedding_codec.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "storage/codec/principal_axes.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kDimension = 48;
constexpr uint32_t kRows = 200;

// Rows that lie in `rank` directions, about a mean that is not 0.
Floats LowRank(uint32_t rows, uint32_t dimension, uint32_t rank, uint32_t seed) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Floats directions(size_t{rank} * dimension);
  for (float& each : directions) each = normal(random);
  random.seed(seed);
  Floats made;
  for (uint32_t row = 0; row < rows; ++row) {
    Floats values(dimension, 0.5F);
    for (uint32_t r = 0; r < rank; ++r) {
      const float along = normal(random) / static_cast<float>(1 + r);
      for (uint32_t i = 0; i < dimension; ++i) {
        values[i] += along * directions[size_t{r} * dimension + i];
      }
    }
    made.insert(made.end(), values.begin(), values.end());
  }
  return made;
}

Floats Gaussian(uint32_t rows, uint32_t dimension) {
  return LowRank(rows, dimension, dimension, 9);
}

double RelativeError(const Floats& x, const Floats& y) {
  double squares = 0;
  double errors = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    squares += double{x[i]} * x[i];
    errors += std::pow(double{x[i]} - y[i], 2);
  }
  return std::sqrt(errors / squares);
}

std::shared_ptr<const EmbeddingBasis> Basis(uint32_t kept = kDimension / 2) {
  return EmbeddingBasis::Fit(LowRank(kRows, kDimension, 10, 1), kDimension, kept).value();
}

std::vector<EmbeddingCodec> AllCodecs() {
  return {EmbeddingCodec::Create(EmbeddingForm::kInt8, kDimension, nullptr).value(),
          EmbeddingCodec::Create(EmbeddingForm::kFp8, kDimension, nullptr).value(),
          EmbeddingCodec::Create(EmbeddingForm::kReducedFp8, kDimension, Basis()).value(),
          EmbeddingCodec::Create(EmbeddingForm::kRotated4, kDimension, nullptr).value()};
}

struct Made {
  Bytes section;
  EncodingError error;
};
Made Encode(const EmbeddingCodec& codec, const Floats& rows) {
  Made made{.section = Bytes(codec.EncodedSize(static_cast<uint32_t>(rows.size() / kDimension)))};
  const auto encoded = codec.Encode(rows, made.section);
  EXPECT_OK(encoded);
  EXPECT_EQ(encoded->bytes, made.section.size());
  made.error = encoded->error;
  return made;
}

TEST(PrincipalAxesTest, FindsTheDirectionsOfADiagonalMatrixInTheirOrder) {
  const PrincipalAxes found =
      FindPrincipalAxes({1, 0, 0, 0, 9, 0, 0, 0, 4}, /*dimension=*/3, /*count=*/3);
  EXPECT_NEAR(found.variances[0], 9, 1e-9);
  EXPECT_NEAR(found.variances[1], 4, 1e-9);
  EXPECT_NEAR(found.variances[2], 1, 1e-9);
  EXPECT_NEAR(std::abs(found.axes[1]), 1, 1e-6);
  EXPECT_NEAR(std::abs(found.axes[3 + 2]), 1, 1e-6);
}

TEST(PrincipalAxesTest, AxesAreOrthonormalAndTheirVariancesThoseOfTheMatrix) {
  constexpr uint32_t kSize = 40;
  // A product of a matrix with its transpose, of half the rank.
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::vector<double> factor(size_t{kSize} * kSize / 2);
  for (double& each : factor) each = normal(random);
  std::vector<double> matrix(size_t{kSize} * kSize);
  for (uint32_t i = 0; i < kSize; ++i) {
    for (uint32_t j = 0; j < kSize; ++j) {
      for (uint32_t k = 0; k < kSize / 2; ++k) {
        matrix[i * kSize + j] += factor[i * kSize / 2 + k] * factor[j * kSize / 2 + k];
      }
    }
  }
  const PrincipalAxes found = FindPrincipalAxes(matrix, kSize, kSize);
  for (uint32_t a = 0; a < kSize; ++a) {
    for (uint32_t b = 0; b < kSize; ++b) {
      double dot = 0;
      for (uint32_t i = 0; i < kSize; ++i) {
        dot += double{found.axes[a * kSize + i]} * found.axes[b * kSize + i];
      }
      EXPECT_NEAR(dot, a == b ? 1 : 0, 1e-5) << a << " " << b;
    }
    // The matrix stretches an axis by its variance.
    for (uint32_t i = 0; i < kSize; ++i) {
      double stretched = 0;
      for (uint32_t j = 0; j < kSize; ++j) {
        stretched += matrix[i * kSize + j] * found.axes[a * kSize + j];
      }
      EXPECT_NEAR(stretched, found.variances[a] * found.axes[a * kSize + i],
                  1e-5 * found.variances[0])
          << a;
    }
    if (a > 0) {
      EXPECT_LE(found.variances[a], found.variances[a - 1]);
    }
  }
}

TEST(PrincipalAxesTest, AMatrixOfZerosHasAxesToo) {
  const PrincipalAxes found = FindPrincipalAxes(std::vector<double>(9), 3, 2);
  EXPECT_EQ(found.variances, (std::vector<double>{0, 0}));
  EXPECT_EQ(found.axes, (Floats{1, 0, 0, 0, 1, 0}));
}

TEST(EmbeddingCodecTest, ErrorsAreThoseOfTheirFormatsAndMeasured) {
  const Floats rows = Gaussian(kRows, kDimension);
  // Of rotated codes, the root of Lloyd-Max's distortion at 4 bits, 0.0095.
  const double most[] = {0.01, 0.04, 1.0, 0.1};
  const double least[] = {0.001, 0.02, 0.04, 0.09};
  const auto codecs = AllCodecs();
  for (size_t c = 0; c < codecs.size(); ++c) {
    const Made made = Encode(codecs[c], rows);
    Floats decoded(rows.size());
    ASSERT_OK(codecs[c].Decode(made.section, 0, kRows, decoded));
    EXPECT_NEAR(RelativeError(rows, decoded), made.error.relative(), 1e-6) << c;
    EXPECT_LT(made.error.relative(), most[c]) << c;
    EXPECT_GT(made.error.relative(), least[c]) << c;
    EXPECT_EQ(made.error.values, rows.size());
  }
}

TEST(EmbeddingCodecTest, AQuarterAndAnEighthOfTheBytes) {
  const auto codecs = AllCodecs();
  EXPECT_EQ(codecs[0].EncodedSize(10), 24 + 10 * (4 + kDimension));
  EXPECT_EQ(codecs[1].EncodedSize(10), 24 + 10 * kDimension);
  EXPECT_EQ(codecs[2].EncodedSize(10), 24 + 10 * kDimension / 2);
  EXPECT_EQ(codecs[3].EncodedSize(10), 24 + 10 * (2 + kDimension / 2));
  // Filled up to a multiple of 8.
  EXPECT_EQ(EmbeddingCodec::Create(EmbeddingForm::kRotated4, 17, nullptr)->EncodedSize(1),
            24 + 2 + 12);
}

TEST(EmbeddingCodecTest, WhatLiesInTheBasisSurvivesTheLossOfHalfTheDimensions) {
  const EmbeddingCodec codec =
      EmbeddingCodec::Create(EmbeddingForm::kReducedFp8, kDimension, Basis(12)).value();
  const Floats rows = LowRank(kRows, kDimension, 10, 2);
  EXPECT_LT(Encode(codec, rows).error.relative(), 0.03);
}

TEST(EmbeddingCodecTest, RowsDecodeAlone) {
  const Floats rows = Gaussian(kRows, kDimension);
  for (const EmbeddingCodec& codec : AllCodecs()) {
    const Made made = Encode(codec, rows);
    Floats all(rows.size());
    ASSERT_OK(codec.Decode(made.section, 0, kRows, all));
    Floats some(3 * kDimension);
    ASSERT_OK(codec.Decode(made.section, 150, 3, some));
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + 150 * kDimension));
    EXPECT_OK(codec.Decode(made.section, kRows, 0, {}));
    EXPECT_THAT(codec.Decode(made.section, kRows - 2, 3, some),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rows [198, 201)")));
    EXPECT_THAT(codec.Decode(made.section, 0, 2, some),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(EmbeddingCodecTest, ZerosAndTheSmallestAndLargestValuesStay) {
  for (const float value : {0.0F, 1e-38F, 1e-45F, 1e15F, -1e15F}) {
    const Floats rows(size_t{2} * kDimension, value);
    for (const EmbeddingForm form : {EmbeddingForm::kInt8, EmbeddingForm::kFp8}) {
      const EmbeddingCodec codec = EmbeddingCodec::Create(form, kDimension, nullptr).value();
      Floats decoded(rows.size(), 7);
      ASSERT_OK(codec.Decode(Encode(codec, rows).section, 0, 2, decoded));
      for (const float each : decoded) EXPECT_NEAR(each, value, std::abs(value) * 0.01 + 1.2e-38);
    }
    for (const EmbeddingCodec& codec : AllCodecs()) {
      Floats decoded(rows.size(), NAN);
      ASSERT_OK(codec.Decode(Encode(codec, rows).section, 0, 2, decoded));
      for (const float each : decoded) EXPECT_TRUE(std::isfinite(each));
    }
  }
}

TEST(EmbeddingCodecTest, WhatIsNotFiniteOrNotWholeIsRefused) {
  Floats rows = Gaussian(2, kDimension);
  for (const EmbeddingCodec& codec : AllCodecs()) {
    Bytes into(codec.EncodedSize(2));
    for (const float bad : {NAN, INFINITY, -INFINITY, 1.1e15F}) {
      Floats changed = rows;
      changed[kDimension + 5] = bad;
      EXPECT_THAT(codec.Encode(changed, into), StatusIs(absl::StatusCode::kOutOfRange));
    }
    EXPECT_THAT(codec.Encode(std::span(rows).first(kDimension + 1), into),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(codec.Encode({}, into), StatusIs(absl::StatusCode::kInvalidArgument));
    into.pop_back();
    EXPECT_THAT(codec.Encode(rows, into), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(EmbeddingCodecTest, AnotherFormDimensionOrBasisIsToldFromDamage) {
  const Floats rows = Gaussian(4, kDimension);
  const auto codecs = AllCodecs();
  Floats into(rows.size());
  for (size_t a = 0; a < codecs.size(); ++a) {
    const Made made = Encode(codecs[a], rows);
    for (size_t b = 0; b < codecs.size(); ++b) {
      if (a == b) continue;
      EXPECT_THAT(codecs[b].Decode(made.section, 0, 4, into),
                  StatusIs(absl::StatusCode::kFailedPrecondition));
    }
  }
  const EmbeddingCodec other =
      EmbeddingCodec::Create(EmbeddingForm::kReducedFp8, kDimension, Basis(12)).value();
  EXPECT_THAT(other.Decode(Encode(codecs[2], rows).section, 0, 4, into),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("basis")));
}

TEST(EmbeddingCodecTest, DamageIsSeenOrGivesFiniteValues) {
  const Floats rows = Gaussian(3, kDimension);
  std::mt19937 random(4);
  for (const EmbeddingCodec& codec : AllCodecs()) {
    const Made made = Encode(codec, rows);
    Floats into(rows.size());
    for (size_t size = 0; size < made.section.size(); ++size) {
      EXPECT_FALSE(codec.Decode(ByteView(made.section).first(size), 0, 3, into).ok()) << size;
    }
    for (int i = 0; i < 2000; ++i) {
      Bytes damaged = made.section;
      damaged[random() % damaged.size()] ^= static_cast<uint8_t>(1 + random() % 255);
      if (!codec.Decode(damaged, 0, 3, into).ok()) continue;
      for (const float value : into) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST(EmbeddingCodecTest, HasTheBytesOfItsFormat) {
  const EmbeddingCodec codec = EmbeddingCodec::Create(EmbeddingForm::kFp8, 2, nullptr).value();
  const Floats rows = {448, -1, 0, 2};
  Bytes section(codec.EncodedSize(2));
  ASSERT_OK(codec.Encode(rows, section).status());
  EXPECT_EQ(section, (Bytes{1, 2, 0, 0, 2, 0, 0, 0, 2,    0,    0,    0,    2, 0,
                            0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0x7e, 0xb8, 0, 0x40}));
}

TEST(EmbeddingBasisTest, ComesBackAsItWasAndDamageIsSeen) {
  const auto basis = Basis();
  const std::string bytes = basis->Serialize();
  ASSERT_OK_AND_ASSIGN(const auto back, EmbeddingBasis::Parse(AsBytes(bytes)));
  EXPECT_EQ(back->Serialize(), bytes);
  EXPECT_EQ(back->id(), basis->id());
  for (size_t at = 0; at < bytes.size(); at += 7) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_THAT(EmbeddingBasis::Parse(AsBytes(damaged)), StatusIs(absl::StatusCode::kDataLoss))
        << at;
    EXPECT_THAT(EmbeddingBasis::Parse(AsBytes(bytes).first(at)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(EmbeddingBasisTest, TooFewRowsOrDimensionsOutOfRangeAreRefused) {
  const Floats rows = Gaussian(4, kDimension);
  for (const auto& [dimension, kept] : {std::pair(kDimension, 5u),
                                        {kDimension, 0u},
                                        {kDimension, kDimension},
                                        {1u, 1u},
                                        {2048u, 2u},
                                        {kDimension - 1, 2u}}) {
    EXPECT_THAT(EmbeddingBasis::Fit(rows, dimension, kept),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << dimension << " " << kept;
  }
  Floats bad = rows;
  bad[3] = NAN;
  EXPECT_THAT(EmbeddingBasis::Fit(bad, kDimension, 2), StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace mnemo

#include "index/vector/bit_codes.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 120;
constexpr uint32_t kSizes[] = {40, 0, 5};

class BitCodesTest : public testing::TestWithParam<Metric> {
 protected:
  const VectorShape shape_{kDimension, ElementType::kFloat32, GetParam()};
  ClusteredVectors vectors_{kDimension, 9};
  BitCodes codes_{shape_, 1, kSizes, BestKernels()};
};

TEST_P(BitCodesTest, ListsFillWholeBlocks) {
  EXPECT_EQ(codes_.list_begin(0), 0U);
  EXPECT_EQ(codes_.list_begin(1), 2U);
  EXPECT_EQ(codes_.list_begin(2), 2U);
  EXPECT_EQ(codes_.blocks(), 3U);
  EXPECT_EQ(codes_.codes().size(), 3 * kBlockCodes * codes_.padded() / 8);
}

TEST_P(BitCodesTest, EstimatesAreWithinTheirErrorsOfTheScores) {
  std::vector<float> scratch(size_t{2} * codes_.padded());
  const std::vector<float> query_values = vectors_.Next();
  const Query query = *Query::Prepare(shape_, query_values);
  BitQuery bit_query;
  codes_.MakeQuery(query, bit_query);
  int beyond = 0;
  double sum = 0;
  const int count = 2000;
  for (int i = 0; i < count; ++i) {
    std::vector<float> centre = vectors_.Next();
    std::vector<float> x = vectors_.Next();
    if (GetParam() == Metric::kCosine) {
      for (std::vector<float>* values : {&centre, &x}) {
        double norm = 0;
        for (const float value : *values) norm += value * value;
        for (float& value : *values) value = static_cast<float>(value / std::sqrt(norm));
      }
    }
    // A block of its own for each, so that no bits are left over.
    BitCodes codes(shape_, 1, kSizes, BestKernels());
    const uint32_t entry = static_cast<uint32_t>(i) % 40;
    codes.Encode(0, entry, x.data(), centre.data(), scratch.data());
    double product = 0;
    double distance = 0;
    double from_centre = 0;
    double with_centre = 0;
    for (uint32_t d = 0; d < kDimension; ++d) {
      const double q = query.values()[d];
      product += q * x[d];
      distance += (q - x[d]) * (q - x[d]);
      from_centre += (q - centre[d]) * (q - centre[d]);
      with_centre += q * centre[d];
    }
    const bool is_l2 = GetParam() == Metric::kL2;
    float estimates[kBlockCodes];
    codes.Estimate(bit_query, entry / kBlockCodes, estimates);
    const double estimate = (is_l2 ? -from_centre : with_centre) + estimates[entry % kBlockCodes];
    const double error =
        codes.Factors(entry / kBlockCodes, entry % kBlockCodes).error * std::sqrt(from_centre);
    const double off = (estimate - (is_l2 ? -distance : product)) / error;
    sum += off;
    beyond += std::abs(off) > 1.9 ? 1 : 0;
  }
  // 5.7 % of a normal distribution lie beyond 1.9 deviations.
  EXPECT_LT(beyond, count * 0.08);
  EXPECT_GT(beyond, count * 0.005);
  EXPECT_NEAR(sum / count, 0, 0.1);
}

TEST_P(BitCodesTest, AVectorThatIsItsCentreHasNoError) {
  std::vector<float> scratch(size_t{2} * codes_.padded());
  const std::vector<float> centre = vectors_.Next();
  codes_.Encode(2, 4, centre.data(), centre.data(), scratch.data());
  EXPECT_EQ(codes_.Factors(2, 4).error, 0);
  EXPECT_EQ(codes_.Factors(2, 4).scale, 0);
  EXPECT_TRUE(std::isfinite(codes_.Factors(2, 4).offset));
}

INSTANTIATE_TEST_SUITE_P(Metrics, BitCodesTest,
                         testing::Values(Metric::kInnerProduct, Metric::kCosine, Metric::kL2));

}  // namespace
}  // namespace mnemo

#include "index/vector/rotation.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

class RotationTest : public testing::TestWithParam<uint32_t> {
 protected:
  std::vector<float> Rotate(const Rotation& rotation, const std::vector<float>& in) const {
    std::vector<float> out(rotation.padded());
    rotation.Apply(BestKernels(), in.data(), out.data());
    return out;
  }
};

TEST_P(RotationTest, KeepsInnerProducts) {
  const Rotation rotation(GetParam(), 3);
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> a(GetParam());
  std::vector<float> b(GetParam());
  for (float& value : a) value = normal(random);
  for (float& value : b) value = normal(random);
  EXPECT_NEAR(Dot(Rotate(rotation, a), Rotate(rotation, b)), Dot(a, b), 1e-3);
  EXPECT_NEAR(Dot(Rotate(rotation, a), Rotate(rotation, a)), Dot(a, a), 1e-2);
}

TEST_P(RotationTest, SpreadsASingleCoordinateOverAll) {
  const Rotation rotation(GetParam(), 3);
  for (const uint32_t at : {0U, GetParam() / 2, GetParam() - 1}) {
    std::vector<float> one(GetParam());
    one[at] = 1;
    const std::vector<float> out = Rotate(rotation, one);
    float largest = 0;
    for (const float value : out) largest = std::max(largest, std::abs(value));
    EXPECT_LT(largest, 6 / std::sqrt(static_cast<float>(out.size()))) << at;
  }
}

TEST_P(RotationTest, DependsOnTheSeed) {
  if (GetParam() < 64) return;  // so few signs are the same now and then
  const std::vector<float> ones(GetParam(), 1.0F);
  EXPECT_EQ(Rotate(Rotation(GetParam(), 3), ones), Rotate(Rotation(GetParam(), 3), ones));
  EXPECT_NE(Rotate(Rotation(GetParam(), 3), ones), Rotate(Rotation(GetParam(), 4), ones));
}

INSTANTIATE_TEST_SUITE_P(Dimensions, RotationTest,
                         testing::Values(3, 64, 100, 128, 256, 576, 640, 1000, 4096));

}  // namespace
}  // namespace mnemo

#include "index/vector/k_means.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(KMeansTest, PutsACentroidIntoEveryCluster) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 0.1F);
  std::vector<float> points;
  for (int i = 0; i < 300; ++i) {
    points.push_back(static_cast<float>(i % 3) * 10 + normal(random));
    points.push_back(normal(random));
  }
  // More than clusters: with as many, two may begin in the same one and stay.
  const auto centroids = TrainCentroids(points, 2, 12, 10, 7);
  ASSERT_OK(centroids);
  ASSERT_EQ(centroids->size(), 24U);
  for (size_t i = 0; i < points.size(); i += 2) {
    float nearest = 100;
    for (size_t c = 0; c < centroids->size(); c += 2) {
      nearest = std::min(nearest, std::abs(points[i] - (*centroids)[c]));
    }
    EXPECT_LT(nearest, 0.5F) << points[i];
  }
}

TEST(KMeansTest, AsManyCentroidsAsPoints) {
  const std::vector<float> points = {1, 2, 3};
  const auto centroids = TrainCentroids(points, 1, 3, 4, 7);
  ASSERT_OK(centroids);
  EXPECT_EQ(centroids->size(), 3U);
}

TEST(KMeansTest, IsRepeatable) {
  std::mt19937_64 random(1);
  std::vector<float> points(4000);
  for (float& value : points) value = static_cast<float>(random() % 1000);
  EXPECT_EQ(*TrainCentroids(points, 4, 16, 5, 3), *TrainCentroids(points, 4, 16, 5, 3));
}

TEST(KMeansTest, FaissFailingIsAStatus) {
  EXPECT_THAT(TrainCentroids(std::vector<float>{1, 2}, 1, 3, 4, 7),
              StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace mnemo

#include "index/vector/hnsw_builder.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "tests/support/vector_rows.h"

namespace mnemo {
namespace {

constexpr VectorShape kShape{32, ElementType::kFloat32, Metric::kL2};
constexpr uint32_t kNodes = 2000;

class HnswBuilderTest : public testing::Test {
 protected:
  void SetUp() override {
    ClusteredVectors vectors(kShape.dimension, 3);
    std::vector<float> scratch(codes_.padded());
    for (uint32_t node = 0; node < kNodes; ++node) {
      std::vector<float> values = vectors.Next();
      codes_.Encode(node, values.data(), scratch.data());
    }
    for (uint32_t node = 0; node < kNodes; ++node) builder_.Insert(node);
  }

  const HnswOptions options_{.links = 8, .ef_construction = 60};
  ByteCodes codes_{kShape, kNodes, 1, std::vector<float>(kShape.dimension), BestKernels()};
  HnswGraph graph_{options_.links, HnswBuilder::DrawLevels(kNodes, options_.links, 5)};
  HnswBuilder builder_{codes_, options_, graph_};
};

TEST_F(HnswBuilderTest, LinksAreOtherNodesOfTheLevelOnceEach) {
  for (uint32_t node = 0; node < kNodes; ++node) {
    for (uint8_t level = 0; level <= graph_.level_of(node); ++level) {
      std::set<uint32_t> seen;
      bool ended = false;
      for (const uint32_t link : graph_.List(node, level)) {
        if (link == kNoNode) {
          ended = true;
          continue;
        }
        EXPECT_FALSE(ended);
        ASSERT_LT(link, kNodes);
        EXPECT_NE(link, node);
        EXPECT_GE(graph_.level_of(link), level);
        EXPECT_TRUE(seen.insert(link).second);
      }
    }
  }
}

TEST_F(HnswBuilderTest, NearlyEveryNodeIsReachedFromTheEntry) {
  std::vector<bool> reached(kNodes);
  std::vector<uint32_t> open = {graph_.entry()};
  reached[graph_.entry()] = true;
  while (!open.empty()) {
    const uint32_t node = open.back();
    open.pop_back();
    for (const uint32_t link : graph_.List(node, 0)) {
      if (link == kNoNode || reached[link]) continue;
      reached[link] = true;
      open.push_back(link);
    }
  }
  EXPECT_GE(std::count(reached.begin(), reached.end(), true), kNodes * 99 / 100);
}

TEST_F(HnswBuilderTest, TheEntryIsOnTheHighestLevel) {
  const auto levels = graph_.levels();
  EXPECT_EQ(graph_.top_level(), *std::max_element(levels.begin(), levels.end()));
}

TEST(HnswLevelsTest, EachLevelHasAShareOfTheOneBelow) {
  const std::vector<uint8_t> levels = HnswBuilder::DrawLevels(100000, 16, 1);
  for (uint8_t level = 1; level <= 2; ++level) {
    const auto above =
        std::count_if(levels.begin(), levels.end(), [&](uint8_t own) { return own >= level; });
    EXPECT_NEAR(above, 100000 / std::pow(16, level), 400.0 / level);
  }
  EXPECT_EQ(levels, HnswBuilder::DrawLevels(100000, 16, 1));
  EXPECT_NE(levels, HnswBuilder::DrawLevels(100000, 16, 2));
}

}  // namespace
}  // namespace mnemo

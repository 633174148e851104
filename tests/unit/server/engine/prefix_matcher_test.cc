#include "server/engine/prefix_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace mnemo {
namespace {

constexpr GroupRule kFull{.need = GroupRule::Need::kAll};
constexpr GroupRule Window(uint32_t blocks) {
  return {.need = GroupRule::Need::kLast, .last_blocks = blocks};
}

std::vector<bool> Bits(std::string_view text) {
  std::vector<bool> bits;
  for (const char c : text) bits.push_back(c == '1');
  return bits;
}

uint32_t Match(const std::vector<GroupRule>& rules, const std::vector<std::vector<bool>>& present) {
  std::vector<uint32_t> reach;
  return LongestPrefix(rules, present, reach);
}

TEST(PrefixMatcherTest, FullGroupNeedsEveryBlock) {
  EXPECT_EQ(Match({kFull}, {Bits("11101")}), 3u);
  EXPECT_EQ(Match({kFull}, {Bits("0111")}), 0u);
  EXPECT_EQ(Match({kFull}, {Bits("")}), 0u);
}

TEST(PrefixMatcherTest, WindowGroupNeedsItsLastBlocksOnly) {
  EXPECT_EQ(Match({kFull, Window(2)}, {Bits("11111"), Bits("00011")}), 5u);
  EXPECT_EQ(Match({kFull, Window(2)}, {Bits("11111"), Bits("01101")}), 3u);
}

TEST(PrefixMatcherTest, ShortPrefixNeedsAllOfAWindowThatIsLongerThanIt) {
  EXPECT_EQ(Match({kFull, Window(4)}, {Bits("111"), Bits("111")}), 3u);
  EXPECT_EQ(Match({kFull, Window(4)}, {Bits("111"), Bits("011")}), 0u);
}

TEST(PrefixMatcherTest, StateGroupNeedsTheBlockAtTheBoundary) {
  EXPECT_EQ(Match({kFull, Window(1)}, {Bits("11111"), Bits("01000")}), 2u);
}

TEST(PrefixMatcherTest, ReachTellsHowFarEachGroupGoesAlone) {
  const std::vector<GroupRule> rules = {kFull, Window(2)};
  const std::vector<std::vector<bool>> present = {Bits("11000"), Bits("00011")};
  std::vector<uint32_t> reach;
  EXPECT_EQ(LongestPrefix(rules, present, reach), 0u);
  EXPECT_EQ(reach, (std::vector<uint32_t>{2, 5}));
}

TEST(PrefixMatcherTest, ReaderOfAWindowNeedsItsLastBlocks) {
  EXPECT_FALSE(Needs(Window(2), 2, 5));
  EXPECT_TRUE(Needs(Window(2), 3, 5));
  EXPECT_TRUE(Needs(kFull, 0, 5));
  EXPECT_FALSE(Needs(kFull, 5, 5));
}

// The definition, read off the contract word by word.
uint32_t ByDefinition(const std::vector<GroupRule>& rules,
                      const std::vector<std::vector<bool>>& present) {
  for (uint32_t length = static_cast<uint32_t>(present[0].size()); length > 0; --length) {
    bool supported = true;
    for (size_t g = 0; g < rules.size(); ++g) {
      for (uint32_t i = 0; i < length; ++i) {
        if (Needs(rules[g], i, length) && !present[g][i]) supported = false;
      }
    }
    if (supported) return length;
  }
  return 0;
}

TEST(PrefixMatcherTest, AgreesWithTheDefinitionOnRandomPresence) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 5000; ++round) {
    const size_t blocks = 1 + random() % 12;
    std::vector<GroupRule> rules;
    std::vector<std::vector<bool>> present;
    for (size_t g = 0; g < 1 + random() % 3; ++g) {
      rules.push_back(random() % 2 == 0 ? kFull : Window(1 + random() % 5));
      std::vector<bool> row(blocks);
      const uint32_t sparsity = 1 + random() % 8;
      std::generate(row.begin(), row.end(), [&] { return random() % sparsity != 0 || sparsity == 1; });
      present.push_back(row);
    }
    ASSERT_EQ(Match(rules, present), ByDefinition(rules, present));
  }
}

}  // namespace
}  // namespace mnemo

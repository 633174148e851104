#include "client/cli/context_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mnemo::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

client::ContextDescription Described(uint64_t tokens, std::vector<client::ContextRun> runs) {
  client::ContextDescription description;
  description.context.tokens = tokens;
  description.runs = std::move(runs);
  return description;
}

TEST(ContextPictureTest, EachCellShowsWhatMostOfItsTokensHave) {
  const std::string picture = DrawContext(
      Described(
          1600,
          {{.count = 400, .level = client::Level::kDisk, .index = "ivf"},
           {.first_position = 400, .count = 790, .level = client::Level::kL3, .index = "hnsw"},
           {.first_position = 1190,
            .count = 410,
            .level = client::Level::kL1,
            .index = "growing"}}),
      16);
  EXPECT_THAT(picture, StartsWith("level  |DDDD333333331111|\n"
                                  "index  |iiiihhhhhhhhgggg|\n"
                                  "        0          1,600\n"));
  EXPECT_THAT(picture, HasSubstr("D Disk"));
}

TEST(ContextPictureTest, FewTokensHaveFewCells) {
  EXPECT_THAT(
      DrawContext(Described(3, {{.count = 3, .level = client::Level::kL2, .index = "flat"}}), 64),
      StartsWith("level  |222|\nindex  |fff|\n"));
}

TEST(ContextPictureTest, ACountThatNoProductHoldsIsDrawn) {
  const uint64_t tokens = uint64_t{1} << 47;
  EXPECT_THAT(DrawContext(Described(tokens, {{.count = tokens / 2, .level = client::Level::kL3},
                                             {.first_position = tokens / 2,
                                              .count = tokens / 2,
                                              .level = client::Level::kL1}}),
                          16),
              StartsWith("level  |3333333311111111|\nindex  |????????????????|\n"));
}

TEST(ContextPictureTest, NothingIsDrawnOfNothing) { EXPECT_EQ(DrawContext({}, 64), ""); }

}  // namespace
}  // namespace mnemo::cli

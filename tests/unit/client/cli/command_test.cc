#include "client/cli/command.h"

#include <sstream>

#include "tests/support/status_matchers.h"

namespace mnemo::cli {
namespace {

using ::testing::HasSubstr;

TEST(CommandTest, KeyIsHexadecimalOrTextBehindItsPrefix) {
  EXPECT_EQ(*ParseKey("00fFa0"), std::string("\x00\xff\xa0", 3));
  EXPECT_EQ(*ParseKey("text:block-1"), "block-1");
  EXPECT_EQ(*ParseKey("text:text:"), "text:");
  for (const char* bad : {"", "0", "abc", "zz", "0x12", "1 ", "-1", "+1"}) {
    EXPECT_THAT(ParseKey(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text:")))
        << bad;
  }
}

TEST(CommandTest, SpaceIsANameOrAnIdBehindItsPrefix) {
  EXPECT_EQ(std::get<std::string>(ParseSpace("llama")->ref), "llama");
  EXPECT_EQ(std::get<std::string>(ParseSpace("1234")->ref), "1234");
  EXPECT_EQ(std::get<uint64_t>(ParseSpace("id:00000000000000ff")->ref), 255u);
  for (const char* bad : {"id:", "id:xyz", "id:12 ", "id:10000000000000000"}) {
    EXPECT_THAT(ParseSpace(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad)))
        << bad;
  }
}

TEST(CommandTest, LevelsHaveTheNamesOfTheMetrics) {
  EXPECT_EQ(LevelName(client::Level::kL1), "l1_ram");
  EXPECT_EQ(LevelName(client::Level::kL2), "l2_ram");
  EXPECT_EQ(LevelName(client::Level::kL3), "l3_disk");
  EXPECT_EQ(LevelName(client::Level::kDisk), "archive");
  EXPECT_EQ(LevelName(client::Level::kNone), "none");
}

class ConfirmTest : public ::testing::Test {
 protected:
  bool Confirm(const std::string& answer, bool terminal, bool yes = false) {
    std::istringstream in(answer);
    Invocation run({.out = out_, .err = err_, .in = in, .input_is_terminal = terminal});
    run.yes = yes;
    return run.Confirm("Delete it?");
  }
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(ConfirmTest, OnlyAClearYesCounts) {
  for (const char* yes : {"y\n", "Y\n", "yes\n", "y"}) EXPECT_TRUE(Confirm(yes, true)) << yes;
  for (const char* no : {"n\n", "\n", "", "yep\n", " y\n", "no\ny\n"}) {
    EXPECT_FALSE(Confirm(no, true)) << no;
  }
  EXPECT_THAT(err_.str(), HasSubstr("Delete it? [y/N] "));
  EXPECT_EQ(out_.str(), "");
}

TEST_F(ConfirmTest, WithoutATerminalTheAnswerIsNoAndSaysWhatToDo) {
  EXPECT_FALSE(Confirm("y\n", false));
  EXPECT_THAT(err_.str(), HasSubstr("--yes"));
}

TEST_F(ConfirmTest, YesAsksNothing) {
  EXPECT_TRUE(Confirm("", false, /*yes=*/true));
  EXPECT_EQ(err_.str(), "");
}

}  // namespace
}  // namespace mnemo::cli

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/cli/run_mnemoctl.h"

namespace mnemo::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(CompletionCommandTest, BashKnowsEveryCommandWithItsOptions) {
  const Ran ran = RunMnemoctl({"completion", "bash"});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out, HasSubstr("'') words='status tier space context auth tenant config bench "
                                 "version completion --help "));
  EXPECT_THAT(ran.out, HasSubstr("'tier') words='list stats inspect "));
  EXPECT_THAT(ran.out, HasSubstr("'space create') words=' --file --opaque --dry-run --help "));
  EXPECT_THAT(ran.out, HasSubstr("'completion') words='bash zsh fish "));
  EXPECT_THAT(ran.out, HasSubstr("-o|--output) words='table wide json yaml'"));
}

TEST(CompletionCommandTest, BashSkipsTheValuesOfOptionsAndNotThoseOfFlags) {
  const std::string script = RunMnemoctl({"completion", "bash"}).out;
  for (const char* valued : {"|--server|", "|--salt|", "|-s|", "--opaque|"}) {
    EXPECT_THAT(script, HasSubstr(valued));
  }
  EXPECT_THAT(script, Not(HasSubstr("|--yes|")));
  EXPECT_THAT(script, Not(HasSubstr("|--dry-run|")));
}

TEST(CompletionCommandTest, ZshLoadsTheScriptOfBash) {
  const std::string script = RunMnemoctl({"completion", "zsh"}).out;
  EXPECT_THAT(script, StartsWith("#compdef mnemoctl\n"));
  EXPECT_THAT(script, HasSubstr(RunMnemoctl({"completion", "bash"}).out));
}

TEST(CompletionCommandTest, FishOffersAVerbOnlyBehindItsNoun) {
  const std::string script = RunMnemoctl({"completion", "fish"}).out;
  EXPECT_THAT(script, HasSubstr("-n '__fish_seen_subcommand_from tier; and not "
                                "__fish_seen_subcommand_from list stats inspect' "
                                "-a 'list stats inspect'\n"));
  EXPECT_THAT(script, HasSubstr("-n '__fish_seen_subcommand_from tier; and "
                                "__fish_seen_subcommand_from inspect' -l salt -r\n"));
  EXPECT_THAT(script,
              HasSubstr("complete -c mnemoctl -l output -s o -x -a 'table wide json yaml'\n"));
  EXPECT_THAT(script, HasSubstr("complete -c mnemoctl -l yes\n"));
}

}  // namespace
}  // namespace mnemo::cli

// The command line as a whole: what is refused before any daemon is asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/cli/run_mnemoctl.h"

namespace mnemo::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Refused {
  std::vector<std::string> arguments;
  std::string message;
  std::string help;  // of which the way to it is named
};

class UsageTest : public ::testing::TestWithParam<Refused> {};

TEST_P(UsageTest, IsRefusedWithWhatIsWrongAndWhereHelpIs) {
  const Ran ran = RunMnemoctl(GetParam().arguments);
  EXPECT_EQ(ran.code, ExitCode::kUsage);
  EXPECT_EQ(ran.out, "") << "messages go to standard error";
  EXPECT_THAT(ran.err, StartsWith("mnemoctl: " + GetParam().message));
  EXPECT_THAT(ran.err, HasSubstr("'" + GetParam().help + " --help'"));
}

INSTANTIATE_TEST_SUITE_P(
    CommandLines, UsageTest,
    ::testing::Values(
        Refused{{}, "a command is missing; there are status, tier, space,", "mnemoctl"},
        Refused{{"spcae"}, "no command 'spcae' here; there are status, tier,", "mnemoctl"},
        Refused{{"space"},
                "a command is missing; there are list, show, create, set, delete",
                "mnemoctl space"},
        Refused{{"tier", "lst"},
                "no command 'lst' here; there are list, stats, inspect",
                "mnemoctl tier"},
        Refused{{"space", "list", "more"}, "'more' is one word too many", "mnemoctl space list"},
        Refused{{"space", "list", "--all"}, "no option --all here", "mnemoctl space list"},
        Refused{{"\033[2J"}, "no command '\\x1b[2J' here", "mnemoctl"},
        Refused{{"-o", "xml", "status"},
                "--output: 'xml' is not one of table wide json yaml",
                "mnemoctl status"},
        Refused{{"status", "--timeout", "0"},
                "--timeout: '0' is out of range; it must be 1ms to 24h",
                "mnemoctl status"},
        Refused{
            {"status", "--timeout", "25h"}, "--timeout: '25h' is out of range", "mnemoctl status"},
        Refused{{"status", "--timeout", "soon"}, "--timeout: ", "mnemoctl status"},
        Refused{{"space", "show"}, "SPACE is required", "mnemoctl space show"},
        Refused{{"space", "create"}, "NAME is required", "mnemoctl space create"},
        Refused{{"space", "create", "a"},
                "one of --file and --opaque is required",
                "mnemoctl space create"},
        Refused{{"space", "create", "a", "--dry-run"},
                "one of --file and --opaque is required",
                "mnemoctl space create"},
        Refused{{"space", "create", "a", "--opaque", "0"}, "--opaque: ", "mnemoctl space create"},
        Refused{
            {"space", "create", "a", "--opaque", "65536"}, "--opaque: ", "mnemoctl space create"},
        Refused{{"space", "create", "a", "--opaque", "16", "--file", "f"},
                "--file excludes --opaque",
                "mnemoctl space create"},
        Refused{{"tier", "inspect", "00"}, "--space is required", "mnemoctl tier inspect"},
        Refused{{"bench", "--count", "0"}, "--count: ", "mnemoctl bench"},
        Refused{{"completion"}, "SHELL is required", "mnemoctl completion"},
        Refused{
            {"completion", "tcsh"}, "SHELL: tcsh not in {bash,zsh,fish}", "mnemoctl completion"}));

TEST(MnemoctlTest, HelpIsDataAndSucceeds) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"space", "create", "--help"}}) {
    const Ran ran = RunMnemoctl(arguments);
    EXPECT_EQ(ran.code, ExitCode::kOk);
    EXPECT_THAT(ran.out, HasSubstr("Usage: mnemoctl"));
    EXPECT_THAT(ran.err, IsEmpty());
  }
}

TEST(MnemoctlTest, VersionNeedsNoDaemon) {
  EXPECT_THAT(RunMnemoctl({"version"}).out, StartsWith("mnemoctl 0."));
  EXPECT_THAT(RunMnemoctl({"version", "-o", "json"}).out, StartsWith("{\n  \"version\": \"0."));
  EXPECT_THAT(RunMnemoctl({"-o", "yaml", "version"}).out, StartsWith("version: \"0."));
}

TEST(MnemoctlTest, ServerThatDoesNotAnswerIsNamedWithItsOwnCode) {
  const Ran flag = RunMnemoctl({"status", "--server", "unix:/nowhere/socket"});
  EXPECT_EQ(flag.code, ExitCode::kUnreachable);
  EXPECT_THAT(flag.err, HasSubstr("(server unix:/nowhere/socket)"));
  EXPECT_EQ(flag.out, "");
  const Ran environment = RunMnemoctl({"status"}, {.server = "unix:/nowhere/else"});
  EXPECT_THAT(environment.err, HasSubstr("(server unix:/nowhere/else)"));
  const Ran both = RunMnemoctl({"status", "--server", "unix:/flag"}, {.server = "unix:/nowhere"});
  EXPECT_THAT(both.err, HasSubstr("(server unix:/flag)"));
}

}  // namespace
}  // namespace mnemo::cli

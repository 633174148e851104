#include "server/config/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CommandLineTest, ChoosesTheAction) {
  const auto action = [](const std::string& flag) { return ParseCommandLine({flag})->action; };
  EXPECT_EQ(ParseCommandLine({})->action, CommandLine::Action::kServe);
  EXPECT_EQ(action("--check-config"), CommandLine::Action::kCheckConfig);
  EXPECT_EQ(action("--print-config"), CommandLine::Action::kPrintConfig);
  EXPECT_EQ(action("--print-config-schema"), CommandLine::Action::kPrintSchema);
  EXPECT_EQ(action("--print-config-reference"), CommandLine::Action::kPrintReference);
  EXPECT_EQ(action("--print-config-example"), CommandLine::Action::kPrintExample);
  EXPECT_EQ(action("--version"), CommandLine::Action::kPrintVersion);
  EXPECT_EQ(action("--help"), CommandLine::Action::kPrintHelp);
  EXPECT_THAT(ParseCommandLine({"--help"})->help, HasSubstr("--data-dir"));
}

TEST(CommandLineTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(ParseCommandLine({"serve"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseCommandLine({"--set", "listen"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("KEY=VALUE")));
  EXPECT_THAT(ParseCommandLine({"--set", "=1"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseCommandLine({"--listen"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseCommandLine({"--listen", "a:1", "--listen", "b:1"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CommandLineTest, KeepsEqualsSignsAndCommasOfAValue) {
  ASSERT_OK_AND_ASSIGN(const CommandLine parsed, ParseCommandLine({"--set", "data_dir=/a=b,c"}));
  EXPECT_THAT(parsed.assignments, ElementsAre(Field(&Assignment::text, "/a=b,c")));
}

TEST(CommandLineTest, BooleanFlagMayBeTurnedOff) {
  EXPECT_THAT(ParseCommandLine({"--insecure"})->assignments,
              ElementsAre(Field(&Assignment::text, "true")));
  EXPECT_THAT(ParseCommandLine({"--insecure=false"})->assignments,
              ElementsAre(Field(&Assignment::text, "false")));
}

TEST(YamlTest, FlattensSectionsAndTakesDottedKeys) {
  ASSERT_OK_AND_ASSIGN(const std::vector<Assignment> parsed,
                       ParseYaml("a:\n  b:\n    c: 1\nd.e: two\n", "f"));
  ASSERT_EQ(parsed.size(), 2u);
  EXPECT_EQ(parsed[0].key, "a.b.c");
  EXPECT_EQ(parsed[0].text, "1");
  EXPECT_EQ(parsed[0].where, "f:3");
  EXPECT_EQ(parsed[0].origin, "file:f");
  EXPECT_EQ(parsed[1].key, "d.e");
  EXPECT_EQ(parsed[1].text, "two");
}

TEST(YamlTest, EmptyFileSaysNothing) {
  EXPECT_THAT(*ParseYaml("", "f"), IsEmpty());
  EXPECT_THAT(*ParseYaml("# only a comment\n---\n", "f"), IsEmpty());
}

TEST(YamlTest, RefusesWhatIsNoMappingOfValuesNamingTheLine) {
  const auto refused = [](const std::string& text, const std::string& message) {
    EXPECT_THAT(ParseYaml(text, "f"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refused("a: 1\na: 2\n", "f:2: a is there twice");
  refused("a:\n  b: 1\n\n  b: 2\n", "f:4: a.b is there twice");
  refused("a.b: 1\na:\n  b: 2\n", "f:3: a.b is there twice");
  refused("a: [1, 2]\n", "f:1: a has a list where a value belongs");
  refused("x: 1\na:\n", "f:2: a has nothing where a value belongs");
  refused("- 1\n- 2\n", "f:1: the file is not a mapping");
  refused("just text", "not a mapping");
  refused("b: 1\na: {open\n", "f:3: not YAML");
  refused("a: *nobody\n", "f:1: not YAML");
  refused("? [1, 2]\n: 3\n", "a key is not a word");
  refused("a: 1\n---\nb: 2\n", "f:2: a second document");
  refused("---\n---\nb: 2\n", "f:2: a second document");
  refused("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", "nested too deeply");
}

// Aliases of aliases expand to 10^9 nodes; the walk must not follow them all.
TEST(YamlTest, AliasBombEndsAtOnce) {
  std::string text = "a0: &a0 {k0: 1, k1: 1, k2: 1}\n";
  for (int i = 1; i < 20; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " {";
    for (int j = 0; j < 10; ++j) {
      text += "k" + std::to_string(j) + ": *a" + std::to_string(i - 1) + ", ";
    }
    text += "z: 1}\n";
  }
  EXPECT_THAT(ParseYaml(text, "f"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(YamlTest, DeepNestingIsRefusedNotRecursedInto) {
  EXPECT_THAT(ParseYaml(std::string(500'000, '['), "f"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParseYaml(std::string(500'000, '{'), "f"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace mnemo

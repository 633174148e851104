#include "client/cli/output.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace mnemo::cli {
namespace {

std::string Drawn(const Table& table, bool wide) {
  std::ostringstream out;
  table.Print(out, wide);
  return out.str();
}

TEST(OutputTest, TableAlignsNumbersRightAndLeavesNoTrailingBlanks) {
  Table table({{"NAME"}, {"PARTS", true}, {"CLASS"}});
  table.AddRow({"a", "12,345", "sync"});
  table.AddRow({"longer", "7", ""});
  EXPECT_EQ(Drawn(table, false),
            "NAME     PARTS  CLASS\n"
            "a       12,345  sync\n"
            "longer       7\n");
}

TEST(OutputTest, WideColumnsShowOnlyWhenAskedFor) {
  Table table({{"NAME"}, {"ID", false, true}, {"SIZE", true}});
  table.AddRow({"a", "a-very-long-id", "1"});
  EXPECT_EQ(Drawn(table, false), "NAME  SIZE\na        1\n");
  EXPECT_EQ(Drawn(table, true), "NAME  ID              SIZE\na     a-very-long-id     1\n");
}

TEST(OutputTest, TableWithoutRowsIsItsHeading) {
  EXPECT_EQ(Drawn(Table({{"NAME"}, {"SIZE", true}}), false), "NAME  SIZE\n");
}

TEST(OutputTest, PrintableLetsNothingDriveTheTerminal) {
  EXPECT_EQ(Printable("plain ~"), "plain ~");
  EXPECT_EQ(Printable("\033[2J\n\x7f\xc3\xa9"), "\\x1b[2J\\x0a\\x7f\\xc3\\xa9");
  EXPECT_EQ(Printable(std::string_view("\0", 1)), "\\x00");
}

TEST(OutputTest, NumbersAreGroupedByThousands) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1000), "1,000");
  EXPECT_EQ(Grouped(123456), "123,456");
  EXPECT_EQ(Grouped(18446744073709551615u), "18,446,744,073,709,551,615");
  EXPECT_EQ(Percent(0.123), "12.3 %");
  EXPECT_EQ(Hex(std::string_view("\x00\x0f\xff", 3)), "000fff");
}

TEST(OutputTest, JsonReplacesWhatIsNotUtf8InsteadOfFailing) {
  std::ostringstream out;
  PrintJson(out, {{"name", "\xff"}, {"n", 1}});
  EXPECT_EQ(out.str(), "{\n  \"name\": \"\xef\xbf\xbd\",\n  \"n\": 1\n}\n");
}

TEST(OutputTest, YamlReadsBackAsTheSameTypes) {
  std::ostringstream out;
  PrintYaml(out, {{"name", "on"}, {"version", "1e3"}, {"count", 7}, {"list", {true, "x\"y"}}});
  const YAML::Node node = YAML::Load(out.str());
  EXPECT_EQ(node["name"].Tag(), "!") << "not quoted: " << out.str();
  EXPECT_EQ(node["version"].as<std::string>(), "1e3");
  EXPECT_EQ(node["version"].Tag(), "!");
  EXPECT_EQ(node["count"].as<int>(), 7);
  EXPECT_TRUE(node["list"][0].as<bool>());
  EXPECT_EQ(node["list"][1].as<std::string>(), "x\"y");
}

TEST(OutputTest, ColoursOnlyOnATerminalThatCanAndNeverWithNoColor) {
  EXPECT_TRUE(MayColour(true, nullptr, "xterm"));
  EXPECT_TRUE(MayColour(true, "", "xterm")) << "an empty NO_COLOR does not count";
  EXPECT_FALSE(MayColour(true, "1", "xterm"));
  EXPECT_FALSE(MayColour(false, nullptr, "xterm"));
  EXPECT_FALSE(MayColour(true, nullptr, "dumb"));
  EXPECT_FALSE(MayColour(true, nullptr, nullptr));
  EXPECT_EQ(Painted(false, Tone::kBad, "x"), "x");
  EXPECT_EQ(Painted(true, Tone::kBad, "x"), "\033[31mx\033[0m");
  EXPECT_EQ(Painted(true, Tone::kGood, "x"), "\033[32mx\033[0m");
}

}  // namespace
}  // namespace mnemo::cli

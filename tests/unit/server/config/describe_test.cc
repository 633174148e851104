#include "server/config/describe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "server/config/config.h"
#include "storage/base/units.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

std::string ReadSource(const std::string& path) {
  std::ifstream file(std::string(MNEMO_SOURCE_DIR) + "/" + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(DescribeTest, PublishedFilesAreThoseOfTheCode) {
  EXPECT_EQ(ReadSource("docs/operations-config.md"), ConfigReference())
      << "mnemod --print-config-reference >docs/operations-config.md";
  EXPECT_EQ(ReadSource("deploy/config/mnemod.yaml"), ConfigExample())
      << "mnemod --print-config-example >deploy/config/mnemod.yaml";
  EXPECT_EQ(ReadSource("deploy/config/mnemod.schema.json"), ConfigSchema())
      << "mnemod --print-config-schema >deploy/config/mnemod.schema.json";
}

TEST(DescribeTest, ExampleWithEveryLineTakenInIsTheDefaultConfiguration) {
  std::string text = ConfigExample();
  text = std::regex_replace(text, std::regex("\n#([a-z])"), "\n$1");
  ASSERT_OK_AND_ASSIGN(const std::vector<Assignment> assignments, ParseYaml(text, "example"));
  EXPECT_EQ(assignments.size(), ConfigRegistry().size());
  CommandLine command_line;
  command_line.assignments = assignments;
  const HostProbe probe = [](const std::string&) {
    return absl::StatusOr<HostFacts>(HostFacts{kGiB, kGiB, 0});
  };
  ASSERT_OK_AND_ASSIGN(const LoadedConfig example, LoadConfig(command_line, {}, probe));
  ASSERT_OK_AND_ASSIGN(const LoadedConfig defaults, LoadConfig({}, {}, probe));
  ASSERT_EQ(example.entries.size(), defaults.entries.size());
  for (size_t i = 0; i < defaults.entries.size(); ++i) {
    EXPECT_EQ(example.entries[i].value, defaults.entries[i].value);
  }
}

TEST(DescribeTest, SchemaPatternsTakeEveryDefaultAndBound) {
  const nlohmann::json schema = nlohmann::json::parse(ConfigSchema());
  for (const Setting& setting : ConfigRegistry()) {
    const nlohmann::json* node = &schema;
    std::stringstream path{std::string(setting.key)};
    std::string name;
    while (std::getline(path, name, '.')) {
      EXPECT_FALSE((*node)["additionalProperties"].get<bool>());
      node = &(*node)["properties"].at(name);
    }
    if (!node->contains("pattern")) continue;
    const std::regex pattern((*node)["pattern"].get<std::string>());
    for (const std::string_view text : {setting.default_text, setting.minimum, setting.maximum}) {
      EXPECT_TRUE(std::regex_match(std::string(text), pattern)) << setting.key << " " << text;
    }
    EXPECT_FALSE(std::regex_match("much", pattern));
  }
}

}  // namespace
}  // namespace mnemo

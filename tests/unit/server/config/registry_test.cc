#include "server/config/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "server/config/config.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

const void* AddressOf(const Setting& setting, Config& config) {
  return std::visit([&](const auto& field) -> const void* { return &field.of(config); },
                    setting.field);
}

TEST(RegistryTest, KeysAreSortedAndUniqueAndDescribed) {
  const std::vector<Setting>& registry = ConfigRegistry();
  ASSERT_FALSE(registry.empty());
  for (size_t i = 1; i < registry.size(); ++i) EXPECT_LT(registry[i - 1].key, registry[i].key);
  for (const Setting& setting : registry) {
    EXPECT_TRUE(setting.description.ends_with('.')) << setting.key;
    EXPECT_EQ(setting.key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._"),
              std::string_view::npos)
        << setting.key;
  }
}

// "memory.l1" and "memory_l1" would share a variable and a flag.
TEST(RegistryTest, EachSettingHasItsOwnFieldFlagAndVariable) {
  Config config;
  std::set<const void*> fields;
  std::set<std::string> flags, variables;
  for (const Setting& setting : ConfigRegistry()) {
    EXPECT_TRUE(fields.insert(AddressOf(setting, config)).second) << setting.key;
    EXPECT_TRUE(flags.insert(setting.FlagName()).second) << setting.key;
    EXPECT_TRUE(variables.insert(setting.EnvironmentName()).second) << setting.key;
  }
}

TEST(RegistryTest, DefaultsAndBoundsAreAllowedValues) {
  Config config;
  for (const Setting& setting : ConfigRegistry()) {
    EXPECT_OK(AssignSetting(setting, setting.default_text, config));
    for (const std::string_view bound : {setting.minimum, setting.maximum}) {
      if (bound.empty()) continue;
      EXPECT_OK(AssignSetting(setting, bound, config)) << setting.key;
    }
  }
}

TEST(RegistryTest, NumbersHaveBothBounds) {
  for (const Setting& setting : ConfigRegistry()) {
    const bool bounded = std::holds_alternative<SizeField>(setting.field) ||
                         std::holds_alternative<DurationField>(setting.field) ||
                         std::holds_alternative<IntegerField>(setting.field) ||
                         std::holds_alternative<RealField>(setting.field);
    EXPECT_EQ(bounded, !setting.minimum.empty() && !setting.maximum.empty()) << setting.key;
  }
}

TEST(RegistryTest, RefusesGarbageInEveryTypedField) {
  Config config;
  for (const Setting& setting : ConfigRegistry()) {
    if (std::holds_alternative<TextField>(setting.field)) continue;
    const std::string garbage = std::string(200, 'z') + "\n";
    EXPECT_THAT(AssignSetting(setting, garbage, config),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << setting.key;
  }
}

TEST(RegistryTest, NamesFollowFromTheKey) {
  const Setting* setting = FindSetting(ConfigRegistry(), "memory.disk_cache");
  ASSERT_NE(setting, nullptr);
  EXPECT_EQ(setting->FlagName(), "--memory-disk-cache");
  EXPECT_EQ(setting->EnvironmentName(), "MNEMO_MEMORY_DISK_CACHE");
  EXPECT_EQ(FindSetting(ConfigRegistry(), "memory"), nullptr);
}

TEST(NearestNameTest, TakesTheNearestAndNothingFarAway) {
  const std::vector<std::string> known = {"memory.l1", "memory.l2", "memory.total", "listen"};
  EXPECT_EQ(NearestName("memory.totla", known), "memory.total");
  EXPECT_EQ(NearestName("listne", known), "listen");
  EXPECT_EQ(NearestName("xyz", known), "");
  EXPECT_EQ(NearestName(std::string(100000, 'm'), known), "");
}

}  // namespace
}  // namespace mnemo

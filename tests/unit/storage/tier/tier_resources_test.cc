#include "storage/tier/tier_resources.h"

#include <functional>
#include <string>
#include <vector>

#include "storage/tier/instance.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

TEST(TierResourcesTest, NamesTheOptionThatIsOutOfRange) {
  const std::vector<std::pair<TierResourcesOptions, std::string>> cases = {
      {{.memory_bytes = 1}, "memory_bytes is 1 (16777216 to"},
      {{.memory_bytes = 32 << 20, .write_buffer_bytes = 33 << 20}, "write_buffer_bytes"},
      {{.background_bytes_per_second = 5}, "background_bytes_per_second is 5"},
      {{.background_threads = 0}, "background_threads is 0 (1 to 64)"},
  };
  for (const auto& [options, message] : cases) {
    EXPECT_THAT(TierResources::Create(options).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
  EXPECT_OK(TierResourcesOptions{}.Validate());
}

TEST(TierResourcesTest, OneBudgetHoldsForAllInstancesTogether) {
  TempDir dir;
  const auto files = MakePosixFileSystem();
  SystemClock clock;
  constexpr uint64_t kBudget = 24ull << 20;
  ASSERT_OK_AND_ASSIGN(auto resources, TierResources::Create({.memory_bytes = kBudget,
                                                              .write_buffer_bytes = 8ull << 20}));
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < 3; ++i) {
    InstanceOptions options = SmallInstance(dir / std::to_string(i), Durability::kCache);
    options.write_buffer_bytes = 64ull << 20;  // each alone would take more than all may
    ASSERT_OK_AND_ASSIGN(instances.emplace_back(),
                         Instance::Open(options, *files, clock, *resources, nullptr));
  }
  uint64_t most = 0;
  for (uint64_t i = 0; i < 1500; ++i) {
    ASSERT_OK(PutTestBlock(instances[i % 3]->blocks(), i, 50'000));
    most = std::max(most, resources->write_buffer_used_bytes());
  }
  // What is being flushed still counts while new writes go on beside it.
  EXPECT_LT(most, 2 * (8ull << 20) + (2ull << 20));
  EXPECT_GT(most, 1ull << 20);
  EXPECT_LE(resources->memory_used_bytes(), kBudget + (4ull << 20));
  instances.clear();
  EXPECT_OK(resources->SetMemoryBytes(16ull << 20));
  EXPECT_FALSE(resources->SetMemoryBytes(1).ok());
}

}  // namespace
}  // namespace mnemo

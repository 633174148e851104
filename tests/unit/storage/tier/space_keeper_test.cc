#include "storage/tier/space_keeper.h"

#include <random>
#include <string>
#include <vector>

#include "storage/tier/instance.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

struct Churn {
  std::string name;
  bool in_order = true;  // the oldest goes first, as a cache evicts; otherwise any
};

class SpaceKeeperChurnTest : public ::testing::TestWithParam<Churn> {};

// Five times the capacity goes through, in sizes from 4 KiB to 400 KiB.
TEST_P(SpaceKeeperChurnTest, HoldsItsBoundsThroughFiveTimesTheCapacity) {
  TempDir dir;
  const auto files = MakePosixFileSystem();
  SystemClock clock;
  const auto resources = MakeTestResources();
  InstanceOptions options = SmallInstance(dir / "i", Durability::kCache);
  options.write_buffer_bytes = 2ull << 20;
  ASSERT_OK_AND_ASSIGN(auto instance, Instance::Open(options, *files, clock, *resources, nullptr));
  constexpr uint64_t kCapacity = 60ull << 20;
  std::mt19937_64 random(GetParam().in_order ? 1 : 2);
  std::vector<uint64_t> present;
  uint64_t written = 0;
  uint64_t number = 0;
  double worst = 0;
  while (written < 6 * kCapacity) {
    const size_t size = 4096ull << (random() % 7);
    while (instance->blocks().Stats().live_bytes + size > kCapacity) {
      const size_t at = GetParam().in_order ? 0 : random() % present.size();
      ASSERT_OK(instance->blocks().Erase(TestKey(present[at]), {}));
      present.erase(present.begin() + static_cast<ptrdiff_t>(at));
    }
    present.push_back(number);
    ASSERT_OK(PutTestBlock(instance->blocks(), number++, size));
    written += size;
    if (number % 4 == 0) {
      ASSERT_OK(instance->MaintainSpace());
    }
    if (written > kCapacity) worst = std::max(worst, instance->Stats().SpaceAmplification());
  }
  const InstanceStats stats = instance->Stats();
  EXPECT_LE(worst, 1.3);
  EXPECT_LE(stats.WriteAmplification(), 3.0);
  RecordProperty("space_amplification", std::to_string(worst));
  RecordProperty("write_amplification", std::to_string(stats.WriteAmplification()));
  for (const uint64_t block : present) {
    ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, instance->blocks().Get(TestKey(block), {}));
    ASSERT_TRUE(TestValueIsWhole(TestKey(block), bytes.ToString()));
  }
}

INSTANTIATE_TEST_SUITE_P(Churns, SpaceKeeperChurnTest,
                         ::testing::Values(Churn{.name = "OldestFirst"},
                                           Churn{.name = "AtRandom", .in_order = false}),
                         [](const auto& info) { return info.param.name; });

TEST(SpaceKeeperTest, CompactGivesEverythingBack) {
  TempDir dir;
  const auto files = MakePosixFileSystem();
  SystemClock clock;
  const auto resources = MakeTestResources();
  ASSERT_OK_AND_ASSIGN(auto instance, Instance::Open(SmallInstance(dir / "i", Durability::kSync),
                                                     *files, clock, *resources, nullptr));
  for (uint64_t i = 0; i < 100; ++i) ASSERT_OK(PutTestBlock(instance->blocks(), i, 50'000));
  for (uint64_t i = 0; i < 100; ++i) {
    if (i % 10 != 0) {
      ASSERT_OK(instance->blocks().Erase(TestKey(i), {}));
    }
  }
  ASSERT_OK(instance->Flush());
  ASSERT_OK(instance->Compact());
  const InstanceStats stats = instance->Stats();
  EXPECT_EQ(stats.blocks.live_bytes, 500'000u);
  EXPECT_LT(stats.table_bytes + stats.blob_bytes, 700'000u);
}

}  // namespace
}  // namespace mnemo

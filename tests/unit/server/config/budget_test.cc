#include "server/config/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "storage/base/units.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr HostFacts kHost{16 * kGiB, 100 * kGiB, 0};

uint64_t Sum(const Config::Memory& memory) {
  return memory.l1 + memory.l2 + memory.disk_cache + memory.inflight + memory.directory +
         memory.connections + memory.contexts;
}

TEST(DeriveSizesTest, DefaultsSplitHalfOfTheMachine) {
  Config config;
  ASSERT_OK(DeriveSizes(kHost, config));
  EXPECT_EQ(config.memory.total, 8 * kGiB);
  EXPECT_EQ(config.memory.l1, 8 * kGiB / kMiB * 42 / 100 * kMiB);
  EXPECT_LE(Sum(config.memory), config.memory.total);
  EXPECT_GE(Sum(config.memory), config.memory.total / 100 * 95);
  EXPECT_EQ(config.disk.total, 80 * kGiB);
  EXPECT_EQ(config.disk.l3, 40 * kGiB);
  EXPECT_EQ(config.disk.contexts, 8 * kGiB);
  EXPECT_EQ(config.disk.archive, 32 * kGiB);
}

// A restart must not shrink the budget by what the daemon itself has written.
TEST(DeriveSizesTest, OwnFilesCountAsFree) {
  Config before, after;
  ASSERT_OK(DeriveSizes({16 * kGiB, 100 * kGiB, 0}, before));
  ASSERT_OK(DeriveSizes({16 * kGiB, 30 * kGiB, 70 * kGiB}, after));
  EXPECT_EQ(after.disk.total, before.disk.total);
}

TEST(DeriveSizesTest, SizesGivenAreKeptAndTheRestShared) {
  Config config;
  config.memory.total = kGiB;
  config.memory.l1 = 800 * kMiB;
  config.memory.l2 = 0;
  ASSERT_OK(DeriveSizes(kHost, config));
  EXPECT_EQ(config.memory.l1, 800 * kMiB);
  EXPECT_EQ(config.memory.l2, 0u);
  EXPECT_EQ(config.memory.disk_cache, (224 * 12 / 44) * kMiB);
  EXPECT_LE(Sum(config.memory), kGiB);
}

TEST(DeriveSizesTest, NeverExceedsTheTotalAtAnySize) {
  for (uint64_t total = 160 * kMiB; total <= 8 * 1024 * kGiB; total = total / 16 * 17) {
    Config config;
    config.memory.total = total;
    ASSERT_OK(DeriveSizes(kHost, config));
    EXPECT_LE(Sum(config.memory), total);
    EXPECT_GE(config.memory.l1, 64 * kMiB);
  }
}

TEST(DeriveSizesTest, PartsOverTheTotalAreRefusedByName) {
  Config config;
  config.memory.total = kGiB;
  config.memory.l1 = 700 * kMiB;
  config.memory.l2 = 700 * kMiB;
  EXPECT_THAT(DeriveSizes(kHost, config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "memory.l1 700 MiB + memory.l2 700 MiB is more than memory.total 1 GiB"));
  Config disk;
  disk.disk.total = kGiB;
  disk.disk.archive = kGiB;
  EXPECT_THAT(DeriveSizes(kHost, disk),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "disk.total: 1 GiB is too small; its parts need at least 1.06 GiB, "
                       "disk.archive 1 GiB of it given"));
}

TEST(DeriveSizesTest, ContextsHaveSomeOfTheSmallestDisk) {
  Config config;
  config.disk.total = 64 * kMiB;
  ASSERT_OK(DeriveSizes(kHost, config));
  EXPECT_EQ(config.disk.l3, 64 * kMiB);
  EXPECT_EQ(config.disk.contexts, kMiB);
}

class ProbeHostTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_.path() + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  TempDir root_;
};

TEST_F(ProbeHostTest, TakesTheSmallestLimitAboveTheProcess) {
  Write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
  Write("/proc/self/cgroup", "0::/system.slice/mnemod.service\n");
  Write("/sys/fs/cgroup/system.slice/mnemod.service/memory.max", "max\n");
  Write("/sys/fs/cgroup/system.slice/memory.max", "4294967296\n");
  ASSERT_OK_AND_ASSIGN(const HostFacts facts, ProbeHost(root_.path(), root_.path()));
  EXPECT_EQ(facts.memory_bytes, 4 * kGiB);
}

TEST_F(ProbeHostTest, ReadsTheContainersOwnCgroup) {
  Write("/proc/meminfo", "MemTotal:       16777216 kB\n");
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "2147483648\n");
  EXPECT_EQ(ProbeHost(root_.path(), root_.path())->memory_bytes, 2 * kGiB);
}

TEST_F(ProbeHostTest, ReadsVersionOneOfCgroups) {
  Write("/proc/meminfo", "MemTotal:       16777216 kB\n");
  Write("/proc/self/cgroup", "12:cpu,cpuacct:/a\n7:memory:/docker/abc\n");
  Write("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(ProbeHost(root_.path(), root_.path())->memory_bytes, kGiB);
}

TEST_F(ProbeHostTest, WithoutALimitItIsTheRam) {
  Write("/proc/meminfo", "MemTotal:       16777216 kB\n");
  // Version 1 writes "no limit" as a number near 2^63.
  Write("/proc/self/cgroup", "7:memory:/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ProbeHost(root_.path(), root_.path())->memory_bytes, 16 * kGiB);
}

TEST_F(ProbeHostTest, CountsOwnFilesAndTakesAFolderNotYetMade) {
  Write("/proc/meminfo", "MemTotal: 1024 kB\n");
  Write("/data/a/b", std::string(1000, 'x'));
  Write("/data/c", std::string(500, 'x'));
  ASSERT_OK_AND_ASSIGN(const HostFacts facts, ProbeHost(root_ / "data", root_.path()));
  EXPECT_EQ(facts.disk_used_bytes, 1500u);
  EXPECT_GT(facts.disk_free_bytes, 0u);
  ASSERT_OK_AND_ASSIGN(const HostFacts fresh, ProbeHost(root_ / "no/such/dir", root_.path()));
  EXPECT_EQ(fresh.disk_used_bytes, 0u);
  EXPECT_GT(fresh.disk_free_bytes, 0u);
}

TEST_F(ProbeHostTest, UnreadableMachineIsAnError) {
  EXPECT_THAT(ProbeHost(root_.path(), root_.path()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("MemTotal")));
}

TEST(ProbeRealHostTest, KnowsThisMachine) {
  ASSERT_OK_AND_ASSIGN(const HostFacts facts, ProbeHost("/tmp"));
  EXPECT_GT(facts.memory_bytes, 64 * kMiB);
}

}  // namespace
}  // namespace mnemo

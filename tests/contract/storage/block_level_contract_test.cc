// What every BlockLevel promises, over every implementation of it.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "storage/tier/instance.h"
#include "storage/tier/ram_level.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

// A level and what it stands on.
struct Subject {
  std::string name;
  bool durable = true;  // keeps metadata and finds values by key
  Durability durability = Durability::kCache;
  bool faulty_files = false;
  bool direct_reads = false;
};

class BlockLevelContractTest : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (!GetParam().durable) {
      ASSERT_OK_AND_ASSIGN(ram_, RamLevel::Create({.capacity_bytes = 64ull << 20}));
      level_ = ram_.get();
      return;
    }
    std::filesystem::create_directories(dir_ / "graves");
    FileSystem& files = GetParam().faulty_files ? static_cast<FileSystem&>(*faulty_) : *posix_;
    InstanceOptions options = SmallInstance(dir_ / "data/i", GetParam().durability);
    options.direct_reads = GetParam().direct_reads;
    ASSERT_OK_AND_ASSIGN(instance_,
                         Instance::Open(options, files, clock_, *resources_, nullptr));
    level_ = &instance_->blocks();
  }

  // Puts in pieces of uneven sizes, as envelopes come.
  absl::StatusOr<Locator> Put(uint64_t number, const std::string& value) {
    std::vector<ByteView> pieces;
    ByteView rest = AsBytes(value);
    for (size_t size = 1; !rest.empty(); size *= 3) {
      pieces.push_back(rest.first(std::min(size, rest.size())));
      rest = rest.subspan(pieces.back().size());
    }
    return level_->Put(TestKey(number), TestMetadata(number), pieces);
  }
  // To where a flush moves what was put; nothing for RAM.
  void Settle() {
    if (instance_ == nullptr) return;
    ASSERT_OK(instance_->Flush());
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  std::unique_ptr<FaultFileSystem> faulty_ =
      std::make_unique<FaultFileSystem>(*posix_, dir_ / "graves");
  SystemClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  std::unique_ptr<Instance> instance_;
  std::unique_ptr<RamLevel> ram_;
  BlockLevel* level_ = nullptr;
};

TEST_P(BlockLevelContractTest, GivesBackExactlyWhatWasPutWhateverTheSize) {
  std::map<uint64_t, std::pair<Locator, std::string>> put;
  for (const size_t size : {8, 511, 512, 513, 2047, 2048, 4096, 65'536, 1'000'003, 5'000'000}) {
    const uint64_t number = put.size();
    const std::string value = TestValue(TestKey(number), 0, size);
    ASSERT_OK_AND_ASSIGN(const Locator locator, Put(number, value));
    put[number] = {locator, value};
  }
  for (int settled = 0; settled < 2; ++settled) {
    for (const auto& [number, expected] : put) {
      ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes,
                           level_->Get(TestKey(number), expected.first));
      EXPECT_EQ(bytes.size(), expected.second.size());
      EXPECT_EQ(bytes.ToString(), expected.second);
      EXPECT_EQ(bytes.Slice(3, 5).ToString(), expected.second.substr(3, 5));
    }
    ASSERT_NO_FATAL_FAILURE(Settle());
  }
}

TEST_P(BlockLevelContractTest, APinOutlivesTheErasureOfItsValue) {
  const std::string value = TestValue(TestKey(1), 0, 100'000);
  ASSERT_OK_AND_ASSIGN(const Locator locator, Put(1, value));
  ASSERT_NO_FATAL_FAILURE(Settle());
  ASSERT_OK_AND_ASSIGN(const PinnedBytes pinned, level_->Get(TestKey(1), locator));
  ASSERT_OK(level_->Erase(TestKey(1), locator));
  for (uint64_t number = 2; number < 40; ++number) {
    ASSERT_OK(Put(number, TestValue(TestKey(number), 0, 100'000)).status());
  }
  ASSERT_NO_FATAL_FAILURE(Settle());
  EXPECT_EQ(pinned.ToString(), value);
}

TEST_P(BlockLevelContractTest, CountsValuesAndTheirBytes) {
  std::vector<Locator> locators;
  for (uint64_t number = 0; number < 5; ++number) {
    ASSERT_OK_AND_ASSIGN(const Locator locator,
                         Put(number, TestValue(TestKey(number), 0, 1000 * (number + 1))));
    locators.push_back(locator);
  }
  EXPECT_EQ(level_->Stats().values, 5u);
  EXPECT_EQ(level_->Stats().live_bytes, 15'000u);
  EXPECT_GE(level_->Stats().used_bytes, 15'000u);
  ASSERT_OK(level_->Erase(TestKey(4), locators[4]));
  EXPECT_EQ(level_->Stats().values, 4u);
  EXPECT_EQ(level_->Stats().live_bytes, 10'000u);
}

TEST_P(BlockLevelContractTest, ReadersAndWritersDoNotDisturbEachOther) {
  constexpr int kWriters = 3;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      for (uint64_t round = 0; round < 60; ++round) {
        const uint64_t number = 1000 * writer + round;
        const std::string value = TestValue(TestKey(number), round, 10'000 + 100 * round);
        const auto locator = Put(number, value);
        if (!locator.ok()) {
          ++failures;
          continue;
        }
        const auto bytes = level_->Get(TestKey(number), *locator);
        if (!bytes.ok() || bytes->ToString() != value) ++failures;
        if (round % 2 == 0 && !level_->Erase(TestKey(number), *locator).ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(level_->Stats().values, kWriters * 30u);
}

TEST_P(BlockLevelContractTest, SyncIsAlwaysAllowed) {
  EXPECT_OK(level_->Sync());
  ASSERT_OK(Put(1, TestValue(TestKey(1), 0, 100)).status());
  EXPECT_OK(level_->Sync());
}

TEST_P(BlockLevelContractTest, AnAbsentKeyIsNotFoundAndErasingItIsNoError) {
  if (!GetParam().durable) GTEST_SKIP() << "RAM finds by locator, which its owner keeps";
  EXPECT_THAT(level_->Get(TestKey(1), {}), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(level_->Erase(TestKey(1), {}));
  EXPECT_THAT(level_->UpdateMetadata(TestKey(1), TestMetadata(1)),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(BlockLevelContractTest, ReplacesAPresentKey) {
  if (!GetParam().durable) GTEST_SKIP() << "RAM keeps both until one is erased";
  ASSERT_OK(Put(1, TestValue(TestKey(1), 1, 3000)).status());
  ASSERT_OK(Put(1, TestValue(TestKey(1), 2, 70'000)).status());
  ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, level_->Get(TestKey(1), {}));
  EXPECT_EQ(bytes.ToString(), TestValue(TestKey(1), 2, 70'000));
  EXPECT_EQ(level_->Stats().values, 1u);
}

TEST_P(BlockLevelContractTest, ListsMetadataInKeyOrderAndStopsWhenTold) {
  std::vector<std::string> keys;
  for (uint64_t number = 0; number < 300; ++number) {
    ASSERT_OK(Put(number, TestValue(TestKey(number), 0, 100)).status());
    keys.push_back(TestKey(number).bytes());
    if (number == 150) {
      ASSERT_NO_FATAL_FAILURE(Settle());
    }
  }
  std::sort(keys.begin(), keys.end());
  if (!GetParam().durable) keys.clear();
  std::vector<std::string> listed;
  ASSERT_OK(level_->ForEach([&](const StoredKey& key, const BlockMetadata& metadata) {
    listed.push_back(key.bytes());
    EXPECT_EQ(key, TestKey(metadata.digest.low));
    EXPECT_EQ(metadata.stored_bytes, 100u);
    EXPECT_EQ(metadata.parent, "parent");
    return true;
  }));
  EXPECT_EQ(listed, keys);
  size_t visited = 0;
  ASSERT_OK(level_->ForEach([&](const StoredKey&, const BlockMetadata&) {
    return ++visited < 7;
  }));
  EXPECT_EQ(visited, GetParam().durable ? 7u : 0u);
}

TEST_P(BlockLevelContractTest, MetadataIsReplacedWithoutItsValue) {
  ASSERT_OK(Put(1, TestValue(TestKey(1), 0, 3000)).status());
  if (!GetParam().durable) {
    EXPECT_OK(level_->UpdateMetadata(TestKey(1), TestMetadata(1)));
    return;
  }
  BlockMetadata metadata = TestMetadata(1);
  metadata.pinned = true;
  metadata.expires = {.nanos = 12345};
  ASSERT_OK(level_->UpdateMetadata(TestKey(1), metadata));
  ASSERT_OK(level_->ForEach([&](const StoredKey&, const BlockMetadata& found) {
    EXPECT_TRUE(found.pinned);
    EXPECT_EQ(found.expires.nanos, 12345);
    EXPECT_EQ(found.stored_bytes, 3000u);
    return true;
  }));
  EXPECT_OK(level_->Get(TestKey(1), {}));
}

INSTANTIATE_TEST_SUITE_P(
    Levels, BlockLevelContractTest,
    ::testing::Values(Subject{.name = "Ram", .durable = false}, Subject{.name = "RocksCache"},
                      Subject{.name = "RocksInterval", .durability = Durability::kInterval},
                      Subject{.name = "RocksSync", .durability = Durability::kSync},
                      Subject{.name = "RocksDirectReads", .direct_reads = true},
                      Subject{.name = "RocksFaultWrapped",
                              .durability = Durability::kSync,
                              .faulty_files = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mnemo

// Power lost at random moments: what was not synced goes, and the instance
// must come back with a prefix of what was done, as long as its class promises;
// a cache with whole blocks, none older than its last flush.
#include <fmt/format.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "storage/tier/instance.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

constexpr int kCycles = 20;
constexpr int kOperations = 250;
constexpr uint64_t kKeys = 30;

// One change, and what it makes of a key: a version, or nothing.
struct Change {
  uint64_t key = 0;
  std::optional<uint64_t> version;
  size_t size = 0;
};
using Model = std::map<uint64_t, Change>;

// What lies there, from outside: keys by metadata, bytes checked.
Model ReadAll(Instance& instance) {
  Model model;
  for (uint64_t key = 0; key < kKeys; ++key) {
    const absl::StatusOr<PinnedBytes> bytes = instance.blocks().Get(TestKey(key), {});
    if (absl::IsNotFound(bytes.status())) continue;
    EXPECT_OK(bytes);
    if (!bytes.ok()) continue;
    const std::string value = bytes->ToString();
    EXPECT_TRUE(TestValueIsWhole(TestKey(key), value)) << "key " << key;
    model[key] = {.key = key, .size = value.size()};
  }
  uint64_t listed = 0;
  EXPECT_OK(instance.blocks().ForEach([&](const StoredKey&, const BlockMetadata& metadata) {
    ++listed;
    // The version travels in the metadata's digest.
    Change& change = model[metadata.digest.low];
    EXPECT_GT(change.size, 0u) << "metadata without a payload: " << metadata.digest.low;
    change.version = metadata.digest.high;
    return true;
  }));
  EXPECT_EQ(listed, model.size()) << "a payload without metadata";
  return model;
}

bool Same(const Model& expected, const Model& found) {
  if (expected.size() != found.size()) return false;
  for (const auto& [key, change] : expected) {
    const auto other = found.find(key);
    if (other == found.end() || other->second.version != change.version ||
        other->second.size != change.size) {
      return false;
    }
  }
  return true;
}

absl::Status Do(Instance& instance, const Change& change) {
  const StoredKey key = TestKey(change.key);
  if (!change.version.has_value()) return instance.blocks().Erase(key, {});
  BlockMetadata metadata = TestMetadata(change.key);
  metadata.digest.high = *change.version;
  const std::string value = TestValue(key, *change.version, change.size);
  return instance.blocks().Put(key, metadata, {AsBytes(value)}).status();
}

void Advance(Model& model, const Change& change) {
  if (change.version.has_value()) {
    model[change.key] = change;
  } else {
    model.erase(change.key);
  }
}

class PowerLossTest : public ::testing::TestWithParam<Durability> {
 protected:
  PowerLossTest() { std::filesystem::create_directories(dir_ / "graves"); }

  // Runs until the power goes, and leaves what was done in `done`; the last of
  // it may not be acknowledged. Returns how many are promised to be there.
  size_t RunUntilPowerLoss(std::mt19937_64& random, std::vector<Change>& done) {
    auto instance = Open();
    EXPECT_NE(instance, nullptr);
    if (instance == nullptr) return 0;
    files_.FailAfter(random() % 1500);
    size_t promised = 0;
    for (int i = 0; i < kOperations; ++i) {
      Change change{.key = random() % kKeys};
      if (random() % 4 != 0) {
        change.version = ++version_;
        change.size = random() % 10 == 0 ? 200'000 : 8 + random() % 6000;
      }
      done.push_back(change);
      const absl::Status status = Do(*instance, change);
      if (!status.ok()) break;
      if (GetParam() == Durability::kSync) promised = done.size();
      const uint64_t aside = random() % 40;
      if (aside == 0 && instance->Flush().ok()) promised = done.size();
      if (aside == 1) instance->MaintainSpace().IgnoreError();
      if (aside == 2 && instance->blocks().Sync().ok()) promised = done.size();
      if (aside == 3) instance->Compact().IgnoreError();
    }
    files_.SetDead(true);
    instance.reset();
    files_.SetDead(false);
    files_.Heal();
    return promised;
  }

  std::unique_ptr<Instance> Open() {
    report_ = {};
    auto instance = Instance::Open(SmallInstance(dir_ / "data/instance", GetParam()), files_,
                                   clock_, *resources_, &report_);
    EXPECT_OK(instance);
    return instance.ok() ? *std::move(instance) : nullptr;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  FaultFileSystem files_{*posix_, dir_ / "graves"};
  SystemClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  OpenReport report_;
  uint64_t version_ = 0;
};

// Where the state after a restart lies among the states that the changes went
// through; npos if it is none of them.
size_t FindPrefix(Model model, const std::vector<Change>& done, const Model& found,
                  size_t promised) {
  for (size_t i = 0; i <= done.size(); ++i) {
    if (i >= promised && Same(model, found)) return i;
    if (i < done.size()) Advance(model, done[i]);
  }
  return std::string::npos;
}

// A cache keeps no order between keys: of each, what it was at some moment not
// before the last flush.
bool EachKeyIsFromAMoment(const Model& before, const std::vector<Change>& done,
                          const Model& found, size_t promised) {
  for (uint64_t key = 0; key < kKeys; ++key) {
    const auto is = [&](const Model& model) {
      const auto there = model.find(key);
      const auto here = found.find(key);
      if (there == model.end() || here == found.end()) {
        return there == model.end() && here == found.end();
      }
      return there->second.version == here->second.version &&
             there->second.size == here->second.size;
    };
    Model model = before;
    bool met = promised == 0 && is(model);
    for (size_t i = 0; i < done.size() && !met; ++i) {
      Advance(model, done[i]);
      met = i + 1 >= promised && is(model);
    }
    if (!met) return false;
  }
  return true;
}

TEST_P(PowerLossTest, LeavesAsMuchAsPromisedAndNothingElse) {
  const uint64_t first_seed = std::random_device()();
  Model model;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    const uint64_t seed = first_seed + cycle;
    SCOPED_TRACE(fmt::format("first seed {}, cycle {}", first_seed, cycle));
    std::mt19937_64 random(seed);
    std::vector<Change> done;
    const size_t promised = RunUntilPowerLoss(random, done);
    // Every other time some of what was not synced got to the disk.
    ASSERT_OK(files_.DropUnsynced(cycle % 2 == 0 ? std::nullopt : std::optional(seed)));
    auto instance = Open();
    ASSERT_NE(instance, nullptr);
    EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
    const Model found = ReadAll(*instance);
    if (GetParam() == Durability::kCache) {
      ASSERT_TRUE(EachKeyIsFromAMoment(model, done, found, promised));
      model = found;
      ASSERT_OK(instance->Close());
      continue;
    }
    const size_t prefix = FindPrefix(model, done, found, promised);
    ASSERT_NE(prefix, std::string::npos)
        << "the state is no prefix of " << done.size() << " changes with " << promised
        << " promised";
    for (size_t i = 0; i < prefix; ++i) Advance(model, done[i]);
    ASSERT_OK(instance->Close());
  }
}

TEST_P(PowerLossTest, KeepsWhatConcurrentWritersWereTold) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  for (int cycle = 0; cycle < 5; ++cycle) {
    auto instance = Open();
    ASSERT_NE(instance, nullptr);
    std::mt19937_64 random(seed + cycle);
    files_.FailAfter(200 + random() % 600);
    constexpr int kWriters = 4;
    std::vector<std::vector<uint64_t>> told(kWriters);
    std::vector<std::thread> writers;
    for (int writer = 0; writer < kWriters; ++writer) {
      writers.emplace_back([&, writer] {
        for (uint64_t i = 0; i < 200; ++i) {
          const uint64_t key = 1'000'000 * (cycle + 1) + i * kWriters + writer;
          if (!PutTestBlock(instance->blocks(), key, 3000).ok()) return;
          told[writer].push_back(key);
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    files_.SetDead(true);
    instance.reset();
    files_.SetDead(false);
    files_.Heal();
    ASSERT_OK(files_.DropUnsynced(seed));
    instance = Open();
    ASSERT_NE(instance, nullptr);
    EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
    for (const std::vector<uint64_t>& keys : told) {
      bool gone = false;
      for (const uint64_t key : keys) {
        const auto bytes = instance->blocks().Get(TestKey(key), {});
        if (GetParam() == Durability::kSync) {
          ASSERT_OK(bytes) << "acknowledged: " << key;
        }
        // What one writer did in order is lost from the end only.
        EXPECT_FALSE(bytes.ok() && gone) << "a hole before " << key;
        gone = gone || !bytes.ok();
        if (bytes.ok()) {
          EXPECT_TRUE(TestValueIsWhole(TestKey(key), bytes->ToString()));
        }
      }
    }
    for (uint16_t shard = 0; shard < kShardCount; ++shard) {
      uint64_t expected = 0;
      ASSERT_OK(instance->store().ReadLog(shard, 1, [&](const Operation& operation) {
        EXPECT_EQ(operation.sequence, ++expected) << "a gap in shard " << shard;
        return true;
      }));
      EXPECT_EQ(instance->store().LastSequence(shard), expected);
    }
    ASSERT_OK(instance->Close());
  }
}

INSTANTIATE_TEST_SUITE_P(Classes, PowerLossTest,
                         ::testing::Values(Durability::kSync, Durability::kInterval,
                                           Durability::kCache),
                         [](const auto& info) {
                           return info.param == Durability::kSync       ? "Sync"
                                  : info.param == Durability::kInterval ? "Interval"
                                                                        : "Cache";
                         });

}  // namespace
}  // namespace mnemo

#include "storage/tier/instance.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/mutex.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class InstanceTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Instance>> Open(const InstanceOptions& options) {
    return Instance::Open(options, *files_, clock_, *resources_, &report_);
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  SystemClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  OpenReport report_;
};

TEST_F(InstanceTest, KeepsBlocksAndStateOverARestart) {
  for (const Durability durability :
       {Durability::kCache, Durability::kInterval, Durability::kSync}) {
    const InstanceOptions options =
        SmallInstance(dir_ / std::to_string(static_cast<int>(durability)), durability);
    {
      ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
      EXPECT_TRUE(report_.created);
      for (uint64_t i = 0; i < 100; ++i) {
        ASSERT_OK(PutTestBlock(instance->blocks(), i, 100 + i * 500));
      }
      StoreBatch batch;
      batch.Put(TestKey(1), "state");
      batch.Log({.shard = 5, .epoch = 3, .kind = OperationKind::kPutSpace, .key = "k"});
      ASSERT_OK(instance->store().Apply(batch, true));
      ASSERT_OK(instance->Close());
    }
    report_ = {};
    ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
    EXPECT_TRUE(report_.clean);
    EXPECT_FALSE(report_.created);
    EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
    EXPECT_EQ(report_.blocks, 100u);
    for (uint64_t i = 0; i < 100; ++i) {
      ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, instance->blocks().Get(TestKey(i), {}));
      EXPECT_EQ(bytes.ToString(), TestValue(TestKey(i), 0, 100 + i * 500));
    }
    ASSERT_OK_AND_ASSIGN(const std::string state, instance->store().Get(TestKey(1)));
    EXPECT_EQ(state, "state");
    EXPECT_EQ(instance->store().LastSequence(5), durability == Durability::kCache ? 1u : 2u);
    ASSERT_OK(instance->Close());
    report_ = {};
  }
}

TEST_F(InstanceTest, RefusesASecondProcess) {
  const InstanceOptions options = SmallInstance(dir_ / "a", Durability::kCache);
  ASSERT_OK_AND_ASSIGN(auto first, Open(options));
  EXPECT_THAT(Open(options).status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("pid")));
}

TEST_F(InstanceTest, NamesTheOptionThatIsOutOfRange) {
  InstanceOptions options = SmallInstance(dir_ / "a", Durability::kCache);
  options.min_blob_bytes = 1;
  EXPECT_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("min_blob_bytes is 1 (512 to 1048576)")));
  options = SmallInstance(dir_ / "a", Durability::kCache);
  options.level = Level::kL1;
  EXPECT_THAT(options.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("l1_ram")));
}

TEST_F(InstanceTest, RefusesABlockThatWantsMoreDurabilityThanItGives) {
  ASSERT_OK_AND_ASSIGN(auto instance, Open(SmallInstance(dir_ / "a", Durability::kInterval)));
  BlockMetadata metadata = TestMetadata(1);
  metadata.durability = Durability::kSync;
  EXPECT_THAT(instance->blocks().Put(TestKey(1), metadata, {AsBytes("12345678")}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("durability is 3")));
}

TEST_F(InstanceTest, CountsWhatLives) {
  ASSERT_OK_AND_ASSIGN(auto instance, Open(SmallInstance(dir_ / "a", Durability::kCache)));
  BlockLevel& blocks = instance->blocks();
  ASSERT_OK(PutTestBlock(blocks, 1, 1000));
  ASSERT_OK(PutTestBlock(blocks, 2, 5000));
  ASSERT_OK(PutTestBlock(blocks, 1, 3000, 1));
  EXPECT_EQ(blocks.Stats().values, 2u);
  EXPECT_EQ(blocks.Stats().live_bytes, 8000u);
  ASSERT_OK(blocks.Erase(TestKey(2), {}));
  ASSERT_OK(blocks.Erase(TestKey(2), {}));
  EXPECT_EQ(blocks.Stats().values, 1u);
  EXPECT_EQ(blocks.Stats().live_bytes, 3000u);
}

TEST_F(InstanceTest, LogsEveryChangeButACachePut) {
  ASSERT_OK_AND_ASSIGN(auto cache, Open(SmallInstance(dir_ / "c", Durability::kCache)));
  ASSERT_OK_AND_ASSIGN(auto sync, Open(SmallInstance(dir_ / "s", Durability::kSync)));
  std::vector<std::vector<OperationKind>> logs;
  for (Instance* instance : {cache.get(), sync.get()}) {
    ASSERT_OK(PutTestBlock(instance->blocks(), 1, 1000));
    ASSERT_OK(instance->blocks().UpdateMetadata(TestKey(1), TestMetadata(4)));
    ASSERT_OK(instance->blocks().Erase(TestKey(1), {}));
    std::vector<OperationKind>& log = logs.emplace_back();
    ASSERT_OK(instance->store().ReadLog(TestKey(1).shard(), 1, [&](const Operation& operation) {
      EXPECT_EQ(operation.sequence, log.size() + 1);
      EXPECT_EQ(operation.key, TestKey(1).bytes());
      log.push_back(operation.kind);
      return true;
    }));
  }
  EXPECT_THAT(logs[0],
              ::testing::ElementsAre(OperationKind::kUpdateBlock, OperationKind::kDeleteBlock));
  EXPECT_THAT(logs[1], ::testing::ElementsAre(OperationKind::kPutBlock, OperationKind::kUpdateBlock,
                                              OperationKind::kDeleteBlock));
}

TEST_F(InstanceTest, ErasesAWholePrefixAsOneOperation) {
  ASSERT_OK_AND_ASSIGN(auto instance, Open(SmallInstance(dir_ / "a", Durability::kSync)));
  DurableLevel& blocks = instance->blocks();
  const KeyScope mine{.tenant = 1, .space = 2};
  const KeyScope other{.tenant = 1, .space = 3};
  for (int i = 0; i < 10; ++i) {
    for (const KeyScope& scope : {mine, other}) {
      const StoredKey key(4, KeyKind::kBlock, scope, std::to_string(i));
      ASSERT_OK(blocks.Put(key, TestMetadata(i), {AsBytes(TestValue(key, 0, 3000))}));
    }
  }
  const std::string prefix = StoredKey(4, KeyKind::kBlock, mine, "").bytes();
  const uint64_t before = instance->store().LastSequence(4);
  ASSERT_OK_AND_ASSIGN(const uint64_t erased, blocks.ErasePrefix(4, prefix));
  EXPECT_EQ(erased, 10u);
  EXPECT_EQ(instance->store().LastSequence(4), before + 1);
  EXPECT_EQ(blocks.Stats().values, 10u);
  EXPECT_EQ(blocks.Stats().live_bytes, 30000u);
  EXPECT_THAT(blocks.Get(StoredKey(4, KeyKind::kBlock, mine, "3"), {}).status(),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(blocks.Get(StoredKey(4, KeyKind::kBlock, other, "3"), {}).status());
  EXPECT_THAT(blocks.ErasePrefix(5, prefix).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const uint64_t again, blocks.ErasePrefix(4, prefix));
  EXPECT_EQ(again, 0u);
}

TEST_F(InstanceTest, SyncsAnIntervalInstanceByItselfAndOnlyWhenWrittenTo) {
  Mutex mutex;
  CondVar synced;
  int syncs = 0;
  InstanceOptions options = SmallInstance(dir_ / "a", Durability::kInterval);
  options.on_wal_sync = [&](Nanos) {
    MutexLock lock(mutex);
    ++syncs;
    synced.SignalAll();
  };
  ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
  for (int round = 1; round <= 3; ++round) {
    ASSERT_OK(PutTestBlock(instance->blocks(), round, 1000));
    MutexLock lock(mutex);
    while (syncs < round) synced.Wait(mutex);
  }
  EXPECT_EQ(instance->Stats().wal_syncs, static_cast<uint64_t>(syncs));
}

TEST_F(InstanceTest, GivesSequencesWithoutGapsToConcurrentWriters) {
  ASSERT_OK_AND_ASSIGN(auto instance, Open(SmallInstance(dir_ / "a", Durability::kInterval)));
  std::vector<std::thread> writers;
  std::atomic<int> failed{0};
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint16_t i = 0; i < 200; ++i) {
        StoreBatch batch;
        const std::string suffix = std::to_string(writer) + "-" + std::to_string(i);
        batch.Put(StoredKey(0, KeyKind::kNode, {}, suffix), suffix);
        batch.Log({.shard = static_cast<uint16_t>(i % 3), .key = suffix});
        batch.Log({.shard = static_cast<uint16_t>((i + 1) % 3), .key = suffix});
        if (!instance->store().Apply(batch, false).ok()) ++failed;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(failed, 0);
  uint64_t total = 0;
  for (uint16_t shard = 0; shard < 3; ++shard) {
    uint64_t expected = 1;
    ASSERT_OK(instance->store().ReadLog(shard, 1, [&](const Operation& operation) {
      EXPECT_EQ(operation.sequence, expected++);
      return true;
    }));
    EXPECT_EQ(instance->store().LastSequence(shard), expected - 1);
    total += expected - 1;
  }
  EXPECT_EQ(total, 4u * 200u * 2u);
}

TEST_F(InstanceTest, KeepsTheLastSequenceWhenTheWholeLogIsTrimmed) {
  const InstanceOptions options = SmallInstance(dir_ / "a", Durability::kSync);
  {
    ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
    for (int i = 0; i < 5; ++i) ASSERT_OK(PutTestBlock(instance->blocks(), 0, 100));
    ASSERT_OK(instance->store().TrimLog(TestKey(0).shard(), 6));
    ASSERT_OK(instance->Close());
  }
  ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
  EXPECT_EQ(instance->store().LastSequence(TestKey(0).shard()), 5u);
  EXPECT_THAT(instance->store().ReadLog(TestKey(0).shard(), 5,
                                        [](const Operation&) { return true; }),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("from 6 kept")));
}

TEST_F(InstanceTest, PinsOutliveErasingAndClosing) {
  ASSERT_OK_AND_ASSIGN(auto instance, Open(SmallInstance(dir_ / "a", Durability::kCache)));
  ASSERT_OK(PutTestBlock(instance->blocks(), 1, 100));
  ASSERT_OK(PutTestBlock(instance->blocks(), 2, 100'000));
  ASSERT_OK(instance->Flush());
  ASSERT_OK_AND_ASSIGN(const PinnedBytes small, instance->blocks().Get(TestKey(1), {}));
  ASSERT_OK_AND_ASSIGN(const PinnedBytes large, instance->blocks().Get(TestKey(2), {}));
  ASSERT_OK(instance->blocks().Erase(TestKey(1), {}));
  ASSERT_OK(instance->blocks().Erase(TestKey(2), {}));
  ASSERT_OK(instance->Compact());
  ASSERT_OK(instance->Close());
  EXPECT_EQ(small.ToString(), TestValue(TestKey(1), 0, 100));
  EXPECT_EQ(large.ToString(), TestValue(TestKey(2), 0, 100'000));
}

TEST_F(InstanceTest, RefusesPutsOverItsCapacity) {
  InstanceOptions options = SmallInstance(dir_ / "a", Durability::kCache);
  options.capacity_bytes = 10'000;
  ASSERT_OK_AND_ASSIGN(auto instance, Open(options));
  ASSERT_OK(PutTestBlock(instance->blocks(), 1, 6000));
  EXPECT_THAT(PutTestBlock(instance->blocks(), 2, 6000),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("capacity_bytes")));
  ASSERT_OK(instance->blocks().Erase(TestKey(1), {}));
  EXPECT_OK(PutTestBlock(instance->blocks(), 2, 6000));
}

}  // namespace
}  // namespace mnemo

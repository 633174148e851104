// What every Store promises, over every implementation of it.
#include <filesystem>
#include <string>
#include <vector>

#include "storage/tier/instance.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Subject {
  std::string name;
  Durability durability = Durability::kCache;
  bool faulty_files = false;
};

class StoreContractTest : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(dir_ / "graves");
    FileSystem& files = GetParam().faulty_files ? static_cast<FileSystem&>(*faulty_) : *posix_;
    ASSERT_OK_AND_ASSIGN(instance_,
                         Instance::Open(SmallInstance(dir_ / "data/i", GetParam().durability),
                                        files, clock_, *resources_, nullptr));
    store_ = &instance_->store();
  }

  static StoredKey Key(std::string_view suffix, uint16_t shard = 3) {
    return StoredKey(shard, KeyKind::kSpace, {.tenant = 1}, suffix);
  }
  absl::Status PutOne(std::string_view suffix, std::string value, uint16_t shard = 3) {
    StoreBatch batch;
    batch.Put(Key(suffix, shard), std::move(value));
    batch.Log({.shard = shard, .kind = OperationKind::kPutSpace, .key = std::string(suffix)});
    return store_->Apply(batch, false);
  }
  std::vector<std::string> ScanAll(std::string_view begin, std::string_view end,
                                   const StoreSnapshot* snapshot = nullptr) {
    std::vector<std::string> found;
    EXPECT_OK(store_->Scan(
        begin, end,
        [&](const StoredKey& key, std::string_view value) {
          found.push_back(std::string(key.suffix()) + "=" + std::string(value));
          return true;
        },
        snapshot));
    return found;
  }
  std::vector<std::string> Log(uint16_t shard, uint64_t from) {
    std::vector<std::string> found;
    EXPECT_OK(store_->ReadLog(shard, from, [&](const Operation& operation) {
      EXPECT_EQ(operation.shard, shard);
      found.push_back(std::to_string(operation.sequence) + ":" + operation.key);
      return true;
    }));
    return found;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  std::unique_ptr<FaultFileSystem> faulty_ =
      std::make_unique<FaultFileSystem>(*posix_, dir_ / "graves");
  SystemClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  std::unique_ptr<Instance> instance_;
  Store* store_ = nullptr;
};

TEST_P(StoreContractTest, AppliesABatchWhole) {
  ASSERT_OK(PutOne("old", "1"));
  StoreBatch batch;
  batch.Put(Key("a"), "A");
  batch.Put(Key("b"), std::string(100'000, 'B'));
  batch.Delete(Key("old"));
  batch.Log({.shard = 3, .epoch = 9, .kind = OperationKind::kPutSpace, .key = "x",
             .payload = "payload"});
  ASSERT_OK(store_->Apply(batch, true));
  ASSERT_OK_AND_ASSIGN(const std::string a, store_->Get(Key("a")));
  EXPECT_EQ(a, "A");
  ASSERT_OK_AND_ASSIGN(const std::string b, store_->Get(Key("b")));
  EXPECT_EQ(b.size(), 100'000u);
  EXPECT_THAT(store_->Get(Key("old")), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(store_->ReadLog(3, 2, [](const Operation& operation) {
    EXPECT_EQ(operation.epoch, 9u);
    EXPECT_EQ(operation.kind, OperationKind::kPutSpace);
    EXPECT_EQ(operation.payload, "payload");
    return true;
  }));
}

TEST_P(StoreContractTest, RefusesABatchWithoutAnOperationOrWithABadShard) {
  StoreBatch silent;
  silent.Put(Key("a"), "A");
  EXPECT_THAT(store_->Apply(silent, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operations")));
  EXPECT_THAT(store_->Get(Key("a")), StatusIs(absl::StatusCode::kNotFound));
  StoreBatch outside;
  outside.Log({.shard = kShardCount});
  EXPECT_THAT(store_->Apply(outside, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 to 255")));
  StoreBatch keyless;
  keyless.Put(StoredKey::FromBytes("short"), "A");
  keyless.Log({.shard = 1});
  EXPECT_THAT(store_->Apply(keyless, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key")));
  EXPECT_EQ(store_->LastSequence(1), 0u);
}

TEST_P(StoreContractTest, ScansARangeInOrder) {
  for (const char* suffix : {"c", "a", "d", "b"}) ASSERT_OK(PutOne(suffix, suffix));
  EXPECT_THAT(ScanAll(Key("b").bytes(), Key("d").bytes()), ElementsAre("b=b", "c=c"));
  EXPECT_THAT(ScanAll(Key("c").bytes(), ""), ElementsAre("c=c", "d=d"));
  EXPECT_THAT(ScanAll("", ""), ElementsAre("a=a", "b=b", "c=c", "d=d"));
  int visited = 0;
  ASSERT_OK(store_->Scan("", "", [&](const StoredKey&, std::string_view) {
    return ++visited < 2;
  }));
  EXPECT_EQ(visited, 2);
}

TEST_P(StoreContractTest, ASnapshotSeesOneMoment) {
  ASSERT_OK(PutOne("a", "1"));
  const std::unique_ptr<StoreSnapshot> snapshot = store_->Snapshot();
  ASSERT_OK(PutOne("a", "2"));
  ASSERT_OK(PutOne("b", "1"));
  ASSERT_OK_AND_ASSIGN(const std::string then, store_->Get(Key("a"), snapshot.get()));
  EXPECT_EQ(then, "1");
  EXPECT_THAT(ScanAll("", "", snapshot.get()), ElementsAre("a=1"));
  EXPECT_THAT(ScanAll("", ""), ElementsAre("a=2", "b=1"));
}

TEST_P(StoreContractTest, SequencesStartAtOneInEachShardAndHaveNoGaps) {
  ASSERT_OK(PutOne("a", "1", 3));
  ASSERT_OK(PutOne("b", "1", 4));
  ASSERT_OK(PutOne("c", "1", 3));
  StoreBatch both;
  both.Log({.shard = 4, .key = "d"});
  both.Log({.shard = 3, .key = "e"});
  both.Log({.shard = 4, .key = "f"});
  ASSERT_OK(store_->Apply(both, false));
  EXPECT_THAT(Log(3, 1), ElementsAre("1:a", "2:c", "3:e"));
  EXPECT_THAT(Log(4, 0), ElementsAre("1:b", "2:d", "3:f"));
  EXPECT_THAT(Log(4, 3), ElementsAre("3:f"));
  EXPECT_THAT(Log(4, 4), ElementsAre());
  EXPECT_EQ(store_->LastSequence(3), 3u);
  EXPECT_EQ(store_->LastSequence(5), 0u);
}

TEST_P(StoreContractTest, TrimsTheLogAndSaysSo) {
  for (int i = 0; i < 6; ++i) ASSERT_OK(PutOne(std::to_string(i), "v"));
  ASSERT_OK(store_->TrimLog(3, 4));
  EXPECT_THAT(store_->ReadLog(3, 3, [](const Operation&) { return true; }),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("from 4 kept")));
  EXPECT_THAT(Log(3, 4), ElementsAre("4:3", "5:4", "6:5"));
  // Trimming less than was trimmed changes nothing.
  ASSERT_OK(store_->TrimLog(3, 2));
  EXPECT_THAT(Log(3, 4), ElementsAre("4:3", "5:4", "6:5"));
  EXPECT_THAT(store_->TrimLog(3, 8),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("at most 7")));
  ASSERT_OK(store_->TrimLog(3, 7));
  ASSERT_OK(PutOne("next", "v"));
  EXPECT_THAT(Log(3, 7), ElementsAre("7:next"));
}

TEST_P(StoreContractTest, SyncIsAlwaysAllowed) {
  EXPECT_OK(store_->Sync());
  ASSERT_OK(PutOne("a", "1"));
  EXPECT_OK(store_->Sync());
}

INSTANTIATE_TEST_SUITE_P(
    Stores, StoreContractTest,
    ::testing::Values(Subject{.name = "RocksCache"},
                      Subject{.name = "RocksInterval", .durability = Durability::kInterval},
                      Subject{.name = "RocksSync", .durability = Durability::kSync},
                      Subject{.name = "RocksFaultWrapped",
                              .durability = Durability::kSync,
                              .faulty_files = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mnemo

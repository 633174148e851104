// Parts that are read from disk before their reader comes to them.
#include "storage/block/read_ahead.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "storage/block/disk_levels.h"
#include "storage/tier/data_directory.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/read_gate.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 1 * kMiB;
constexpr uint64_t kParts = 16;

class ReadAheadTest : public ::testing::Test {
 protected:
  // kParts parts that lie at L3 alone.
  void SetUp() override {
    Open();
    for (uint64_t i = 0; i < kParts; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    ASSERT_OK(store_->Flush(kTestScope));
    ASSERT_OK(store_->Close());
    store_.reset();
    Open();
  }
  void TearDown() override {
    gate_.Release();
    if (store_ == nullptr) return;
    ASSERT_OK(store_->Close());
  }
  void Open() {
    auto store = BlockStore::Open(SmallStore(dir_ / "data"), gate_, clock_, nullptr);
    ASSERT_OK(store);
    store_ = *std::move(store);
  }
  void ExpectRight(uint64_t chain, uint64_t version = 0) {
    const absl::StatusOr<PartRead> read = store_->Read(TestPart(chain), 0, 0);
    ASSERT_OK(read);
    EXPECT_TRUE(read->bytes.ToString() == TestPayload(TestPart(chain), version, kPartBytes));
  }
  // All that can be read ahead at once.
  std::vector<std::unique_ptr<PartAhead>> All() {
    std::vector<std::unique_ptr<PartAhead>> all;
    for (uint64_t i = 0; i < kParts; ++i) {
      if (auto ahead = store_->ReadAhead(TestPart(i))) all.push_back(std::move(ahead));
    }
    return all;
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  ReadGate gate_{files_, kPartBytes};
  FakeClock clock_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(ReadAheadTest, AReadTakesWhatWasReadBefore) {
  const auto ahead = store_->ReadAhead(TestPart(1));
  ASSERT_NE(ahead, nullptr);
  gate_.AwaitReads(1);
  ExpectRight(1);
  EXPECT_EQ(gate_.reads(), 1);
}

TEST_F(ReadAheadTest, WhatIsStillInTheQueueIsReadByWhoNeedsIt) {
  gate_.Hold(std::this_thread::get_id());
  const auto ahead = All();
  ASSERT_GT(ahead.size(), 4u);
  gate_.AwaitHeld();
  ExpectRight(ahead.size() - 1);
  gate_.Release();
}

TEST_F(ReadAheadTest, TwoWhoAskForAPartShareARead) {
  const auto first = store_->ReadAhead(TestPart(1));
  auto second = store_->ReadAhead(TestPart(1));
  ASSERT_NE(second, nullptr);
  second.reset();
  gate_.AwaitReads(1);
  ExpectRight(1);
  ExpectRight(1);
  EXPECT_EQ(gate_.reads(), 1);
}

TEST_F(ReadAheadTest, AnotherReadAfterItWasLetGoAsksTheDisk) {
  gate_.Hold(std::this_thread::get_id());  // whatever runs ahead, so that it is not counted
  store_->ReadAhead(TestPart(1)).reset();
  ExpectRight(1);
  EXPECT_EQ(gate_.reads(), 1);
}

TEST_F(ReadAheadTest, NothingIsReadOfWhatIsAbsentOrInRam) {
  EXPECT_EQ(store_->ReadAhead(TestPart(99)), nullptr);
  ASSERT_OK(PutChained(*store_, 50, 0, kPartBytes));
  EXPECT_EQ(store_->ReadAhead(TestPart(50)), nullptr);
}

TEST_F(ReadAheadTest, KeepsToItsMemory) {
  gate_.Hold({});
  // An eighth of 64 MiB, of parts that are a little more than 1 MiB.
  auto ahead = All();
  EXPECT_EQ(ahead.size(), 7u);
  ahead.clear();
  // Those that run keep what they have taken until they end.
  gate_.Release();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  do {
    ahead.clear();
    ahead = All();
  } while (ahead.size() < 7 && std::chrono::steady_clock::now() < give_up);
  EXPECT_EQ(ahead.size(), 7u);
}

TEST_F(ReadAheadTest, WhatComesBackDamagedIsReadAgain) {
  gate_.DamageNext();
  const auto ahead = store_->ReadAhead(TestPart(1));
  gate_.AwaitReads(1);
  ExpectRight(1);
  EXPECT_EQ(gate_.reads(), 2);
}

TEST_F(ReadAheadTest, AnErasedPartIsNotAnsweredFromWhatWasReadBefore) {
  const auto ahead = store_->ReadAhead(TestPart(1));
  gate_.AwaitReads(1);
  const PartKey key = TestPart(1);
  ASSERT_OK(store_->Erase({&key, 1}));
  EXPECT_THAT(store_->Read(key, 0, 0), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(PutChained(*store_, 1, 0, kPartBytes, Durability::kCache, /*version=*/1));
  ExpectRight(1, /*version=*/1);
}

TEST_F(ReadAheadTest, ClosingEndsWhatRuns) {
  gate_.Hold({});
  auto ahead = All();
  gate_.AwaitHeld();
  ahead.clear();
  std::thread closing([&] { ASSERT_OK(store_->Close()); });
  gate_.Release();
  closing.join();
  store_.reset();
}

// The table alone, over what a store has left.
class ReadAheadTableTest : public ReadAheadTest {
 protected:
  void SetUp() override {
    ReadAheadTest::SetUp();
    ASSERT_OK(store_->Close());
    store_.reset();
    const BlockStoreOptions options = SmallStore(dir_ / "data");
    ASSERT_OK_AND_ASSIGN(directory_,
                         DataDirectory::Open(options.directory, gate_, clock_, /*node_id=*/1));
    std::vector<DiskLevels::OpenedInstance> opened;
    ASSERT_OK_AND_ASSIGN(disks_, DiskLevels::Open(options, *directory_, gate_, clock_, opened));
    table_ = std::make_unique<ReadAheadTable>(*disks_, 8 * kMiB);
    entry_.ref.id = 1;
    entry_.key = TestPart(1);
    entry_.disk = DiskPlace{.stored_bytes = kPartBytes};
  }
  void TearDown() override {
    gate_.Release();
    table_->Stop();
    table_.reset();
    ASSERT_OK(disks_->Close());
  }
  void AwaitWaiting() {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (table_->waiting() == 0 && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
    }
    EXPECT_EQ(table_->waiting(), 1u);
  }
  // That somebody takes the whole part, who comes while it is read; `meanwhile`: once he waits.
  void ExpectTaken(const std::function<void()>& meanwhile) {
    std::thread reader([&] {
      const std::optional<PinnedBytes> bytes = table_->Take(entry_);
      ASSERT_TRUE(bytes.has_value());
      EXPECT_GT(bytes->size(), kPartBytes);
    });
    AwaitWaiting();
    meanwhile();
    gate_.Release();
    reader.join();
    EXPECT_EQ(gate_.reads(), 1);
  }

  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<DiskLevels> disks_;
  std::unique_ptr<ReadAheadTable> table_;
  DirectoryEntry entry_;
};

TEST_F(ReadAheadTableTest, AReadWaitsForOneThatRuns) {
  gate_.Hold({});
  const auto ahead = table_->Begin(entry_);
  ASSERT_NE(ahead, nullptr);
  gate_.AwaitHeld();
  ExpectTaken([] {});
  EXPECT_TRUE(table_->Take(entry_).has_value());
}

TEST_F(ReadAheadTableTest, WhoeverWaitsGetsItThoughItsHoldersWent) {
  gate_.Hold({});
  auto ahead = table_->Begin(entry_);
  ASSERT_NE(ahead, nullptr);
  gate_.AwaitHeld();
  ExpectTaken([&] { ahead.reset(); });
  // And leaves nothing behind.
  EXPECT_FALSE(table_->Take(entry_).has_value());
  entry_.disk->stored_bytes = 8 * kMiB;
  EXPECT_NE(table_->Begin(entry_), nullptr);
}

}  // namespace
}  // namespace mnemo

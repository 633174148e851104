// Parts that are read from disk before their reader comes to them.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

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

TEST_F(ReadAheadTest, AReadWaitsForOneThatRuns) {
  gate_.Hold({});
  const auto ahead = store_->ReadAhead(TestPart(1));
  gate_.AwaitHeld();
  std::thread reader([&] { ExpectRight(1); });
  gate_.Release();
  reader.join();
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
  store_->ReadAhead(TestPart(1)).reset();
  gate_.Hold(std::this_thread::get_id());  // whatever still runs
  const int before = gate_.reads();
  ExpectRight(1);
  EXPECT_GT(gate_.reads(), before);
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
  do {
    ahead.clear();
    ahead = All();
  } while (ahead.size() < 7);
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

}  // namespace
}  // namespace mnemo

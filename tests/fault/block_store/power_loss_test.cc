// The machine loses power: what was not synced is gone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "tests/support/block_store_fixture.h"
#include "tests/support/fault_file_system.h"

namespace mnemo {
namespace {

class PowerLossTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(base_->CreateDirectory(dir_ / "graves"));
    files_ = std::make_unique<FaultFileSystem>(*base_, dir_ / "graves");
  }
  absl::Status TryOpen() {
    BlockStoreOptions options = SmallStore(dir_ / "data");
    // Only what a call itself makes durable counts.
    options.wal_interval = std::chrono::seconds(60);
    MNEMO_ASSIGN_OR_RETURN(store_, BlockStore::Open(options, *files_, clock_, nullptr));
    return absl::OkStatus();
  }
  void LosePower(std::optional<uint64_t> seed) {
    files_->SetDead(true);
    store_.reset();
    files_->SetDead(false);
    ASSERT_OK(files_->DropUnsynced(seed));
  }
  bool Right(uint64_t chain, uint64_t size) {
    const absl::StatusOr<std::string> bytes = ReadAll(*store_, TestPart(chain));
    return bytes.ok() && *bytes == TestPayload(TestPart(chain), 0, size);
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> base_ = MakePosixFileSystem();
  std::unique_ptr<FaultFileSystem> files_;
  FakeClock clock_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(PowerLossTest, SyncPartsStayOthersAreRightOrGone) {
  ASSERT_OK(TryOpen());
  for (uint64_t i = 0; i < 60; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, 30'000, static_cast<Durability>(1 + i % 3)));
  }
  LosePower(7);
  ASSERT_OK(TryOpen());
  int lost = 0;
  for (uint64_t i = 0; i < 60; ++i) {
    const bool present = store_->Describe(TestPart(i)).has_value();
    if (static_cast<Durability>(1 + i % 3) == Durability::kSync) {
      ASSERT_TRUE(present) << i;
    }
    if (present) {
      EXPECT_TRUE(Right(i, 30'000)) << i;
    }
    lost += present ? 0 : 1;
  }
  EXPECT_GE(lost, 20);  // the cache parts, which were in RAM alone
}

TEST_F(PowerLossTest, IntervalLosesASuffix) {
  ASSERT_OK(TryOpen());
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, 20'000, Durability::kInterval));
    if (i == 40) {
      ASSERT_OK(store_->Flush({}));
    }
  }
  LosePower(11);
  ASSERT_OK(TryOpen());
  bool lost_one = false;
  for (uint64_t i = 0; i < 100; ++i) {
    const bool present = store_->Describe(TestPart(i)).has_value();
    if (i <= 40) {
      ASSERT_TRUE(present) << i;
    }
    EXPECT_FALSE(present && lost_one) << "a hole before " << i;
    lost_one |= !present;
    if (present) {
      EXPECT_TRUE(Right(i, 20'000)) << i;
    }
  }
}

TEST_F(PowerLossTest, ADeletedSyncPartStaysDeleted) {
  ASSERT_OK(TryOpen());
  ASSERT_OK(PutChained(*store_, 1, 0, 30'000, Durability::kSync));
  ASSERT_OK(PutChained(*store_, 2, 0, 30'000, Durability::kSync));
  const PartKey first = TestPart(1);
  ASSERT_OK(store_->Erase({&first, 1}));
  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  EXPECT_FALSE(store_->Describe(first));
  EXPECT_TRUE(Right(2, 30'000));
}

TEST_F(PowerLossTest, APinIsOnStableStorageWhenItReturns) {
  ASSERT_OK(TryOpen());
  ASSERT_OK(PutChained(*store_, 1, 0, 30'000));
  const PartKey key = TestPart(1);
  ASSERT_OK(store_->SetPinned({&key, 1}, true));
  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  ASSERT_TRUE(Right(1, 30'000));
  EXPECT_TRUE(store_->Describe(key)->pinned);
}

// Power is lost at any moment of a workload that moves parts between levels.
TEST_F(PowerLossTest, AtAnyMomentOfMovement) {
  const char* const given = std::getenv("MNEMO_TEST_SEED");
  std::random_device device;
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : device();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::map<uint64_t, uint64_t> acknowledged;
  uint64_t next = 0;
  for (int cycle = 0; cycle < 8; ++cycle) {
    ASSERT_OK(TryOpen());
    for (const auto& [chain, size] : acknowledged) {
      ASSERT_TRUE(Right(chain, size)) << "cycle " << cycle << " part " << chain;
    }
    files_->FailAfter(random() % 400);
    for (int i = 0; i < 40; ++i) {
      const uint64_t size = 1 + random() % 1'500'000;
      if (PutChained(*store_, next, 0, size, Durability::kSync).ok()) acknowledged[next] = size;
      ++next;
      if (random() % 4 == 0) MoveAll(*store_, 3);
      if (random() % 8 == 0 && !acknowledged.empty()) {
        auto victim = acknowledged.begin();
        std::advance(victim, random() % acknowledged.size());
        const PartKey key = TestPart(victim->first);
        // Whether it is there after a failed delete is open: not asked again.
        store_->Erase({&key, 1}).status().IgnoreError();
        acknowledged.erase(victim);
      }
    }
    files_->Heal();
    LosePower(random());
  }
}

}  // namespace
}  // namespace mnemo

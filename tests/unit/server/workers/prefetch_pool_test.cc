#include "server/workers/prefetch_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/block_store_fixture.h"
#include "tests/support/held_file_system.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 256 * kKiB;
constexpr uint32_t kParts = 8;

// A store that was just opened: everything lies on disk.
class PrefetchPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    for (uint32_t i = 0; i < kParts; ++i) {
      ASSERT_OK(PutChained(*store_, 1, i, kPartBytes, Durability::kInterval));
    }
    ASSERT_OK(store_->Close());
    Open();
  }
  void TearDown() override { ASSERT_OK(store_->Close()); }

  void Open() {
    store_.reset();
    auto store =
        BlockStore::Open(SmallStore(dir_ / "data"), held_, clock_, [](const PartEvent&) {});
    ASSERT_OK(store);
    store_ = *std::move(store);
  }
  PrefetchQueue::Added AddAll() {
    std::vector<PrefetchQueue::Part> parts;
    for (uint32_t i = 0; i < kParts; ++i) {
      parts.push_back({.key = TestPart(1, i), .bytes = kPartBytes});
    }
    return queue_.Add(parts, PrefetchOrigin::kAsked);
  }
  // Returns once a thread has taken the first part.
  void AwaitTaken() {
    while (queue_.figures()[0].waiting == kParts) std::this_thread::yield();
    EXPECT_EQ(queue_.figures()[0].waiting, kParts - 1);
  }
  // Returns once nothing waits or is under way.
  void AwaitDone() {
    for (;;) {
      uint64_t ended = 0;
      const PrefetchFigures figures = queue_.figures()[0];
      for (const uint64_t outcome : figures.outcomes) ended += outcome;
      if (ended + figures.dropped + figures.cancelled == figures.asked) return;
      std::this_thread::yield();
    }
  }
  uint64_t Outcomes(PrefetchOutcome outcome) const {
    return queue_.figures()[0].outcomes[static_cast<size_t>(outcome)];
  }
  int InRam() {
    int count = 0;
    for (uint32_t i = 0; i < kParts; ++i) {
      const PartKey key = TestPart(1, i);
      count += store_->Find({&key, 1})[0].level == Level::kL1 ? 1 : 0;
    }
    return count;
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  HeldFileSystem held_{files_};
  FakeClock clock_;
  std::unique_ptr<BlockStore> store_;
  PrefetchQueue queue_{PrefetchOptions(), 1};
};

TEST_F(PrefetchPoolTest, BringsWhatWaitsIntoRam) {
  ASSERT_EQ(InRam(), 0);
  PrefetchPool pool(*store_, queue_, 2);
  EXPECT_EQ(AddAll().taken, kParts);
  AwaitDone();
  EXPECT_EQ(Outcomes(PrefetchOutcome::kBrought), kParts);
  EXPECT_EQ(queue_.figures()[0].bytes, kParts * kPartBytes);
  EXPECT_EQ(InRam(), static_cast<int>(kParts));
  AddAll();
  AwaitDone();
  EXPECT_EQ(Outcomes(PrefetchOutcome::kInRam), kParts);
}

// While the disk stands still one part a thread is under way, and the rest can be given up.
TEST_F(PrefetchPoolTest, WhatIsCancelledWhileTheDiskStandsStillIsNotBrought) {
  PrefetchPool pool(*store_, queue_, 1);
  held_.Hold();
  const PrefetchQueue::Added added = AddAll();
  AwaitTaken();
  queue_.Cancel(kTestScope.tenant, added.id);
  EXPECT_EQ(queue_.figures()[0].waiting, 0u);
  held_.Release();
  AwaitDone();
  EXPECT_EQ(Outcomes(PrefetchOutcome::kBrought), 1u);
  EXPECT_EQ(InRam(), 1);
}

TEST_F(PrefetchPoolTest, StopWaitsForThePartUnderWayAndDropsTheOthers) {
  PrefetchPool pool(*store_, queue_, 1);
  held_.Hold();
  AddAll();
  AwaitTaken();
  std::atomic<bool> stopped{false};
  std::thread stopping([&] {
    pool.Stop();
    stopped = true;
  });
  while (queue_.figures()[0].cancelled == 0) std::this_thread::yield();
  EXPECT_FALSE(stopped);
  held_.Release();
  stopping.join();
  EXPECT_EQ(Outcomes(PrefetchOutcome::kBrought), 1u);
  EXPECT_EQ(queue_.figures()[0].cancelled, kParts - 1);
}

}  // namespace
}  // namespace mnemo

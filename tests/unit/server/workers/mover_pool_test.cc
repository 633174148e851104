#include "server/workers/mover_pool.h"

#include <gtest/gtest.h>
#include <time.h>

#include <memory>
#include <string>

#include "storage/base/clock.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class MoverPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    BlockStoreOptions options = SmallStore(dir_ / "data");
    options.l2_bytes = 0;
    options.high_watermark = 0.5;
    options.low_watermark = 0.25;
    auto store = BlockStore::Open(options, files_, clock_, [this](const PartEvent& event) {
      MutexLock lock(mutex_);
      if (event.kind == PartEvent::Kind::kMoved) ++moved_;
      changed_.SignalAll();
    });
    ASSERT_OK(store);
    store_ = *std::move(store);
  }

  // Whether so many parts moved, in a minute.
  bool AwaitMoves(int count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    MutexLock lock(mutex_);
    while (moved_ < count && std::chrono::steady_clock::now() < until) {
      changed_.WaitFor(mutex_, std::chrono::seconds(1));
    }
    return moved_ >= count;
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  SystemClock clock_;
  Mutex mutex_;
  CondVar changed_;
  int moved_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(MoverPoolTest, KeepsRoomInAdvance) {
  MoverPool pool(*store_, {.threads = 2, .duty = 1.0});
  // 40 of 64 MiB: above the high mark of 32, so that they move to L3 down to 16.
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, 1 * kMiB, Durability::kInterval));
  }
  EXPECT_TRUE(AwaitMoves(15));
  pool.Stop();
  for (uint64_t i = 0; i < 40; ++i) EXPECT_OK(ReadAll(*store_, TestPart(i)));
}

TEST_F(MoverPoolTest, ALaterPoolGoesOn) {
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, 1 * kMiB, Durability::kInterval));
  }
  { MoverPool stopped_at_once(*store_, {}); }
  MoverPool pool(*store_, {});
  EXPECT_TRUE(AwaitMoves(15));
}

TEST_F(MoverPoolTest, StopIsIdempotentAndWakesWhoeverWaits) {
  MoverPool pool(*store_, {.threads = 4, .idle_wait = std::chrono::seconds(60)});
  pool.Stop();
  pool.Stop();
}

TEST_F(MoverPoolTest, IdleCostsNothing) {
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_OK(PutChained(*store_, i, 0, 100));
  MoveAll(*store_);
  const auto cpu = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + Nanos(now.tv_nsec);
  };
  const Nanos before = cpu();
  constexpr Nanos kWatched = std::chrono::seconds(3);
  {
    MoverPool pool(*store_, {});
    MutexLock lock(mutex_);
    const auto until = std::chrono::steady_clock::now() + kWatched;
    while (std::chrono::steady_clock::now() < until) {
      changed_.WaitFor(mutex_, until - std::chrono::steady_clock::now());
    }
  }
  const Nanos used = cpu() - before;
  // One per cent, and as much again for RocksDB's own threads and a busy machine.
  EXPECT_LT(used, kWatched / 50);
}

TEST(MoverPoolOptionsTest, NamesFieldAndRange) {
  EXPECT_THAT(MoverPoolOptions{.threads = 17}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("threads: 17")));
  EXPECT_THAT(MoverPoolOptions{.duty = 0}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("duty")));
  EXPECT_THAT(MoverPoolOptions{.idle_wait = Nanos(1)}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("idle_wait")));
  EXPECT_OK(MoverPoolOptions{}.Validate());
}

}  // namespace
}  // namespace mnemo

// Many threads at once: what TSan and the model's invariants judge.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/mutex.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

#ifdef MNEMO_TSAN
constexpr int kOperations = 300;
#else
constexpr int kOperations = 1500;
#endif

// Counts what the observer is told of each part: it is stored, moves, and is
// removed, in this order and in turns.
class EventCheck {
 public:
  void operator()(const PartEvent& event) {
    MutexLock lock(mutex_);
    bool& here = here_[event.key.Stored().bytes()];
    const bool stored = event.kind == PartEvent::Kind::kStored;
    if (here == stored) ++out_of_turn_;
    if (event.kind != PartEvent::Kind::kMoved) here = stored;
    ++events_;
  }
  int out_of_turn() const {
    MutexLock lock(mutex_);
    return out_of_turn_;
  }
  size_t here() const {
    MutexLock lock(mutex_);
    size_t count = 0;
    for (const auto& [key, present] : here_) count += present ? 1 : 0;
    return count;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::string, bool> here_ ABSL_GUARDED_BY(mutex_);
  int out_of_turn_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t events_ ABSL_GUARDED_BY(mutex_) = 0;
};

class ConcurrencyTest : public ::testing::Test {
 protected:
  void Open(BlockStoreOptions options) {
    options.directory = dir_ / "data";
    auto store = BlockStore::Open(options, files_, clock_,
                                  [this](const PartEvent& event) { events_(event); });
    ASSERT_OK(store);
    store_ = *std::move(store);
  }

  // Whatever is read is one of the versions that were written, whole.
  void Work(uint64_t seed, uint64_t parts, uint64_t max_bytes) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < kOperations && wrong_ == 0; ++i) {
      const PartKey key = TestPart(random() % parts);
      const uint64_t what = random() % 10;
      if (what < 4) {
        const uint64_t version = random() % 4;
        const uint64_t size = 1000 + version * (max_bytes / 4);
        const auto durability = static_cast<Durability>(1 + random() % 2);
        const absl::Status put =
            PutPart(*store_, key, TestPayload(key, version, size), TestSpec(size, 0, durability));
        if (!put.ok() && !absl::IsAlreadyExists(put) && !absl::IsAborted(put) &&
            !absl::IsResourceExhausted(put)) {
          ADD_FAILURE() << put.ToString();
          ++wrong_;
        }
      } else if (what < 9) {
        Check(key, max_bytes);
      } else {
        const absl::StatusOr<uint64_t> erased = store_->Erase({&key, 1});
        if (!erased.ok()) {
          ADD_FAILURE() << erased.status().ToString();
          ++wrong_;
        }
      }
    }
  }

  void Check(const PartKey& key, uint64_t max_bytes) {
    const absl::StatusOr<PartRead> read = store_->Read(key, 0, 0);
    if (!read.ok()) {
      if (!absl::IsNotFound(read.status())) {
        ADD_FAILURE() << read.status().ToString();
        ++wrong_;
      }
      return;
    }
    const uint64_t version = (read->payload_bytes - 1000) / (max_bytes / 4);
    if (read->bytes.ToString() != TestPayload(key, version, read->payload_bytes)) {
      ADD_FAILURE() << "wrong bytes";
      ++wrong_;
    }
  }

  void RunThreads(uint64_t parts, uint64_t max_bytes) {
    std::atomic<bool> stop{false};
    std::thread mover([&] {
      while (!stop) {
        if (!store_->MoveStep()) store_->WaitForWork(std::chrono::milliseconds(1));
      }
    });
    std::vector<std::thread> workers;
    for (uint64_t i = 0; i < 4; ++i) {
      workers.emplace_back([this, i, parts, max_bytes] { Work(i, parts, max_bytes); });
    }
    for (std::thread& worker : workers) worker.join();
    stop = true;
    store_->WakeMovers();
    mover.join();
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  SystemClock clock_;
  EventCheck events_;
  std::atomic<int> wrong_{0};
  std::unique_ptr<BlockStore> store_;
};

TEST_F(ConcurrencyTest, ReadersWritersErasersAndMoversAgree) {
  BlockStoreOptions options = SmallStore(dir_ / "data");
  options.l2_bytes = 4 * kMiB;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 64 * kMiB;
  options.high_watermark = 0.3;
  options.low_watermark = 0.2;
  options.promote_hits = 1;
  Open(options);
  RunThreads(300, 400'000);
  EXPECT_EQ(events_.out_of_turn(), 0);
  EXPECT_EQ(events_.here(), store_->parts());
  EXPECT_EQ(store_->counters().corrupt_l1, 0u);
  EXPECT_EQ(store_->counters().corrupt_l2, 0u);
  EXPECT_EQ(store_->counters().corrupt_l3, 0u);
  EXPECT_EQ(store_->counters().corrupt_archive, 0u);
  ASSERT_OK(store_->Close());
}

TEST_F(ConcurrencyTest, OneKeyHasOneWriter) {
  Open(SmallStore(dir_ / "data"));
  RunThreads(2, 4000);
  EXPECT_EQ(events_.out_of_turn(), 0);
  EXPECT_EQ(events_.here(), store_->parts());
  ASSERT_OK(store_->Close());
}

}  // namespace
}  // namespace mnemo

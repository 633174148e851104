#include "storage/tier/log_syncer.h"

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

// Counts syncs, and lets a test wait for one.
class Counter {
 public:
  absl::Status Sync() {
    MutexLock lock(mutex_);
    ++count_;
    changed_.SignalAll();
    return absl::UnavailableError("a failing sync does not end the thread");
  }
  void WaitFor(int count) {
    MutexLock lock(mutex_);
    while (count_ < count) changed_.Wait(mutex_);
  }
  int count() {
    MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(LogSyncerTest, SyncsOnceForManyWritesAndAgainForTheNext) {
  Counter counter;
  LogSyncer syncer(std::chrono::milliseconds(20), [&] { return counter.Sync(); });
  for (int i = 0; i < 1000; ++i) syncer.NoteWrite();
  counter.WaitFor(1);
  EXPECT_LE(counter.count(), 2) << "a thousand writes in one period or two";
  syncer.NoteWrite();
  counter.WaitFor(2);
}

TEST(LogSyncerTest, DoesNothingWithoutAWrite) {
  Counter counter;
  { const LogSyncer syncer(std::chrono::milliseconds(1), [&] { return counter.Sync(); }); }
  EXPECT_EQ(counter.count(), 0);
}

TEST(LogSyncerTest, StopsAtOnceHoweverLongThePeriod) {
  Counter counter;
  const auto start = std::chrono::steady_clock::now();
  {
    LogSyncer syncer(std::chrono::hours(1), [&] { return counter.Sync(); });
    syncer.NoteWrite();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(1));
  EXPECT_EQ(counter.count(), 0);
}

}  // namespace
}  // namespace mnemo

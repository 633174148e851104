#include "storage/tier/log_syncer.h"

#include <pthread.h>

#include <utility>

namespace mnemo {

LogSyncer::LogSyncer(Nanos period, std::function<absl::Status()> sync)
    : period_(period), sync_(std::move(sync)), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "wal-sync");
}

LogSyncer::~LogSyncer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.SignalAll();
  }
  thread_.join();
}

void LogSyncer::NoteWrite() {
  if (dirty_.exchange(true)) return;
  MutexLock lock(mutex_);
  wake_.Signal();
}

void LogSyncer::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !dirty_) wake_.Wait(mutex_);
      const auto due = std::chrono::steady_clock::now() + period_;
      while (!stopping_ && std::chrono::steady_clock::now() < due) {
        wake_.WaitFor(mutex_, due - std::chrono::steady_clock::now());
      }
      if (stopping_) return;
    }
    // Before the sync: a write during it may be too late for it, and starts
    // the next period. A failure stops the instance's writes, not this thread.
    dirty_ = false;
    sync_().IgnoreError();
  }
}

}  // namespace mnemo

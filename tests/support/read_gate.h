// A file system that can hold reads of large values where they are.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "storage/base/forwarding_file_system.h"
#include "storage/base/mutex.h"
#include "storage/base/status_macros.h"

namespace mnemo {

// Files whose reads of large values are counted, can be held, and can come back damaged.
// Thread-safe.
class ReadGate final : public ForwardingFileSystem {
 public:
  // Of values of at least `bytes`. Borrows `files`.
  ReadGate(FileSystem& files, size_t bytes) : ForwardingFileSystem(files), bytes_(bytes) {}

  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) override {
    MNEMO_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::OpenForRead(path, options));
    if (!path.ends_with(".blob")) return file;
    return std::make_unique<File>(*this, std::move(file));
  }

  // From now on reads wait, but for those of `free`, until Release.
  void Hold(std::thread::id free) {
    MutexLock lock(mutex_);
    holding_ = true;
    free_ = free;
  }
  void Release() {
    MutexLock lock(mutex_);
    holding_ = false;
    changed_.SignalAll();
  }
  void DamageNext() {
    MutexLock lock(mutex_);
    damage_ = true;
  }
  // These fail the test where nothing comes.
  void AwaitHeld() {
    MutexLock lock(mutex_);
    AwaitMore(held_, 1);
  }
  void AwaitReads(int count) {
    MutexLock lock(mutex_);
    AwaitMore(reads_, count);
  }
  int reads() {
    MutexLock lock(mutex_);
    return reads_;
  }

 private:
  class File final : public RandomAccessFile {
   public:
    File(ReadGate& owner, std::unique_ptr<RandomAccessFile> file)
        : owner_(owner), file_(std::move(file)) {}
    absl::StatusOr<size_t> Read(uint64_t offset, MutableByteView into) const override {
      if (into.size() < owner_.bytes_) return file_->Read(offset, into);
      owner_.Pass();
      MNEMO_ASSIGN_OR_RETURN(const size_t count, file_->Read(offset, into));
      if (owner_.Done()) into[count / 2] ^= 1;
      return count;
    }
    uint64_t Size() const override { return file_->Size(); }
    size_t RequiredAlignment() const override { return file_->RequiredAlignment(); }

   private:
    ReadGate& owner_;
    const std::unique_ptr<RandomAccessFile> file_;
  };

  // Until `number` is `least`.
  void AwaitMore(const int& number, int least) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (number < least) {
      const auto left = give_up - std::chrono::steady_clock::now();
      if (left <= left.zero()) break;
      changed_.WaitFor(mutex_, left);
    }
    EXPECT_GE(number, least) << "no such read came";
  }
  void Pass() {
    MutexLock lock(mutex_);
    if (std::this_thread::get_id() == free_) return;
    ++held_;
    changed_.SignalAll();
    while (holding_) changed_.Wait(mutex_);
    --held_;
  }
  // Whether what was read is to be damaged.
  bool Done() {
    MutexLock lock(mutex_);
    ++reads_;
    changed_.SignalAll();
    return std::exchange(damage_, false);
  }

  const size_t bytes_;
  Mutex mutex_;
  CondVar changed_;
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  bool damage_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id free_ ABSL_GUARDED_BY(mutex_);
  int held_ ABSL_GUARDED_BY(mutex_) = 0;
  int reads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo

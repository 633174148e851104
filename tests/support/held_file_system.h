// A file system whose reads stand still for as long as a test likes.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "storage/base/forwarding_file_system.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Reads by offset are held, those of files that were opened before too.
class HeldFileSystem final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  // From now on reads wait for Release.
  void Hold() {
    MutexLock lock(mutex_);
    held_ = true;
  }
  void Release() {
    MutexLock lock(mutex_);
    held_ = false;
    changed_.SignalAll();
  }
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) override {
    auto file = ForwardingFileSystem::OpenForRead(path, options);
    if (!file.ok()) return file;
    return std::make_unique<File>(*this, *std::move(file));
  }

 private:
  class File final : public RandomAccessFile {
   public:
    File(HeldFileSystem& files, std::unique_ptr<RandomAccessFile> file)
        : files_(files), file_(std::move(file)) {}
    absl::StatusOr<size_t> Read(uint64_t offset, MutableByteView into) const override {
      files_.Pass();
      return file_->Read(offset, into);
    }
    uint64_t Size() const override { return file_->Size(); }
    size_t RequiredAlignment() const override { return file_->RequiredAlignment(); }

   private:
    HeldFileSystem& files_;
    const std::unique_ptr<RandomAccessFile> file_;
  };

  void Pass() {
    MutexLock lock(mutex_);
    while (held_) changed_.Wait(mutex_);
  }

  Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mnemo

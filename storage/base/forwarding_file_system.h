// Bases for file systems that do a few things of another one differently.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/file_system.h"

namespace mnemo {

// Passes everything on to a file of its own.
class ForwardingFile : public WritableFile {
 public:
  explicit ForwardingFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status Append(ByteView bytes) override { return file_->Append(bytes); }
  absl::Status Sync() override { return file_->Sync(); }
  absl::Status Truncate(uint64_t size) override { return file_->Truncate(size); }
  absl::Status Close() override { return file_->Close(); }
  uint64_t Size() const override { return file_->Size(); }

 private:
  const std::unique_ptr<WritableFile> file_;
};

// Passes everything on to `files`, which it borrows. Thread-safe as that is.
class ForwardingFileSystem : public FileSystem {
 public:
  explicit ForwardingFileSystem(FileSystem& files) : files_(files) {}
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override {
    return files_.OpenForWrite(path, mode);
  }
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) override {
    return files_.OpenForRead(path, options);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return files_.Rename(from, to);
  }
  absl::Status Link(const std::string& from, const std::string& to) override {
    return files_.Link(from, to);
  }
  absl::Status Remove(const std::string& path) override { return files_.Remove(path); }
  absl::Status CreateDirectory(const std::string& path) override {
    return files_.CreateDirectory(path);
  }
  absl::Status RemoveDirectory(const std::string& path) override {
    return files_.RemoveDirectory(path);
  }
  absl::Status SyncDirectory(const std::string& path) override {
    return files_.SyncDirectory(path);
  }
  absl::StatusOr<std::vector<Entry>> List(const std::string& path) override {
    return files_.List(path);
  }
  absl::StatusOr<uint64_t> FileSize(const std::string& path) override {
    return files_.FileSize(path);
  }
  absl::StatusOr<bool> Exists(const std::string& path) override { return files_.Exists(path); }
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    return files_.Lock(path);
  }
  absl::StatusOr<Space> FreeSpace(const std::string& path) override {
    return files_.FreeSpace(path);
  }

 private:
  FileSystem& files_;
};

}  // namespace mnemo

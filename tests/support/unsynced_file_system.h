// Files for tests that lose no power.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "storage/base/forwarding_file_system.h"
#include "storage/base/status_macros.h"

namespace mnemo {

// The operating system's files, but a sync returns at once: opening a store syncs a
// hundred times, which a busy disk makes longer than the test itself.
class UnsyncedFileSystem final : public ForwardingFileSystem {
 public:
  UnsyncedFileSystem() : UnsyncedFileSystem(MakePosixFileSystem()) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override {
    MNEMO_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::OpenForWrite(path, mode));
    return std::make_unique<File>(std::move(file));
  }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }

 private:
  class File final : public ForwardingFile {
   public:
    using ForwardingFile::ForwardingFile;
    absl::Status Sync() override { return absl::OkStatus(); }
  };

  explicit UnsyncedFileSystem(std::unique_ptr<FileSystem> posix)
      : ForwardingFileSystem(*posix), posix_(std::move(posix)) {}

  const std::unique_ptr<FileSystem> posix_;
};

}  // namespace mnemo

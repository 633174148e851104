#include "server/observe/measured_file_system.h"

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

using OnSync = std::function<void(Nanos)>;

class MeasuredFile final : public WritableFile {
 public:
  MeasuredFile(std::unique_ptr<WritableFile> file, Clock& clock, const OnSync& on_sync)
      : file_(std::move(file)), clock_(clock), on_sync_(on_sync) {}

  absl::Status Append(ByteView bytes) override { return file_->Append(bytes); }
  absl::Status Sync() override {
    const MonoTime start = clock_.Mono();
    MNEMO_RETURN_IF_ERROR(file_->Sync());
    on_sync_(clock_.Mono() - start);
    return absl::OkStatus();
  }
  absl::Status Truncate(uint64_t size) override { return file_->Truncate(size); }
  absl::Status Close() override { return file_->Close(); }
  uint64_t Size() const override { return file_->Size(); }

 private:
  const std::unique_ptr<WritableFile> file_;
  Clock& clock_;
  const OnSync& on_sync_;
};

class MeasuredFileSystem final : public FileSystem {
 public:
  MeasuredFileSystem(FileSystem& files, Clock& clock, OnSync on_log_sync)
      : files_(files), clock_(clock), on_log_sync_(std::move(on_log_sync)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override {
    MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, files_.OpenForWrite(path, mode));
    if (!path.ends_with(".log")) return file;
    return std::make_unique<MeasuredFile>(std::move(file), clock_, on_log_sync_);
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
  Clock& clock_;
  const OnSync on_log_sync_;
};

}  // namespace

std::unique_ptr<FileSystem> MakeMeasuredFileSystem(FileSystem& files, Clock& clock,
                                                   std::function<void(Nanos)> on_log_sync) {
  return std::make_unique<MeasuredFileSystem>(files, clock, std::move(on_log_sync));
}

}  // namespace mnemo

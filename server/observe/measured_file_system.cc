#include "server/observe/measured_file_system.h"

#include <utility>

#include "storage/base/forwarding_file_system.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

using OnSync = std::function<void(Nanos)>;

class MeasuredFile final : public ForwardingFile {
 public:
  MeasuredFile(std::unique_ptr<WritableFile> file, Clock& clock, const OnSync& on_sync)
      : ForwardingFile(std::move(file)), clock_(clock), on_sync_(on_sync) {}

  absl::Status Sync() override {
    const MonoTime start = clock_.Mono();
    MNEMO_RETURN_IF_ERROR(ForwardingFile::Sync());
    on_sync_(clock_.Mono() - start);
    return absl::OkStatus();
  }

 private:
  Clock& clock_;
  const OnSync& on_sync_;
};

class MeasuredFileSystem final : public ForwardingFileSystem {
 public:
  MeasuredFileSystem(FileSystem& files, Clock& clock, OnSync on_log_sync)
      : ForwardingFileSystem(files), clock_(clock), on_log_sync_(std::move(on_log_sync)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override {
    MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file,
                           ForwardingFileSystem::OpenForWrite(path, mode));
    if (!path.ends_with(".log")) return file;
    return std::make_unique<MeasuredFile>(std::move(file), clock_, on_log_sync_);
  }

 private:
  Clock& clock_;
  const OnSync on_log_sync_;
};

}  // namespace

std::unique_ptr<FileSystem> MakeMeasuredFileSystem(FileSystem& files, Clock& clock,
                                                   std::function<void(Nanos)> on_log_sync) {
  return std::make_unique<MeasuredFileSystem>(files, clock, std::move(on_log_sync));
}

}  // namespace mnemo

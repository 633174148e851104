#include "storage/base/file_system.h"

#include <fmt/format.h>

#include <filesystem>

#include "storage/base/status_macros.h"

namespace mnemo {

namespace {

std::string ParentOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

absl::Status CreateDirectoryDurably(FileSystem& files, const std::string& path) {
  MNEMO_ASSIGN_OR_RETURN(const bool exists, files.Exists(path));
  if (exists) return absl::OkStatus();
  const std::string parent = ParentOf(path);
  if (parent != path) MNEMO_RETURN_IF_ERROR(CreateDirectoryDurably(files, parent));
  MNEMO_RETURN_IF_ERROR(files.CreateDirectory(path));
  return files.SyncDirectory(parent);
}

absl::StatusOr<std::string> ReadSmallFile(FileSystem& files, const std::string& path,
                                          uint64_t max_size) {
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<RandomAccessFile> file,
                         files.OpenForRead(path, {.sequential = true}));
  const uint64_t size = file->Size();
  if (size > max_size) {
    return absl::OutOfRangeError(
        fmt::format("{}: {} bytes (at most {} expected)", path, size, max_size));
  }
  std::string contents(size, '\0');
  MNEMO_ASSIGN_OR_RETURN(
      const size_t count,
      file->Read(0, {reinterpret_cast<uint8_t*>(contents.data()), contents.size()}));
  contents.resize(count);
  return contents;
}

absl::Status ReplaceFile(FileSystem& files, const std::string& path, ByteView contents) {
  const std::string temporary = path + ".tmp";
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file,
                         files.OpenForWrite(temporary, FileSystem::WriteMode::kTruncate));
  MNEMO_RETURN_IF_ERROR(file->Append(contents));
  MNEMO_RETURN_IF_ERROR(file->Sync());
  MNEMO_RETURN_IF_ERROR(file->Close());
  MNEMO_RETURN_IF_ERROR(files.Rename(temporary, path));
  return files.SyncDirectory(ParentOf(path));
}

}  // namespace mnemo

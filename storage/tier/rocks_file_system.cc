#include "storage/tier/rocks_file_system.h"

#include <memory>
#include <utility>

#include "storage/tier/manifest_mirror.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

bool EndsWith(const std::string& path, std::string_view suffix) {
  return path.size() >= suffix.size() &&
         std::string_view(path).substr(path.size() - suffix.size()) == suffix;
}
bool IsWal(const std::string& path) { return EndsWith(path, ".log"); }

MutableByteView Scratch(char* scratch, size_t size) {
  return {reinterpret_cast<uint8_t*>(scratch), size};
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}

  IOStatus Read(size_t n, const IOOptions&, rocksdb::Slice* result, char* scratch,
                IODebugContext*) override {
    const absl::StatusOr<size_t> count = file_->Read(position_, Scratch(scratch, n));
    if (!count.ok()) return ToRocks(count.status());
    position_ += *count;
    *result = rocksdb::Slice(scratch, *count);
    return IOStatus::OK();
  }
  IOStatus Skip(uint64_t n) override {
    position_ += n;
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<RandomAccessFile> file_;
  uint64_t position_ = 0;
};

class RandomFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, rocksdb::Slice* result, char* scratch,
                IODebugContext*) const override {
    const absl::StatusOr<size_t> count = file_->Read(offset, Scratch(scratch, n));
    if (!count.ok()) return ToRocks(count.status());
    *result = rocksdb::Slice(scratch, *count);
    return IOStatus::OK();
  }
  bool use_direct_io() const override { return file_->RequiredAlignment() > 1; }
  size_t GetRequiredBufferAlignment() const override { return file_->RequiredAlignment(); }

 private:
  const std::unique_ptr<RandomAccessFile> file_;
};

class AppendFile final : public rocksdb::FSWritableFile {
 public:
  AppendFile(const rocksdb::FileOptions& options, std::unique_ptr<WritableFile> file,
             std::atomic<uint64_t>& written)
      : FSWritableFile(options), file_(std::move(file)), written_(written) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions&, IODebugContext*) override {
    written_.fetch_add(data.size(), std::memory_order_relaxed);
    return ToRocks(file_->Append({reinterpret_cast<const uint8_t*>(data.data()), data.size()}));
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return ToRocks(file_->Truncate(size));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return ToRocks(file_->Close()); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return ToRocks(file_->Sync()); }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return file_->Size(); }

 private:
  const std::unique_ptr<WritableFile> file_;
  std::atomic<uint64_t>& written_;
};

}  // namespace

// A write-ahead log. Once it has failed it takes nothing more and says OK to all:
// the owner has heard why, and acknowledges nothing.
class RocksFileSystem::LogFile final : public rocksdb::FSWritableFile {
 public:
  // `file` is null for a log that could not be made.
  LogFile(const rocksdb::FileOptions& options, RocksFileSystem& owner,
          std::unique_ptr<WritableFile> file)
      : FSWritableFile(options), owner_(owner), file_(std::move(file)), lost_(file_ == nullptr) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions&, IODebugContext*) override {
    if (lost_) return IOStatus::OK();
    owner_.counters_.wal_bytes.fetch_add(data.size(), std::memory_order_relaxed);
    return Settle(file_->Append({reinterpret_cast<const uint8_t*>(data.data()), data.size()}));
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return lost_ ? IOStatus::OK() : Settle(file_->Truncate(size));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    return file_ == nullptr ? IOStatus::OK() : Settle(file_->Close());
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    if (lost_) return IOStatus::OK();
    const MonoTime start = owner_.clock_.Mono();
    const absl::Status synced = file_->Sync();
    if (!synced.ok()) return Settle(synced);
    owner_.counters_.wal_syncs.fetch_add(1, std::memory_order_relaxed);
    if (owner_.on_wal_sync_) owner_.on_wal_sync_(owner_.clock_.Mono() - start);
    return IOStatus::OK();
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    return file_ == nullptr ? 0 : file_->Size();
  }

 private:
  IOStatus Settle(const absl::Status& status) {
    if (status.ok()) return IOStatus::OK();
    const IOStatus why = ToRocks(status);
    if (!owner_.forgiving_) return why;
    lost_ = true;
    owner_.on_log_failure_(why);
    return IOStatus::OK();
  }

  RocksFileSystem& owner_;
  const std::unique_ptr<WritableFile> file_;
  std::atomic<bool> lost_;
};

namespace {

class Folder final : public rocksdb::FSDirectory {
 public:
  Folder(FileSystem& files, std::string path) : files_(files), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return ToRocks(files_.SyncDirectory(path_));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  mnemo::FileSystem& files_;
  const std::string path_;
};

class HeldLock final : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::unique_ptr<mnemo::FileLock> lock) : lock_(std::move(lock)) {}

 private:
  const std::unique_ptr<mnemo::FileLock> lock_;
};

IOStatus Refused(const char* what) {
  return IOStatus::NotSupported(std::string(what) + " is not part of mnemo's file-system seam");
}

}  // namespace

RocksFileSystem::RocksFileSystem(mnemo::FileSystem& files, const Clock& clock,
                                 std::function<void(Nanos)> on_wal_sync)
    : FileSystemWrapper(rocksdb::FileSystem::Default()),
      files_(files),
      clock_(clock),
      on_wal_sync_(std::move(on_wal_sync)) {}

IOStatus RocksFileSystem::NewSequentialFile(const std::string& path, const rocksdb::FileOptions&,
                                            std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                            IODebugContext*) {
  auto file = files_.OpenForRead(path, {.sequential = true});
  if (!file.ok()) return ToRocks(file.status());
  *result = std::make_unique<SequentialFile>(*std::move(file));
  return IOStatus::OK();
}

IOStatus RocksFileSystem::NewRandomAccessFile(const std::string& path,
                                              const rocksdb::FileOptions& options,
                                              std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                              IODebugContext*) {
  auto file = files_.OpenForRead(path, {.direct = options.use_direct_reads});
  if (!file.ok()) return ToRocks(file.status());
  *result = std::make_unique<RandomFile>(*std::move(file));
  return IOStatus::OK();
}

IOStatus RocksFileSystem::OpenForWrite(const std::string& path, mnemo::FileSystem::WriteMode mode,
                                       const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result) {
  const bool mirrored = IsManifest(path) && mode == mnemo::FileSystem::WriteMode::kTruncate;
  // Values of megabytes, which nobody reads soon: in the page cache they would take the place
  // of what is read, and take longer to get there than to the disk.
  if (EndsWith(path, ".blob") && mode == mnemo::FileSystem::WriteMode::kTruncate) {
    mode = mnemo::FileSystem::WriteMode::kLarge;
  }
  auto file = mirrored ? OpenMirrored(files_, path) : files_.OpenForWrite(path, mode);
  if (!file.ok()) return ToRocks(file.status());
  if (IsWal(path)) {
    *result = std::make_unique<LogFile>(options, *this, *std::move(file));
    return IOStatus::OK();
  }
  std::atomic<uint64_t>& written = EndsWith(path, ".sst")    ? counters_.table_bytes
                                   : EndsWith(path, ".blob") ? counters_.blob_bytes
                                                             : counters_.other_bytes;
  *result = std::make_unique<AppendFile>(options, *std::move(file), written);
  return IOStatus::OK();
}

IOStatus RocksFileSystem::NewWritableFile(const std::string& path,
                                          const rocksdb::FileOptions& options,
                                          std::unique_ptr<rocksdb::FSWritableFile>* result,
                                          IODebugContext*) {
  const IOStatus opened =
      OpenForWrite(path, mnemo::FileSystem::WriteMode::kTruncate, options, result);
  if (opened.ok() || !IsWal(path) || !forgiving_) return opened;
  on_log_failure_(opened);
  *result = std::make_unique<LogFile>(options, *this, nullptr);
  return IOStatus::OK();
}
IOStatus RocksFileSystem::ReopenWritableFile(const std::string& path,
                                             const rocksdb::FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* result,
                                             IODebugContext*) {
  // A manifest that grows behind its mirror's back would be taken for cut.
  if (IsManifest(path)) return Refused("opening a manifest again");
  return OpenForWrite(path, mnemo::FileSystem::WriteMode::kAppend, options, result);
}
IOStatus RocksFileSystem::ReuseWritableFile(const std::string& path, const std::string& old_path,
                                            const rocksdb::FileOptions& options,
                                            std::unique_ptr<rocksdb::FSWritableFile>* result,
                                            IODebugContext*) {
  const absl::Status renamed = files_.Rename(old_path, path);
  if (!renamed.ok()) return ToRocks(renamed);
  return OpenForWrite(path, mnemo::FileSystem::WriteMode::kTruncate, options, result);
}
IOStatus RocksFileSystem::NewRandomRWFile(const std::string&, const rocksdb::FileOptions&,
                                          std::unique_ptr<rocksdb::FSRandomRWFile>*,
                                          IODebugContext*) {
  return Refused("writing at an offset");
}
IOStatus RocksFileSystem::NewMemoryMappedFileBuffer(
    const std::string&, std::unique_ptr<rocksdb::MemoryMappedFileBuffer>*) {
  return Refused("mapping a file");
}
IOStatus RocksFileSystem::NewDirectory(const std::string& path, const IOOptions&,
                                       std::unique_ptr<rocksdb::FSDirectory>* result,
                                       IODebugContext*) {
  *result = std::make_unique<Folder>(files_, path);
  return IOStatus::OK();
}
IOStatus RocksFileSystem::NewLogger(const std::string&, const IOOptions&,
                                    std::shared_ptr<rocksdb::Logger>*, IODebugContext*) {
  return Refused("a log file");
}

IOStatus RocksFileSystem::FileExists(const std::string& path, const IOOptions&, IODebugContext*) {
  const absl::StatusOr<bool> exists = files_.Exists(path);
  if (!exists.ok()) return ToRocks(exists.status());
  return *exists ? IOStatus::OK() : IOStatus::NotFound(path);
}

IOStatus RocksFileSystem::GetChildren(const std::string& path, const IOOptions&,
                                      std::vector<std::string>* result, IODebugContext*) {
  result->clear();
  const auto entries = files_.List(path);
  if (absl::IsNotFound(entries.status())) return IOStatus::NotFound(path);
  if (!entries.ok()) return ToRocks(entries.status());
  for (const mnemo::FileSystem::Entry& entry : *entries) result->push_back(entry.name);
  return IOStatus::OK();
}

IOStatus RocksFileSystem::GetChildrenFileAttributes(const std::string& path, const IOOptions&,
                                                    std::vector<rocksdb::FileAttributes>* result,
                                                    IODebugContext*) {
  result->clear();
  const auto entries = files_.List(path);
  if (absl::IsNotFound(entries.status())) return IOStatus::NotFound(path);
  if (!entries.ok()) return ToRocks(entries.status());
  for (const mnemo::FileSystem::Entry& entry : *entries) {
    rocksdb::FileAttributes attributes;
    attributes.name = entry.name;
    attributes.size_bytes = entry.size;
    result->push_back(std::move(attributes));
  }
  return IOStatus::OK();
}

IOStatus RocksFileSystem::DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) {
  if (IsManifest(path)) {
    // A directory of an earlier build has none.
    const absl::Status removed = files_.Remove(MirrorOf(path));
    if (!removed.ok() && !absl::IsNotFound(removed)) return ToRocks(removed);
  }
  return ToRocks(files_.Remove(path));
}
IOStatus RocksFileSystem::Truncate(const std::string& path, size_t size, const IOOptions&,
                                   IODebugContext*) {
  auto file = files_.OpenForWrite(path, mnemo::FileSystem::WriteMode::kAppend);
  if (!file.ok()) return ToRocks(file.status());
  const absl::Status truncated = (*file)->Truncate(size);
  return ToRocks(truncated.ok() ? (*file)->Close() : truncated);
}
IOStatus RocksFileSystem::CreateDir(const std::string& path, const IOOptions&, IODebugContext*) {
  const absl::StatusOr<bool> exists = files_.Exists(path);
  if (!exists.ok()) return ToRocks(exists.status());
  if (*exists) return IOStatus::IOError(path, "exists");
  return ToRocks(CreateDirectoryDurably(files_, path));
}
IOStatus RocksFileSystem::CreateDirIfMissing(const std::string& path, const IOOptions&,
                                             IODebugContext*) {
  return ToRocks(CreateDirectoryDurably(files_, path));
}
IOStatus RocksFileSystem::DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) {
  return ToRocks(files_.RemoveDirectory(path));
}
IOStatus RocksFileSystem::GetFileSize(const std::string& path, const IOOptions&, uint64_t* size,
                                      IODebugContext*) {
  const absl::StatusOr<uint64_t> found = files_.FileSize(path);
  if (!found.ok()) return ToRocks(found.status());
  *size = *found;
  return IOStatus::OK();
}
IOStatus RocksFileSystem::GetFileModificationTime(const std::string&, const IOOptions&, uint64_t*,
                                                  IODebugContext*) {
  return Refused("a modification time");
}
IOStatus RocksFileSystem::RenameFile(const std::string& from, const std::string& to,
                                     const IOOptions&, IODebugContext*) {
  return ToRocks(files_.Rename(from, to));
}
IOStatus RocksFileSystem::LinkFile(const std::string& from, const std::string& to, const IOOptions&,
                                   IODebugContext*) {
  return ToRocks(files_.Link(from, to));
}
IOStatus RocksFileSystem::NumFileLinks(const std::string&, const IOOptions&, uint64_t*,
                                       IODebugContext*) {
  return Refused("counting links");
}
IOStatus RocksFileSystem::AreFilesSame(const std::string&, const std::string&, const IOOptions&,
                                       bool*, IODebugContext*) {
  return Refused("comparing files");
}

IOStatus RocksFileSystem::LockFile(const std::string& path, const IOOptions&,
                                   rocksdb::FileLock** lock, IODebugContext*) {
  auto held = files_.Lock(path);
  if (!held.ok()) return ToRocks(held.status());
  *lock = new HeldLock(*std::move(held));
  return IOStatus::OK();
}
IOStatus RocksFileSystem::UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) {
  delete lock;
  return IOStatus::OK();
}
IOStatus RocksFileSystem::GetFreeSpace(const std::string& path, const IOOptions&,
                                       uint64_t* free_bytes, IODebugContext*) {
  const absl::StatusOr<mnemo::FileSystem::Space> space = files_.FreeSpace(path);
  if (!space.ok()) return ToRocks(space.status());
  *free_bytes = space->free_bytes;
  return IOStatus::OK();
}
IOStatus RocksFileSystem::IsDirectory(const std::string& path, const IOOptions&, bool* is_directory,
                                      IODebugContext*) {
  const absl::StatusOr<bool> exists = files_.Exists(path);
  if (!exists.ok()) return ToRocks(exists.status());
  *is_directory = *exists && files_.List(path).ok();
  return IOStatus::OK();
}

}  // namespace mnemo

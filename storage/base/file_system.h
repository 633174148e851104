// The file-system seam. Everything that mnemo writes, RocksDB's files
// included, goes through here, so that a test can keep unsynced bytes,
// renames and directory entries in memory and lose them, fail the n-th
// write, or run out of space.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"

namespace mnemo {

// An append-only file. Not thread-safe, but that Sync and Size may run beside
// an Append: Sync then covers what was appended before it began. Bytes survive
// a process that dies once Append returned, and a power loss once Sync
// returned and the folder was synced since the file was made. After a failed
// Sync the kernel may have dropped the bytes, so every later call but Size
// fails too.
class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes, ignoring errors
  virtual absl::Status Append(ByteView bytes) = 0;
  virtual absl::Status Sync() = 0;
  virtual absl::Status Truncate(uint64_t size) = 0;
  virtual absl::Status Close() = 0;
  virtual uint64_t Size() const = 0;
};

// Thread-safe.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  // Reads up to `into.size()` bytes at `offset`; fewer only at the end of the
  // file. With direct I/O, offset, size and address are multiples of
  // RequiredAlignment().
  virtual absl::StatusOr<size_t> Read(uint64_t offset, MutableByteView into) const = 0;
  virtual uint64_t Size() const = 0;
  virtual size_t RequiredAlignment() const { return 1; }
};

// Held until destroyed.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// Thread-safe. Errors: kNotFound, kAlreadyExists, kPermissionDenied,
// kResourceExhausted (no space), kUnavailable (a lock held by another
// process), kInternal (any other I/O error); each names the path.
class FileSystem {
 public:
  enum class WriteMode {
    kTruncate,
    kAppend,
    // As kTruncate, for large runs that are written once, in order: around the page cache
    // where the file system can. Truncate is refused; what was not synced may still be in
    // the file's own memory until Close.
    kLarge,
  };
  struct ReadOptions {
    bool direct = false;      // O_DIRECT; falls back to buffered where the file system refuses
    bool sequential = false;  // read ahead; otherwise reads fetch only what they ask for
  };
  struct Entry {
    std::string name;
    uint64_t size = 0;
    bool is_directory = false;
  };
  struct Space {
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
  };

  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                                     WriteMode mode) = 0;
  virtual absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Link(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual absl::Status CreateDirectory(
      const std::string& path) = 0;  // and its parents; ok if there
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;  // empty ones only
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<Entry>> List(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> FileSize(const std::string& path) = 0;
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
  virtual absl::StatusOr<Space> FreeSpace(const std::string& path) = 0;
};

// The operating system's files.
std::unique_ptr<FileSystem> MakePosixFileSystem();

// Makes a folder and its parents, and every entry made durable.
absl::Status CreateDirectoryDurably(FileSystem& files, const std::string& path);
// Reads a whole file of at most `max_size` bytes.
absl::StatusOr<std::string> ReadSmallFile(FileSystem& files, const std::string& path,
                                          uint64_t max_size);
// Replaces a file durably: writes `path`.tmp, syncs it, renames, syncs the folder.
absl::Status ReplaceFile(FileSystem& files, const std::string& path, ByteView contents);

}  // namespace mnemo

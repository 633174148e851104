// RocksDB's files through our file-system seam.
#pragma once

#include <rocksdb/file_system.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "storage/base/clock.h"
#include "storage/base/file_system.h"

namespace mnemo {

// Bytes that RocksDB handed to the file system, by what they were for.
struct RocksWriteCounters {
  std::atomic<uint64_t> wal_bytes{0};
  std::atomic<uint64_t> table_bytes{0};
  std::atomic<uint64_t> blob_bytes{0};
  std::atomic<uint64_t> other_bytes{0};
  std::atomic<uint64_t> wal_syncs{0};
};

// Every file, folder, rename, link, removal and lock goes to `files`; of the
// wrapped default only what is no I/O is used (tuning of options, absolute
// paths). Preallocation and range syncs, which are hints, are dropped; memory
// maps, random-write files and direct writes are refused. Thread-safe.
class RocksFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  // Borrows `files` and `clock`. `on_wal_sync` may be empty; it is called with
  // the duration of every successful sync of a write-ahead log.
  RocksFileSystem(mnemo::FileSystem& files, const Clock& clock,
                  std::function<void(Nanos)> on_wal_sync);

  const RocksWriteCounters& counters() const { return counters_; }

  // Who hears why a write-ahead log failed while logs are forgiven. Before the
  // first file is opened.
  void SetLogFailureObserver(std::function<void(const rocksdb::IOStatus&)> observer) {
    on_log_failure_ = std::move(observer);
  }
  // From now on a log that cannot be made, written or synced takes nothing more,
  // and RocksDB is told OK: the observer refuses what it acknowledges. RocksDB 7.8
  // loses count of its column families or asserts when a log fails under it
  // (docs/decisions/0054-a-log-that-cannot-be-made.md). Otherwise the error is
  // returned, as of every other file.
  void ForgiveLogs(bool forgive) { forgiving_ = forgive; }

  static const char* kClassName() { return "MnemoFileSystem"; }
  const char* Name() const override { return kClassName(); }

  rocksdb::IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewRandomAccessFile(const std::string& path,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                        rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result,
                                       rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReuseWritableFile(const std::string& path, const std::string& old_path,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewRandomRWFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSRandomRWFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewMemoryMappedFileBuffer(
      const std::string& path, std::unique_ptr<rocksdb::MemoryMappedFileBuffer>* result) override;
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewLogger(const std::string& path, const rocksdb::IOOptions& options,
                              std::shared_ptr<rocksdb::Logger>* result,
                              rocksdb::IODebugContext* debug) override;

  rocksdb::IOStatus FileExists(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus GetChildren(const std::string& path, const rocksdb::IOOptions& options,
                                std::vector<std::string>* result,
                                rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus GetChildrenFileAttributes(const std::string& path,
                                              const rocksdb::IOOptions& options,
                                              std::vector<rocksdb::FileAttributes>* result,
                                              rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus Truncate(const std::string& path, size_t size,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus CreateDir(const std::string& path, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus CreateDirIfMissing(const std::string& path, const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteDir(const std::string& path, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus GetFileSize(const std::string& path, const rocksdb::IOOptions& options,
                                uint64_t* size, rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus GetFileModificationTime(const std::string& path,
                                            const rocksdb::IOOptions& options, uint64_t* time,
                                            rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NumFileLinks(const std::string& path, const rocksdb::IOOptions& options,
                                 uint64_t* count, rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus AreFilesSame(const std::string& first, const std::string& second,
                                 const rocksdb::IOOptions& options, bool* same,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus LockFile(const std::string& path, const rocksdb::IOOptions& options,
                             rocksdb::FileLock** lock, rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus UnlockFile(rocksdb::FileLock* lock, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus GetFreeSpace(const std::string& path, const rocksdb::IOOptions& options,
                                 uint64_t* free_bytes, rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus IsDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                bool* is_directory, rocksdb::IODebugContext* debug) override;

 private:
  class LogFile;
  rocksdb::IOStatus OpenForWrite(const std::string& path, mnemo::FileSystem::WriteMode mode,
                                 const rocksdb::FileOptions& options,
                                 std::unique_ptr<rocksdb::FSWritableFile>* result);

  mnemo::FileSystem& files_;
  const Clock& clock_;
  const std::function<void(Nanos)> on_wal_sync_;
  std::function<void(const rocksdb::IOStatus&)> on_log_failure_;
  std::atomic<bool> forgiving_{false};
  RocksWriteCounters counters_;
};

}  // namespace mnemo

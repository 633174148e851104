// An open RocksDB of an instance: its column families, its one way of writing,
// and what happens when writing fails.
#pragma once

#include <rocksdb/db.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"
#include "storage/tier/instance.h"
#include "storage/tier/rocks_file_system.h"

namespace mnemo {

// Thread-safe, but for Close.
//
// Once a write, a sync or a flush failed on I/O, or RocksDB stopped, every
// Write is refused with that error until Recover succeeds: all write buffers
// are then in new files, so that nothing rests on a log whose sync failed.
class RocksDb {
 public:
  enum class Recovery { kTolerateTail, kPointInTime };

  // Opens `<options.path>/db`. Errors: as FromRocks.
  static absl::StatusOr<std::unique_ptr<RocksDb>> Open(const InstanceOptions& options,
                                                       Recovery recovery, FileSystem& files,
                                                       const Clock& clock,
                                                       TierResources& resources);
  static std::string FilesPath(const InstanceOptions& options) { return options.path + "/db"; }

  ~RocksDb();
  RocksDb(const RocksDb&) = delete;
  RocksDb& operator=(const RocksDb&) = delete;

  rocksdb::DB& db() const { return *db_; }
  rocksdb::ColumnFamilyHandle* state() const { return handles_[0]; }
  rocksdb::ColumnFamilyHandle* log() const { return handles_[1]; }
  rocksdb::ColumnFamilyHandle* metadata() const { return handles_[2]; }
  rocksdb::ColumnFamilyHandle* payloads() const { return handles_[3]; }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return handles_; }

  // `sync`: on return the batch is on stable storage.
  absl::Status Write(rocksdb::WriteBatch& batch, bool sync);
  // Puts what was written so far on stable storage.
  absl::Status SyncLog();
  // Moves all write buffers into files.
  absl::Status Flush();

  // Refuses `bytes` more of payload when they would eat into the reserve.
  // Errors: kResourceExhausted, and why writes are refused.
  absl::Status Admit(uint64_t bytes);

  // Ok, or why writes are refused. Never tries to recover.
  absl::Status Writable() const;
  // Tries to take writes again, if they are refused, enough space is free and a
  // small file can be written and synced.
  absl::Status Recover();

  const RocksWriteCounters& counters() const { return files_wrapper_->counters(); }
  uint64_t accepted_bytes() const { return accepted_bytes_; }
  uint64_t resumes() const { return resumes_; }
  uint64_t Property(rocksdb::ColumnFamilyHandle* family, const std::string& name) const;
  void Say(InstanceOptions::Severity severity, std::string_view message) const;

  // Syncs the log and closes; the sync's error is the answer.
  absl::Status Close();

 private:
  class Listener;
  class Messages;

  RocksDb(const InstanceOptions& options, FileSystem& files, const Clock& clock);
  absl::Status OpenFiles(Recovery recovery, TierResources& resources);
  absl::Status NoteFailure(const rocksdb::Status& status, std::string_view what);
  absl::Status RefusedOrRecovered();
  absl::Status DeviceWorks() const;

  const InstanceOptions options_;
  FileSystem& files_;
  const Clock& clock_;
  std::shared_ptr<RocksFileSystem> files_wrapper_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;

  std::atomic<uint64_t> accepted_bytes_{0};
  std::atomic<uint64_t> resumes_{0};
  std::atomic<uint64_t> admitted_since_look_{0};
  std::atomic<bool> low_on_space_{false};

  // Before error_mutex_. Held while recovering, so that one thread does it.
  Mutex recovery_mutex_;
  std::atomic<bool> refusing_{false};
  mutable Mutex error_mutex_;
  absl::Status error_ ABSL_GUARDED_BY(error_mutex_);
  std::optional<MonoTime> last_attempt_ ABSL_GUARDED_BY(recovery_mutex_);
};

}  // namespace mnemo

// An open RocksDB of an instance: its column families, its one way of writing,
// and what happens when writing fails.
#pragma once

#include <rocksdb/db.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
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
// Write is refused with that error until Reopen succeeds. RocksDB's own Resume
// is not used: it goes on with a log file whose write failed, and its
// assertions, which Debian's build has, end the process then
// (docs/decisions/0052-reopen-instead-of-resume.md).
class RocksDb {
 public:
  enum class Recovery { kTolerateTail, kPointInTime };

  // The open database, which stays open while a session of it is held. Movable.
  class Session {
   public:
    Session(Session&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Session& operator=(Session&&) = delete;
    ~Session() {
      if (owner_ != nullptr) owner_->Release();
    }
    rocksdb::DB& db() const { return *owner_->db_; }
    rocksdb::ColumnFamilyHandle* state() const { return owner_->handles_[0]; }
    rocksdb::ColumnFamilyHandle* log() const { return owner_->handles_[1]; }
    rocksdb::ColumnFamilyHandle* metadata() const { return owner_->handles_[2]; }
    rocksdb::ColumnFamilyHandle* payloads() const { return owner_->handles_[3]; }
    const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return owner_->handles_; }
    // 0 if there is none of that name.
    uint64_t Property(rocksdb::ColumnFamilyHandle* family, const std::string& name) const;

   private:
    friend class RocksDb;
    explicit Session(const RocksDb& owner) : owner_(&owner) {}
    const RocksDb* owner_;
  };

  // Opens `<options.path>/db`. Errors: as FromRocks.
  static absl::StatusOr<std::unique_ptr<RocksDb>> Open(const InstanceOptions& options,
                                                       Recovery recovery, FileSystem& files,
                                                       const Clock& clock,
                                                       TierResources& resources);
  static std::string FilesPath(const InstanceOptions& options) { return options.path + "/db"; }

  ~RocksDb();
  RocksDb(const RocksDb&) = delete;
  RocksDb& operator=(const RocksDb&) = delete;

  // Waits while the database is being reopened. Errors: kUnavailable (closed,
  // or reopening failed).
  absl::StatusOr<Session> Acquire() const;

  enum class Logging {
    kNone,    // lost with the process unless flushed before
    kWrite,   // survives the process
    kSynced,  // on return on stable storage
  };
  absl::Status Write(const Session& session, rocksdb::WriteBatch& batch, Logging logging);
  // Puts what was written so far on stable storage.
  absl::Status SyncLog();
  // Moves all write buffers into files.
  absl::Status Flush();
  uint64_t LatestSequence() const;

  // Refuses `bytes` more of payload when they would eat into the reserve.
  // Errors: kResourceExhausted, and why writes are refused.
  absl::Status Admit(uint64_t bytes);

  // Ok, or why writes are refused.
  absl::Status Writable() const;
  // Closes and opens again, once enough space is free, a small file can be
  // written and synced, and all sessions are released. Writes stay refused.
  // Errors: kResourceExhausted or kUnavailable (not yet: try again), and those
  // of Open, after which there is no session.
  absl::Status Reopen();
  // Ends the refusal of writes.
  void AcceptWrites();

  const RocksWriteCounters& counters() const { return files_wrapper_->counters(); }
  uint64_t accepted_bytes() const { return accepted_bytes_; }
  uint64_t resumes() const { return resumes_; }
  void Say(InstanceOptions::Severity severity, std::string_view message) const;

  // Syncs the log and closes; the sync's error is the answer.
  absl::Status Close();

 private:
  class Listener;
  class Messages;

  RocksDb(const InstanceOptions& options, Recovery recovery, FileSystem& files,
          const Clock& clock, TierResources& resources);
  absl::Status OpenFiles();
  absl::Status CloseFiles();
  void Release() const;
  absl::Status TakeAlone();
  absl::Status NoteFailure(const rocksdb::Status& status, std::string_view what);
  absl::Status DeviceWorks() const;

  const InstanceOptions options_;
  const Recovery recovery_;
  FileSystem& files_;
  TierResources& resources_;
  std::shared_ptr<RocksFileSystem> files_wrapper_;
  std::unique_ptr<rocksdb::Env> env_;

  mutable Mutex session_mutex_;
  mutable CondVar session_changed_;
  mutable uint64_t sessions_ ABSL_GUARDED_BY(session_mutex_) = 0;
  bool alone_ ABSL_GUARDED_BY(session_mutex_) = false;  // no new sessions
  bool open_ ABSL_GUARDED_BY(session_mutex_) = false;
  // Changed only while `alone_` and without sessions; read by their holders.
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;

  std::atomic<uint64_t> accepted_bytes_{0};
  std::atomic<uint64_t> resumes_{0};
  std::atomic<uint64_t> admitted_since_look_{0};
  std::atomic<bool> low_on_space_{false};

  // After session_mutex_.
  mutable Mutex error_mutex_;
  std::atomic<bool> refusing_{false};
  absl::Status error_ ABSL_GUARDED_BY(error_mutex_);
};

}  // namespace mnemo

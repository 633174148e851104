#include "storage/tier/rocks_db.h"

#include <fmt/format.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/write_batch.h>

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_crc32c.h"
#include "storage/tier/rocks_options.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

// How long reopening waits for readers before it gives up for now.
constexpr Nanos kReopenPatience = std::chrono::seconds(2);
// How many bytes may be admitted between two looks at the free space.
constexpr uint64_t kLookInterval = 1ull << 20;

}  // namespace

// RocksDB tells here when it stops taking writes.
class RocksDb::Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(RocksDb& owner) : owner_(owner) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    // A compaction that failed is tried again by RocksDB; nothing else is.
    if (reason == rocksdb::BackgroundErrorReason::kCompaction &&
        error->severity() < rocksdb::Status::kHardError) {
      return;
    }
    owner_.NoteFailure(*error, "background work").IgnoreError();
  }

 private:
  RocksDb& owner_;
};

// RocksDB's own log lines: warnings and errors go to the observer.
class RocksDb::Messages final : public rocksdb::Logger {
 public:
  explicit Messages(const RocksDb& owner)
      : Logger(rocksdb::InfoLogLevel::WARN_LEVEL), owner_(owner) {}
  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    Logv(rocksdb::InfoLogLevel::INFO_LEVEL, format, arguments);
  }
  void Logv(rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < rocksdb::InfoLogLevel::WARN_LEVEL || level == rocksdb::HEADER_LEVEL) return;
    char line[512];
    if (std::vsnprintf(line, sizeof(line), format, arguments) < 0) return;
    owner_.Say(level == rocksdb::InfoLogLevel::WARN_LEVEL ? InstanceOptions::Severity::kWarning
                                                          : InstanceOptions::Severity::kError,
               line);
  }

 private:
  const RocksDb& owner_;
};

RocksDb::RocksDb(const InstanceOptions& options, Recovery recovery, FileSystem& files,
                 const Clock& clock, TierResources& resources)
    : options_(options),
      recovery_(recovery),
      files_(files),
      resources_(resources),
      files_wrapper_(std::make_shared<RocksFileSystem>(files, clock, options.on_wal_sync)),
      env_(rocksdb::NewCompositeEnv(files_wrapper_)) {
  files_wrapper_->SetLogFailureObserver(
      [this](const rocksdb::IOStatus& why) { NoteFailure(why, "log").IgnoreError(); });
}

absl::StatusOr<std::unique_ptr<RocksDb>> RocksDb::Open(const InstanceOptions& options,
                                                       Recovery recovery, FileSystem& files,
                                                       const Clock& clock,
                                                       TierResources& resources) {
  std::unique_ptr<RocksDb> db(new RocksDb(options, recovery, files, clock, resources));
  MNEMO_RETURN_IF_ERROR(db->OpenFiles());
  // Opening may have met errors that it got over.
  db->AcceptWrites();
  db->resumes_ = 0;
  if (!RocksCallsOurCrc32c()) {
    db->Say(InstanceOptions::Severity::kWarning, "checksums of RocksDB are computed by tables");
  }
  return db;
}

absl::Status RocksDb::OpenFiles() {
  rocksdb::DBOptions db_options = MakeDbOptions(options_, recovery_, resources_);
  db_options.env = env_.get();
  db_options.listeners.push_back(std::make_shared<Listener>(*this));
  db_options.info_log = std::make_shared<Messages>(*this);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(
      db_options, FilesPath(options_), MakeFamilies(options_, resources_), &handles_, &db);
  db_.reset(db);
  MNEMO_RETURN_IF_ERROR(FromRocks(opened, fmt::format("open {}", FilesPath(options_))));
  files_wrapper_->ForgiveLogs(true);
  MutexLock lock(session_mutex_);
  open_ = true;
  return absl::OkStatus();
}

RocksDb::~RocksDb() { Close().IgnoreError(); }

absl::Status RocksDb::CloseFiles() {
  {
    MutexLock lock(session_mutex_);
    open_ = false;
  }
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  handles_.clear();
  const rocksdb::Status closed = db_->Close();
  db_.reset();
  files_wrapper_->ForgiveLogs(false);
  return FromRocks(closed, fmt::format("close {}", options_.path));
}

absl::Status RocksDb::Close() {
  if (db_ == nullptr) return absl::OkStatus();
  const absl::Status synced = SyncLog();
  const absl::Status closed = CloseFiles();
  return synced.ok() ? closed : synced;
}

absl::StatusOr<RocksDb::Session> RocksDb::Acquire() const {
  MutexLock lock(session_mutex_);
  while (alone_) session_changed_.Wait(session_mutex_);
  if (!open_) return absl::UnavailableError(fmt::format("{}: closed", options_.path));
  ++sessions_;
  return Session(*this);
}

void RocksDb::Release() const {
  MutexLock lock(session_mutex_);
  if (--sessions_ == 0) session_changed_.SignalAll();
}

absl::Status RocksDb::TakeAlone() {
  const auto until = std::chrono::steady_clock::now() + kReopenPatience;
  MutexLock lock(session_mutex_);
  alone_ = true;
  while (sessions_ > 0 && std::chrono::steady_clock::now() < until) {
    session_changed_.WaitFor(session_mutex_, until - std::chrono::steady_clock::now());
  }
  if (sessions_ == 0) return absl::OkStatus();
  alone_ = false;
  session_changed_.SignalAll();
  return absl::UnavailableError(
      fmt::format("{}: {} snapshots or readers are still held", options_.path, sessions_));
}

absl::Status RocksDb::Reopen() {
  MNEMO_RETURN_IF_ERROR(DeviceWorks());
  MNEMO_RETURN_IF_ERROR(TakeAlone());
  // What it says about closing is what made us reopen.
  if (db_ != nullptr) CloseFiles().IgnoreError();
  const absl::Status opened = OpenFiles();
  MutexLock lock(session_mutex_);
  alone_ = false;
  session_changed_.SignalAll();
  return opened;
}

void RocksDb::AcceptWrites() {
  {
    MutexLock lock(error_mutex_);
    error_ = absl::OkStatus();
    if (!refusing_.exchange(false)) return;
  }
  ++resumes_;
  Say(InstanceOptions::Severity::kInfo, "writes taken again");
}

void RocksDb::Say(InstanceOptions::Severity severity, std::string_view message) const {
  if (options_.on_message) options_.on_message(severity, message);
}

absl::Status RocksDb::NoteFailure(const rocksdb::Status& status, std::string_view what) {
  const absl::Status error = FromRocks(status, fmt::format("{}: {}", options_.path, what));
  const bool sticky = status.IsIOError() || status.IsCorruption() ||
                      status.severity() >= rocksdb::Status::kHardError;
  if (!sticky) return error;
  {
    MutexLock lock(error_mutex_);
    // The first error says what happened; later ones are its consequences.
    if (!error_.ok()) return error;
    error_ = error;
    refusing_ = true;
  }
  Say(InstanceOptions::Severity::kError,
      fmt::format("writes refused: {}", std::string(error.message())));
  return error;
}

absl::Status RocksDb::Writable() const {
  if (!refusing_) return absl::OkStatus();
  MutexLock lock(error_mutex_);
  return error_;
}

// Closing and opening in vain would only take reads away.
absl::Status RocksDb::DeviceWorks() const {
  MNEMO_ASSIGN_OR_RETURN(const FileSystem::Space space, files_.FreeSpace(options_.path));
  const uint64_t needed =
      std::max(options_.reserve_bytes + options_.reserve_bytes / 4, options_.write_buffer_bytes);
  if (space.free_bytes < needed) {
    return absl::ResourceExhaustedError(fmt::format("{}: {} bytes free, {} needed to go on",
                                                    options_.path, space.free_bytes, needed));
  }
  const std::string path = options_.path + "/PROBE";
  MNEMO_RETURN_IF_ERROR(ReplaceFile(files_, path, AsBytes("probe")));
  return files_.Remove(path);
}

absl::Status RocksDb::Write(const Session& session, rocksdb::WriteBatch& batch, Logging logging) {
  MNEMO_RETURN_IF_ERROR(Writable());
  rocksdb::WriteOptions options;
  options.sync = logging == Logging::kSynced;
  options.disableWAL = logging == Logging::kNone;
  const uint64_t bytes = batch.GetDataSize();
  const rocksdb::Status written = session.db().Write(options, &batch);
  if (!written.ok()) return NoteFailure(written, "write");
  // RocksDB does not know of a log that failed.
  if (logging != Logging::kNone) MNEMO_RETURN_IF_ERROR(Writable());
  accepted_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status RocksDb::SyncLog() {
  MNEMO_RETURN_IF_ERROR(Writable());
  MNEMO_ASSIGN_OR_RETURN(const Session session, Acquire());
  const rocksdb::Status synced = session.db().SyncWAL();
  return synced.ok() ? Writable() : NoteFailure(synced, "sync");
}

absl::Status RocksDb::Flush() {
  MNEMO_RETURN_IF_ERROR(Writable());
  MNEMO_ASSIGN_OR_RETURN(const Session session, Acquire());
  const rocksdb::Status flushed = session.db().Flush(rocksdb::FlushOptions(), session.families());
  return flushed.ok() ? Writable() : NoteFailure(flushed, "flush");
}

uint64_t RocksDb::LatestSequence() const {
  const absl::StatusOr<Session> session = Acquire();
  return session.ok() ? session->db().GetLatestSequenceNumber() : 0;
}

absl::Status RocksDb::Admit(uint64_t bytes) {
  MNEMO_RETURN_IF_ERROR(Writable());
  const uint64_t since = admitted_since_look_.fetch_add(bytes) + bytes;
  if (since < kLookInterval && !low_on_space_) return absl::OkStatus();
  admitted_since_look_ = 0;
  MNEMO_ASSIGN_OR_RETURN(const FileSystem::Space space, files_.FreeSpace(options_.path));
  const uint64_t reserve = options_.reserve_bytes;
  const uint64_t needed = low_on_space_ ? reserve + reserve / 4 : reserve;
  low_on_space_ = space.free_bytes < needed;
  if (!low_on_space_) return absl::OkStatus();
  return absl::ResourceExhaustedError(fmt::format("{}: {} bytes free, {} kept in reserve",
                                                  options_.path, space.free_bytes, needed));
}

uint64_t RocksDb::Session::Property(rocksdb::ColumnFamilyHandle* family,
                                    const std::string& name) const {
  uint64_t value = 0;
  return db().GetIntProperty(family, name, &value) ? value : 0;
}

}  // namespace mnemo

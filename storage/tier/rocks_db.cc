#include "storage/tier/rocks_db.h"

#include <fmt/format.h>
#include <rocksdb/listener.h>
#include <rocksdb/env.h>
#include <rocksdb/write_batch.h>

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_options.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

// A refused writer tries to recover at most so often.
constexpr Nanos kRecoveryInterval = std::chrono::seconds(1);
// How many bytes may be admitted between two looks at the free space.
constexpr uint64_t kLookInterval = 1ull << 20;

}  // namespace

// RocksDB tells here when it stops taking writes.
class RocksDb::Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(RocksDb& owner) : owner_(owner) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* error) override {
    if (error->severity() < rocksdb::Status::kHardError) return;
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

RocksDb::RocksDb(const InstanceOptions& options, FileSystem& files, const Clock& clock)
    : options_(options),
      files_(files),
      clock_(clock),
      files_wrapper_(std::make_shared<RocksFileSystem>(files, clock, options.on_wal_sync)),
      env_(rocksdb::NewCompositeEnv(files_wrapper_)) {}

absl::StatusOr<std::unique_ptr<RocksDb>> RocksDb::Open(const InstanceOptions& options,
                                                       Recovery recovery, FileSystem& files,
                                                       const Clock& clock,
                                                       TierResources& resources) {
  std::unique_ptr<RocksDb> db(new RocksDb(options, files, clock));
  MNEMO_RETURN_IF_ERROR(db->OpenFiles(recovery, resources));
  return db;
}

absl::Status RocksDb::OpenFiles(Recovery recovery, TierResources& resources) {
  rocksdb::DBOptions db_options = MakeDbOptions(options_, recovery, resources);
  db_options.env = env_.get();
  db_options.listeners.push_back(std::make_shared<Listener>(*this));
  db_options.info_log = std::make_shared<Messages>(*this);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened =
      rocksdb::DB::Open(db_options, FilesPath(options_), MakeFamilies(options_, resources),
                        &handles_, &db);
  db_.reset(db);
  return FromRocks(opened, fmt::format("open {}", FilesPath(options_)));
}

RocksDb::~RocksDb() { Close().IgnoreError(); }

absl::Status RocksDb::Close() {
  if (db_ == nullptr) return absl::OkStatus();
  const absl::Status synced = SyncLog();
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  handles_.clear();
  const rocksdb::Status closed = db_->Close();
  db_.reset();
  if (!synced.ok()) return synced;
  return FromRocks(closed, fmt::format("close {}", options_.path));
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

// While a device still fails, RocksDB's own Resume waits for work that fails
// and is tried again, for ever.
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

absl::Status RocksDb::Recover() {
  if (!refusing_) return absl::OkStatus();
  MutexLock lock(recovery_mutex_);
  const absl::Status refused = Writable();
  if (refused.ok()) return refused;
  last_attempt_ = clock_.Mono();
  MNEMO_RETURN_IF_ERROR(DeviceWorks());
  rocksdb::Status resumed = db_->Resume();
  rocksdb::FlushOptions flush;
  flush.allow_write_stall = true;
  if (resumed.ok()) resumed = db_->Flush(flush, handles_);
  if (!resumed.ok()) return FromRocks(resumed, fmt::format("{}: resume", options_.path));
  {
    MutexLock error_lock(error_mutex_);
    error_ = absl::OkStatus();
    refusing_ = false;
  }
  ++resumes_;
  Say(InstanceOptions::Severity::kInfo, "writes taken again");
  return absl::OkStatus();
}

absl::Status RocksDb::RefusedOrRecovered() {
  const absl::Status refused = Writable();
  if (refused.ok()) return refused;
  {
    if (!recovery_mutex_.TryLock()) return refused;
    const bool due =
        !last_attempt_.has_value() || clock_.Mono() - *last_attempt_ >= kRecoveryInterval;
    recovery_mutex_.Unlock();
    if (!due) return refused;
  }
  return Recover().ok() ? absl::OkStatus() : refused;
}

absl::Status RocksDb::Write(rocksdb::WriteBatch& batch, bool sync) {
  if (refusing_) MNEMO_RETURN_IF_ERROR(RefusedOrRecovered());
  rocksdb::WriteOptions options;
  options.sync = sync;
  const uint64_t bytes = batch.GetDataSize();
  const rocksdb::Status written = db_->Write(options, &batch);
  if (!written.ok()) return NoteFailure(written, "write");
  accepted_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status RocksDb::SyncLog() {
  MNEMO_RETURN_IF_ERROR(Writable());
  const rocksdb::Status synced = db_->SyncWAL();
  return synced.ok() ? absl::OkStatus() : NoteFailure(synced, "sync");
}

absl::Status RocksDb::Flush() {
  MNEMO_RETURN_IF_ERROR(Writable());
  const rocksdb::Status flushed = db_->Flush(rocksdb::FlushOptions(), handles_);
  return flushed.ok() ? absl::OkStatus() : NoteFailure(flushed, "flush");
}

absl::Status RocksDb::Admit(uint64_t bytes) {
  if (refusing_) MNEMO_RETURN_IF_ERROR(RefusedOrRecovered());
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

uint64_t RocksDb::Property(rocksdb::ColumnFamilyHandle* family, const std::string& name) const {
  uint64_t value = 0;
  return db_->GetIntProperty(family, name, &value) ? value : 0;
}

}  // namespace mnemo

#include "storage/tier/instance.h"

#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_level.h"
#include "storage/tier/rocks_recovery.h"
#include "storage/tier/rocks_status.h"
#include "storage/tier/rocks_store.h"
#include "storage/tier/space_keeper.h"

namespace mnemo {
namespace {

// How often an instance with damaged files is read through.
constexpr Nanos kRepairInterval = std::chrono::minutes(10);

template <typename T>
absl::Status CheckRange(std::string_view field, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} is {} ({} to {})", field, value, least, most));
}

class RocksInstance final : public Instance {
 public:
  static absl::StatusOr<std::unique_ptr<Instance>> Open(const InstanceOptions& options,
                                                        FileSystem& files, const Clock& clock,
                                                        TierResources& resources,
                                                        OpenReport& report) {
    auto opened = OpenOnce(options, files, clock, resources, report);
    if (options.durability == Durability::kSync) return Explained(options, std::move(opened));
    // A damaged block of a table hides what follows it there, and stops
    // compactions for good: the table goes.
    if (opened.ok() && report.damaged_metadata > 0) {
      opened->reset();
      opened = absl::DataLossError(fmt::format("{} damaged places", report.damaged_metadata));
    }
    if (absl::IsDataLoss(opened.status())) {
      MNEMO_RETURN_IF_ERROR(DropTables(options, files, clock, resources, report));
      opened = OpenAgain(options, files, clock, resources, report);
    }
    if (absl::IsDataLoss(opened.status()) && options.durability == Durability::kCache) {
      if (!report.detail.empty()) report.detail += "; ";
      report.detail += fmt::format("started empty: {}", std::string(opened.status().message()));
      report.reset_after_damage = true;
      MNEMO_RETURN_IF_ERROR(EmptyInstance(options, files));
      opened = OpenAgain(options, files, clock, resources, report);
    }
    return Explained(options, std::move(opened));
  }

  ~RocksInstance() override { Close().IgnoreError(); }

  Store& store() override { return *store_; }
  DurableLevel& blocks() override { return *level_; }

  absl::Status MaintainSpace() override {
    MNEMO_RETURN_IF_ERROR(Recover());
    MNEMO_RETURN_IF_ERROR(Sweep());
    MNEMO_RETURN_IF_ERROR(log_->TrimAll(options_.log_retained_operations));
    return keeper_->Maintain();
  }
  absl::Status Compact() override { return keeper_->CollectAll(); }
  absl::Status Flush() override { return db_->Flush(); }
  absl::Status VerifyFiles() override {
    MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, db_->Acquire());
    return FromRocks(session.db().VerifyFileChecksums(rocksdb::ReadOptions()), "verify");
  }

  InstanceStats Stats() const override {
    InstanceStats stats;
    stats.blocks = level_->Stats();
    AddFiles(stats);
    const RocksWriteCounters& counters = db_->counters();
    stats.accepted_bytes = db_->accepted_bytes();
    stats.wal_written_bytes = counters.wal_bytes;
    stats.table_written_bytes = counters.table_bytes;
    stats.blob_written_bytes = counters.blob_bytes;
    stats.wal_syncs = counters.wal_syncs;
    stats.resumes = db_->resumes();
    stats.damaged_erased = damaged_erased_;
    stats.orphans_erased = orphans_erased_;
    stats.mark_failures = mark_->failures();
    stats.writable = db_->Writable();
    return stats;
  }

  absl::Status Close() override {
    if (db_ == nullptr) return absl::OkStatus();
    writer_->Stop();
    const absl::Status synced = writer_->Sync();
    const uint64_t sequence = db_->LatestSequence();
    absl::Status closed = db_->Close();
    if (!synced.ok()) closed = synced;
    // Only what is known to be whole is called so.
    if (closed.ok()) closed = mark_->Finish(sequence);
    db_.reset();
    return closed;
  }

 private:
  using Severity = InstanceOptions::Severity;

  static absl::StatusOr<std::unique_ptr<Instance>> Explained(
      const InstanceOptions& options, absl::StatusOr<std::unique_ptr<RocksInstance>> opened) {
    if (!opened.ok()) return ExplainRepair(options, opened.status());
    return *std::move(opened);
  }

  static absl::StatusOr<std::unique_ptr<RocksInstance>> OpenOnce(const InstanceOptions& options,
                                                                 FileSystem& files,
                                                                 const Clock& clock,
                                                                 TierResources& resources,
                                                                 OpenReport& report) {
    MNEMO_ASSIGN_OR_RETURN(Recovered recovered,
                           RecoverInstance(options, files, clock, resources, report));
    std::unique_ptr<RocksInstance> instance(
        new RocksInstance(options, files, clock, std::move(recovered)));
    MNEMO_ASSIGN_OR_RETURN(instance->log_, OperationLog::Open(*instance->writer_));
    instance->store_ = std::make_unique<RocksStore>(*instance->writer_, *instance->log_);
    instance->level_ = std::make_unique<RocksLevel>(*instance->writer_, *instance->log_,
                                                    *instance->keeper_, options);
    MNEMO_ASSIGN_OR_RETURN(report.damaged_metadata, instance->level_->Load());
    report.blocks = instance->level_->Stats().values;
    MNEMO_ASSIGN_OR_RETURN(instance->sweep_, files.Exists(SweepPath(options)));
    // Some operations may have gone with a table, and no sequence is given twice.
    if (instance->sweep_) MNEMO_RETURN_IF_ERROR(instance->log_->Restart());
    return instance;
  }

  // Keeps in `report` what was found the first time.
  static absl::StatusOr<std::unique_ptr<RocksInstance>> OpenAgain(const InstanceOptions& options,
                                                                  FileSystem& files,
                                                                  const Clock& clock,
                                                                  TierResources& resources,
                                                                  OpenReport& report) {
    OpenReport again;
    auto opened = OpenOnce(options, files, clock, resources, again);
    report.damaged_metadata = again.damaged_metadata;
    report.blocks = again.blocks;
    report.tables_dropped += again.tables_dropped;
    if (!again.detail.empty()) report.detail += "; " + again.detail;
    return opened;
  }

  RocksInstance(const InstanceOptions& options, FileSystem& files, const Clock& clock,
                Recovered recovered)
      : options_(options),
        files_(files),
        clock_(clock),
        db_(std::move(recovered.db)),
        mark_(std::move(recovered.mark)),
        writer_(std::make_unique<DurableWriter>(
            *db_, options, options.durability == Durability::kSync ? mark_.get() : nullptr)),
        keeper_(std::make_unique<SpaceKeeper>(*db_, options.blob_file_bytes,
                                              [this] { return level_->live_bytes(); })) {}

  void AddFiles(InstanceStats& stats) const {
    const absl::StatusOr<RocksDb::Session> session = db_->Acquire();
    if (!session.ok()) return;
    for (rocksdb::ColumnFamilyHandle* family : session->families()) {
      stats.table_bytes += session->Property(family, "rocksdb.total-sst-files-size");
      stats.blob_bytes += session->Property(family, "rocksdb.total-blob-file-size");
      stats.blob_garbage_bytes += session->Property(family, "rocksdb.live-blob-file-garbage-size");
      stats.write_buffer_bytes += session->Property(family, "rocksdb.cur-size-all-mem-tables");
    }
  }

  // Opens anew after a failure: what RocksDB and we hold in memory may be
  // ahead of, or behind, what the files say.
  absl::Status Recover() {
    if (db_->Writable().ok()) return absl::OkStatus();
    MutexLock lock(recovery_mutex_);
    const absl::Status refused = db_->Writable();
    if (refused.ok()) return refused;
    if (!absl::IsDataLoss(refused)) return OpenAnew();
    // Tables cannot be mended: then this fails again, and must not do nothing
    // but read for ever.
    if (last_repair_.has_value() && clock_.Mono() - *last_repair_ < kRepairInterval) {
      return refused;
    }
    last_repair_ = clock_.Mono();
    MNEMO_RETURN_IF_ERROR(OpenAnew());
    MNEMO_ASSIGN_OR_RETURN(const uint64_t erased, level_->EraseDamaged());
    damaged_erased_ += erased;
    db_->Say(Severity::kError, fmt::format("{} damaged blocks erased", erased));
    return absl::OkStatus();
  }

  absl::Status OpenAnew() ABSL_EXCLUSIVE_LOCKS_REQUIRED(recovery_mutex_) {
    OperationLog::Pause pause(*log_);
    MNEMO_RETURN_IF_ERROR(db_->Reopen());
    MNEMO_RETURN_IF_ERROR(pause.Reload());
    MNEMO_RETURN_IF_ERROR(level_->Load().status());
    if (options_.durability == Durability::kSync && db_->LatestSequence() < mark_->sequence()) {
      return absl::DataLossError(fmt::format("{}: the log ends at {}, {} was acknowledged",
                                             options_.path, db_->LatestSequence(),
                                             mark_->sequence()));
    }
    db_->AcceptWrites();
    return absl::OkStatus();
  }

  // Payloads whose metadata went with a damaged table take room that nobody
  // gives back.
  absl::Status Sweep() {
    if (!sweep_.load()) return absl::OkStatus();
    MNEMO_ASSIGN_OR_RETURN(const uint64_t erased, level_->EraseOrphans());
    orphans_erased_ += erased;
    db_->Say(Severity::kWarning, fmt::format("{} payloads without metadata erased", erased));
    sweep_ = false;
    return files_.Remove(SweepPath(options_));
  }

  const InstanceOptions options_;
  FileSystem& files_;
  const Clock& clock_;
  std::atomic<bool> sweep_{false};
  std::atomic<uint64_t> orphans_erased_{0};
  Mutex recovery_mutex_;  // one recovery at a time; before everything else
  std::optional<MonoTime> last_repair_ ABSL_GUARDED_BY(recovery_mutex_);
  std::atomic<uint64_t> damaged_erased_{0};
  std::unique_ptr<RocksDb> db_;
  std::unique_ptr<DurableMark> mark_;
  std::unique_ptr<DurableWriter> writer_;
  std::unique_ptr<OperationLog> log_;
  std::unique_ptr<RocksStore> store_;
  std::unique_ptr<RocksLevel> level_;
  std::unique_ptr<SpaceKeeper> keeper_;
};

}  // namespace

absl::Status InstanceOptions::Validate() const {
  if (path.empty()) return absl::InvalidArgumentError("path is empty (a folder)");
  if (level != Level::kL3 && level != Level::kDisk) {
    return absl::InvalidArgumentError(fmt::format("level is {} ({} or {})", LevelLabel(level),
                                                  LevelLabel(Level::kL3),
                                                  LevelLabel(Level::kDisk)));
  }
  MNEMO_RETURN_IF_ERROR(CheckRange<int>("durability", static_cast<int>(durability), 1, 3));
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>(
      "interval_sync_period (ns)", interval_sync_period.count(), 1'000'000, 60'000'000'000));
  MNEMO_RETURN_IF_ERROR(
      CheckRange<uint64_t>("log_retained_operations", log_retained_operations, 1, 1ull << 40));
  MNEMO_RETURN_IF_ERROR(
      CheckRange<uint64_t>("write_buffer_bytes", write_buffer_bytes, 1ull << 20, 1ull << 30));
  MNEMO_RETURN_IF_ERROR(CheckRange<uint64_t>("min_blob_bytes", min_blob_bytes, 512, 1ull << 20));
  MNEMO_RETURN_IF_ERROR(
      CheckRange<uint64_t>("blob_file_bytes", blob_file_bytes, 1ull << 20, 4ull << 30));
  return CheckRange<int>("max_open_files", max_open_files, 64, 1'000'000);
}

double InstanceStats::WriteAmplification() const {
  if (accepted_bytes == 0) return 0;
  return static_cast<double>(wal_written_bytes + table_written_bytes + blob_written_bytes) /
         static_cast<double>(accepted_bytes);
}

double InstanceStats::SpaceAmplification() const {
  if (blocks.live_bytes == 0) return 0;
  return static_cast<double>(table_bytes + blob_bytes) / static_cast<double>(blocks.live_bytes);
}

absl::StatusOr<std::unique_ptr<Instance>> Instance::Open(const InstanceOptions& options,
                                                         FileSystem& files, const Clock& clock,
                                                         TierResources& resources,
                                                         OpenReport* report) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  OpenReport ignored;
  return RocksInstance::Open(options, files, clock, resources,
                             report != nullptr ? *report : ignored);
}

}  // namespace mnemo

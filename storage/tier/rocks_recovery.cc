#include "storage/tier/rocks_recovery.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "storage/base/status_macros.h"
#include "storage/tier/manifest_mirror.h"
#include "storage/tier/rocks_salvage.h"

namespace mnemo {
namespace {

class Recoverer {
 public:
  Recoverer(const InstanceOptions& options, FileSystem& files, const Clock& clock,
            TierResources& resources, OpenReport& report)
      : options_(options), files_(files), clock_(clock), resources_(resources), report_(report) {}

  absl::StatusOr<Recovered> Run() {
    MNEMO_RETURN_IF_ERROR(CreateDirectoryDurably(files_, FilesPath()));
    MNEMO_ASSIGN_OR_RETURN(before_, DurableMark::Read(files_, MarkPath()));
    MNEMO_ASSIGN_OR_RETURN(const bool used, files_.Exists(FilesPath() + "/CURRENT"));
    report_.created = !used;
    report_.clean = used && before_.clean;
    if (used) {
      MNEMO_ASSIGN_OR_RETURN(const std::string mended, MendManifest(files_, FilesPath()));
      report_.manifest_mended = !mended.empty();
      if (report_.manifest_mended) Explain(mended);
    }
    Recovered recovered;
    MNEMO_ASSIGN_OR_RETURN(recovered.db, OpenByClass());
    const uint64_t sequence = recovered.db->LatestSequence();
    MNEMO_RETURN_IF_ERROR(Compare(sequence));
    MNEMO_ASSIGN_OR_RETURN(recovered.mark, DurableMark::Start(files_, MarkPath(), sequence));
    return recovered;
  }

 private:
  std::string FilesPath() const { return RocksDb::FilesPath(options_); }
  std::string MarkPath() const { return options_.path + "/DURABLE"; }
  std::string AsidePath() const { return options_.path + "/wal-set-aside"; }
  std::string PendingPath() const { return AsidePath() + "/pending"; }

  absl::StatusOr<std::unique_ptr<RocksDb>> Open(RocksDb::Recovery recovery) {
    return RocksDb::Open(options_, recovery, files_, clock_, resources_);
  }

  absl::StatusOr<std::unique_ptr<RocksDb>> OpenByClass() {
    switch (options_.durability) {
      case Durability::kCache:
      case Durability::kInterval:
        return Open(RocksDb::Recovery::kPointInTime);
      case Durability::kSync:
        return OpenSync();
    }
    MNEMO_CHECK(false && "a durability class that is not one of the three");
  }

  absl::StatusOr<std::unique_ptr<RocksDb>> OpenSync() {
    if (!report_.clean) MNEMO_RETURN_IF_ERROR(KeepLogs());
    absl::StatusOr<std::unique_ptr<RocksDb>> opened = Open(RocksDb::Recovery::kTolerateTail);
    if (!absl::IsDataLoss(opened.status())) return opened;
    // A log that was closed whole has decayed since.
    if (report_.clean) MNEMO_RETURN_IF_ERROR(KeepLogs());
    Explain(std::string(opened.status().message()));
    report_.wal_set_aside = true;
    return Open(RocksDb::Recovery::kPointInTime);
  }

  // Links the logs aside: RocksDB removes them once their contents are in files.
  absl::Status KeepLogs() {
    MNEMO_RETURN_IF_ERROR(CreateDirectoryDurably(files_, PendingPath()));
    MNEMO_RETURN_IF_ERROR(Empty(PendingPath()));
    MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files_.List(FilesPath()));
    for (const FileSystem::Entry& entry : entries) {
      if (!entry.name.ends_with(".log")) continue;
      MNEMO_RETURN_IF_ERROR(
          files_.Link(FilesPath() + "/" + entry.name, PendingPath() + "/" + entry.name));
    }
    return files_.SyncDirectory(PendingPath());
  }

  absl::Status Empty(const std::string& folder) {
    MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files_.List(folder));
    for (const FileSystem::Entry& entry : entries) {
      if (entry.is_directory) continue;
      MNEMO_RETURN_IF_ERROR(files_.Remove(folder + "/" + entry.name));
    }
    return files_.SyncDirectory(folder);
  }

  // Compares what is here with what was acknowledged, and keeps or drops the
  // logs that were set aside.
  absl::Status Compare(uint64_t sequence) {
    if (options_.durability != Durability::kSync) return absl::OkStatus();
    if (before_.damaged) Explain("the mark of what is durable is damaged");
    if (before_.sequence > sequence) {
      report_.writes_lost = before_.sequence - sequence;
      report_.wal_set_aside = true;
      Explain(fmt::format("the log ends at {}, {} was acknowledged", sequence, before_.sequence));
    }
    MNEMO_ASSIGN_OR_RETURN(const bool pending, files_.Exists(PendingPath()));
    if (!pending) return absl::OkStatus();
    if (report_.wal_set_aside) return Keep();
    MNEMO_RETURN_IF_ERROR(Empty(PendingPath()));
    return files_.RemoveDirectory(PendingPath());
  }

  absl::Status Keep() {
    const std::string kept = fmt::format("{}/{}", AsidePath(), clock_.Wall().nanos);
    MNEMO_RETURN_IF_ERROR(CreateDirectoryDurably(files_, kept));
    MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries,
                           files_.List(PendingPath()));
    for (const FileSystem::Entry& entry : entries) {
      MNEMO_RETURN_IF_ERROR(
          files_.Rename(PendingPath() + "/" + entry.name, kept + "/" + entry.name));
    }
    MNEMO_RETURN_IF_ERROR(files_.SyncDirectory(kept));
    Explain(fmt::format("log set aside in {}", kept));
    return files_.RemoveDirectory(PendingPath());
  }

  void Explain(const std::string& text) {
    if (!report_.detail.empty()) report_.detail += "; ";
    report_.detail += text;
  }

  const InstanceOptions& options_;
  FileSystem& files_;
  const Clock& clock_;
  TierResources& resources_;
  OpenReport& report_;
  DurableMark::State before_;
};

}  // namespace

std::string SweepPath(const InstanceOptions& options) { return options.path + "/SWEEP"; }

absl::Status DropTables(const InstanceOptions& options, FileSystem& files, const Clock& clock,
                        TierResources& resources, OpenReport& report) {
  // First, so that a process that dies in between has not forgotten it.
  MNEMO_RETURN_IF_ERROR(ReplaceFile(files, SweepPath(options), AsBytes("sweep")));
  const absl::StatusOr<std::vector<std::string>> dropped =
      DropDamagedTables(options, files, clock, resources);
  // Whoever asked knows already that something is damaged, and what to do then.
  if (absl::IsDataLoss(dropped.status())) return absl::OkStatus();
  MNEMO_RETURN_IF_ERROR(dropped.status());
  if (dropped->empty()) return files.Remove(SweepPath(options));
  report.tables_dropped += dropped->size();
  if (!report.detail.empty()) report.detail += "; ";
  report.detail += "damaged tables dropped:";
  for (const std::string& name : *dropped) report.detail += " " + name;
  return absl::OkStatus();
}

absl::Status EmptyInstance(const InstanceOptions& options, FileSystem& files) {
  const std::string folder = RocksDb::FilesPath(options);
  MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files.List(folder));
  for (const FileSystem::Entry& entry : entries) {
    if (entry.is_directory) continue;
    MNEMO_RETURN_IF_ERROR(files.Remove(folder + "/" + entry.name));
  }
  return files.SyncDirectory(folder);
}

absl::Status ExplainRepair(const InstanceOptions& options, const absl::Status& status) {
  if (!absl::IsDataLoss(status) || absl::StrContains(status.message(), "repair:")) return status;
  return absl::DataLossError(
      fmt::format("{}; repair: restore {} from a snapshot, or move it away to start empty",
                  std::string(status.message()), options.path));
}

absl::StatusOr<Recovered> RecoverInstance(const InstanceOptions& options, FileSystem& files,
                                          const Clock& clock, TierResources& resources,
                                          OpenReport& report) {
  return Recoverer(options, files, clock, resources, report).Run();
}

}  // namespace mnemo

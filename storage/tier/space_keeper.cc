#include "storage/tier/space_keeper.h"

#include <rocksdb/metadata.h>

#include <algorithm>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

// The bound is 30 % over live bytes. Collecting starts below it, as it needs
// room itself, and stops lower, so that it does not start again at once.
constexpr uint64_t kStartPercent = 22;
constexpr uint64_t kStopPercent = 18;
// Where writers begin to wait for a collection.
constexpr uint64_t kPacePercent = 26;
constexpr Nanos kPatience = std::chrono::milliseconds(200);
// What a step copies before room comes back, and at least so much.
constexpr uint64_t kStepPercent = 4;
constexpr uint64_t kLeastStep = 32ull << 20;

uint64_t Percent(uint64_t of, uint64_t percent) { return of / 100 * percent; }

}  // namespace

SpaceKeeper::Files SpaceKeeper::Measure(const RocksDb::Session& session) {
  Files files;
  for (rocksdb::ColumnFamilyHandle* family : {session.metadata(), session.payloads()}) {
    files.bytes += session.Property(family, "rocksdb.total-sst-files-size");
    files.bytes += session.Property(family, "rocksdb.total-blob-file-size");
  }
  files.known_garbage = session.Property(session.payloads(), "rocksdb.live-blob-file-garbage-size");
  return files;
}

double SpaceKeeper::ShareHolding(const RocksDb::Session& session, uint64_t garbage, uint64_t most,
                                 uint64_t& bytes) {
  rocksdb::ColumnFamilyMetaData metadata;
  session.db().GetColumnFamilyMetaData(session.payloads(), &metadata);
  std::vector<rocksdb::BlobMetaData>& files = metadata.blob_files;
  bytes = 0;
  if (files.empty()) return 0;
  std::sort(files.begin(), files.end(),
            [](const rocksdb::BlobMetaData& a, const rocksdb::BlobMetaData& b) {
              return a.blob_file_number < b.blob_file_number;
            });
  uint64_t held = 0;
  size_t count = 0;
  while (count < files.size() && held < garbage &&
         (count == 0 || bytes + files[count].blob_file_size <= most)) {
    held += files[count].garbage_blob_bytes;
    bytes += files[count++].blob_file_size;
  }
  // RocksDB takes the files below share * size, rounded down: aim between.
  return std::min(1.0, (static_cast<double>(count) + 0.5) / static_cast<double>(files.size()));
}

absl::Status SpaceKeeper::CompactKeys(const RocksDb::Session& session) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kDisable;
  for (rocksdb::ColumnFamilyHandle* family : {session.metadata(), session.payloads()}) {
    MNEMO_RETURN_IF_ERROR(
        FromRocks(session.db().CompactRange(options, family, nullptr, nullptr), "compact"));
  }
  return absl::OkStatus();
}

absl::Status SpaceKeeper::Rewrite(const RocksDb::Session& session, double share) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  options.blob_garbage_collection_age_cutoff = share;
  return FromRocks(session.db().CompactRange(options, session.payloads(), nullptr, nullptr),
                   "collect");
}

uint64_t SpaceKeeper::Allowed(uint64_t percent) const {
  const uint64_t live = live_bytes_();
  return live + Percent(live, percent);
}

absl::Status SpaceKeeper::Maintain() {
  if (!mutex_.TryLock()) return absl::OkStatus();
  const absl::Status status = MaintainLocked();
  mutex_.Unlock();
  return status;
}

absl::Status SpaceKeeper::MaintainLocked() {
  {
    MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, db_.Acquire());
    const uint64_t bytes = Measure(session).bytes;
    if (bytes <= Allowed(kStartPercent) + blob_file_bytes_) {
      behind_ = false;
      return absl::OkStatus();
    }
  }
  collecting_ = true;
  // Old files may be all alive: those behind them are reached after at most one
  // round through everything.
  uint64_t rewritten = 0;
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more && rewritten <= live_bytes_()) {
    more = CollectSome(rewritten);
    TellProgress();
  }
  collecting_ = false;
  TellProgress();
  return more.status();
}

absl::StatusOr<bool> SpaceKeeper::CollectSome(uint64_t& rewritten) {
  // Anew for every step, so that whoever has to reopen the files gets his turn.
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, db_.Acquire());
  Files files = Measure(session);
  if (files.bytes <= Allowed(kStopPercent)) return false;
  // Holes that RocksDB knows already need no other look at the keys.
  if (files.bytes - std::min(files.bytes, files.known_garbage) > Allowed(kStopPercent)) {
    MNEMO_RETURN_IF_ERROR(CompactKeys(session));
    files = Measure(session);
  }
  const uint64_t stop = Allowed(kStopPercent);
  if (files.bytes <= stop || files.known_garbage == 0) return false;
  uint64_t bytes = 0;
  const double share =
      ShareHolding(session, std::min(files.bytes - stop, files.known_garbage),
                   std::max(kLeastStep, Percent(live_bytes_(), kStepPercent)), bytes);
  if (share == 0) return false;
  rewritten += bytes;
  MNEMO_RETURN_IF_ERROR(Rewrite(session, share));
  return true;
}

void SpaceKeeper::TellProgress() {
  MutexLock lock(progress_mutex_);
  progress_.SignalAll();
}

void SpaceKeeper::Pace(uint64_t bytes) {
  const uint64_t since = written_since_look_.fetch_add(bytes) + bytes;
  if (since >= blob_file_bytes_ || behind_) {
    written_since_look_ = 0;
    const absl::StatusOr<RocksDb::Session> session = db_.Acquire();
    if (!session.ok()) return;  // the write finds out why
    behind_ = Measure(*session).bytes > Allowed(kPacePercent) + blob_file_bytes_;
  }
  if (!behind_ || !collecting_) return;
  MutexLock lock(progress_mutex_);
  progress_.WaitFor(progress_mutex_, kPatience);
}

absl::Status SpaceKeeper::CollectAll() {
  MutexLock lock(mutex_);
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, db_.Acquire());
  MNEMO_RETURN_IF_ERROR(CompactKeys(session));
  MNEMO_RETURN_IF_ERROR(Rewrite(session, 1.0));
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  for (rocksdb::ColumnFamilyHandle* family : {session.state(), session.log()}) {
    MNEMO_RETURN_IF_ERROR(
        FromRocks(session.db().CompactRange(options, family, nullptr, nullptr), "compact"));
  }
  return absl::OkStatus();
}

}  // namespace mnemo

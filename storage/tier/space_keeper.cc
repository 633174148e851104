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

uint64_t Percent(uint64_t of, uint64_t percent) { return of / 100 * percent; }

}  // namespace

SpaceKeeper::Files SpaceKeeper::Measure(const RocksDb::Session& session) {
  Files files;
  for (rocksdb::ColumnFamilyHandle* family : {session.metadata(), session.payloads()}) {
    files.bytes += session.Property(family, "rocksdb.total-sst-files-size");
    files.bytes += session.Property(family, "rocksdb.total-blob-file-size");
  }
  files.blob_files = session.Property(session.payloads(), "rocksdb.num-blob-files");
  files.known_garbage = session.Property(session.payloads(), "rocksdb.live-blob-file-garbage-size");
  return files;
}

double SpaceKeeper::ShareHolding(const RocksDb::Session& session, uint64_t bytes) {
  rocksdb::ColumnFamilyMetaData metadata;
  session.db().GetColumnFamilyMetaData(session.payloads(), &metadata);
  std::vector<rocksdb::BlobMetaData>& files = metadata.blob_files;
  if (files.empty()) return 0;
  std::sort(files.begin(), files.end(),
            [](const rocksdb::BlobMetaData& a, const rocksdb::BlobMetaData& b) {
              return a.blob_file_number < b.blob_file_number;
            });
  uint64_t held = 0;
  size_t count = 0;
  while (count < files.size() && held < bytes) held += files[count++].garbage_blob_bytes;
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
  return FromRocks(session.db().CompactRange(options, session.payloads(), nullptr, nullptr), "collect");
}

absl::Status SpaceKeeper::Maintain(uint64_t live_bytes, uint64_t blob_file_bytes) {
  if (!mutex_.TryLock()) return absl::OkStatus();
  const absl::Status status = MaintainLocked(live_bytes, blob_file_bytes);
  mutex_.Unlock();
  return status;
}

absl::Status SpaceKeeper::MaintainLocked(uint64_t live_bytes, uint64_t blob_file_bytes) {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, db_.Acquire());
  const uint64_t slack = blob_file_bytes;
  const uint64_t start = live_bytes + Percent(live_bytes, kStartPercent) + slack;
  const uint64_t stop = live_bytes + Percent(live_bytes, kStopPercent);
  Files files = Measure(session);
  if (files.bytes <= start) return absl::OkStatus();
  // Holes that RocksDB knows already need no other look at the keys.
  if (files.bytes - std::min(files.bytes, files.known_garbage) > stop) {
    MNEMO_RETURN_IF_ERROR(CompactKeys(session));
    files = Measure(session);
  }
  if (files.bytes <= stop) return absl::OkStatus();
  const double share = ShareHolding(session, std::min(files.bytes - stop, files.known_garbage));
  return share > 0 && files.known_garbage > 0 ? Rewrite(session, share) : absl::OkStatus();
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

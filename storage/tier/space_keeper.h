// Gives back the space of erased and replaced blocks.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "storage/base/mutex.h"
#include "storage/tier/rocks_db.h"

namespace mnemo {

// Thread-safe; one collection runs at a time.
//
// Blob files are append-only: an erased value leaves a hole, which RocksDB
// knows only once a compaction met the tombstone. So first the keys alone are
// compacted (cheap: a key and a pointer each), which also drops files that are
// all holes; then, if holes remain above the bound, the oldest files are
// rewritten, as many as it takes. docs/decisions/0051-space-and-write-amplification.md.
class SpaceKeeper {
 public:
  explicit SpaceKeeper(RocksDb& db) : db_(db) {}

  // Collects when more than kStartPercent of `live_bytes`, and a blob file or
  // two beside, is dead. Returns at once if another collection runs.
  absl::Status Maintain(uint64_t live_bytes, uint64_t blob_file_bytes);
  // Collects everything there is.
  absl::Status CollectAll();

 private:
  struct Files {
    uint64_t bytes = 0;          // all tables and blob files of blocks
    uint64_t blob_files = 0;
    uint64_t known_garbage = 0;  // in blob files, as far as compaction knows
  };
  static Files Measure(const RocksDb::Session& session);
  // How large a share of the blob files, oldest first, must be rewritten to be
  // rid of `bytes` of known garbage.
  static double ShareHolding(const RocksDb::Session& session, uint64_t bytes);
  absl::Status MaintainLocked(uint64_t live_bytes, uint64_t blob_file_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static absl::Status CompactKeys(const RocksDb::Session& session);
  static absl::Status Rewrite(const RocksDb::Session& session, double share);

  RocksDb& db_;
  Mutex mutex_;
};

}  // namespace mnemo

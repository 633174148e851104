// Gives back the space of erased and replaced blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/mutex.h"
#include "storage/tier/rocks_db.h"

namespace mnemo {

// Thread-safe; one collection runs at a time.
//
// Blob files are append-only: an erased value leaves a hole, which RocksDB
// knows only once a compaction met the tombstone. So first the keys alone are
// compacted (cheap: a key and a pointer each), which also drops files that are
// all holes; then, if holes remain above the bound, the oldest files are
// rewritten, a few at a time: RocksDB removes them only when all are copied, so
// that a step takes as much room as it copies, until it ends. Writers that are
// faster than that are slowed down by Pace.
// docs/decisions/0051-space-and-write-amplification.md.
class SpaceKeeper {
 public:
  // `live_bytes` answers what the values take; it and `db` outlive this.
  SpaceKeeper(RocksDb& db, uint64_t blob_file_bytes, std::function<uint64_t()> live_bytes)
      : db_(db), blob_file_bytes_(blob_file_bytes), live_bytes_(std::move(live_bytes)) {}

  // Collects when more than kStartPercent of the live bytes, and a blob file
  // beside, is dead. Returns at once if another collection runs.
  absl::Status Maintain();
  // Collects everything there is.
  absl::Status CollectAll();

  // Before `bytes` are written: waits, at most kPatience, while a collection
  // runs and is behind.
  void Pace(uint64_t bytes);

 private:
  struct Files {
    uint64_t bytes = 0;          // all tables and blob files of blocks
    uint64_t known_garbage = 0;  // in blob files, as far as compaction knows
  };
  static Files Measure(const RocksDb::Session& session);
  // How large a share of the blob files, oldest first, must be rewritten to be
  // rid of `garbage` bytes of what is known, reading at most `most` bytes, but
  // at least one file. `bytes`: what they have.
  static double ShareHolding(const RocksDb::Session& session, uint64_t garbage, uint64_t most,
                             uint64_t& bytes);
  absl::Status MaintainLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One step. False: nothing more to gain. `rewritten` grows by what was copied.
  absl::StatusOr<bool> CollectSome(uint64_t& rewritten) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static absl::Status CompactKeys(const RocksDb::Session& session);
  static absl::Status Rewrite(const RocksDb::Session& session, double share);
  uint64_t Allowed(uint64_t percent) const;
  void TellProgress();

  RocksDb& db_;
  const uint64_t blob_file_bytes_;
  const std::function<uint64_t()> live_bytes_;
  Mutex mutex_;  // held through a collection

  std::atomic<bool> collecting_{false};
  std::atomic<bool> behind_{false};
  std::atomic<uint64_t> written_since_look_{0};
  Mutex progress_mutex_;  // innermost
  CondVar progress_;
};

}  // namespace mnemo

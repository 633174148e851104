// One RocksDB per level and durability class, with RocksDB hidden.
//
// An instance holds, in one atomic unit: ordered state, the operation log,
// block metadata and block payloads. A block's payload, metadata and log
// entry are one write, so that none is ever seen without the others.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/tier/block_level.h"
#include "storage/tier/store.h"
#include "storage/tier/tier_resources.h"

namespace mnemo {

struct InstanceOptions {
  // Behaviour.
  std::string path;          // a folder of its own; made, durably, if absent
  Level level = Level::kL3;  // kL3 or kDisk
  Durability durability = Durability::kCache;
  // kInterval: the longest time from a write to its sync. 1 ms to 60 s.
  Nanos interval_sync_period = std::chrono::milliseconds(50);
  // kCache: a put survives the death of the process, not only a close in order.
  // Without, what was put since the last flush (at most two write buffers) is
  // lost then, and every put is written to disk once instead of twice.
  bool wal_for_cache_puts = false;
  // Block puts are refused with kResourceExhausted when the instance would hold
  // more live bytes (0: no bound), or when the file system has less than
  // `reserve_bytes` free; the reserve lets compaction, deletion and small state
  // go on. Puts are taken again when a quarter more than the reserve is free.
  uint64_t capacity_bytes = 0;
  uint64_t reserve_bytes = 256ull << 20;
  // MaintainSpace keeps at least so many of the newest operations of a shard.
  uint64_t log_retained_operations = 1024;
  uint64_t epoch = 1;  // of the operations that blocks() logs

  // Speed.
  uint64_t write_buffer_bytes = 64ull << 20;  // 1 MiB to 1 GiB; what a restart replays
  // Values from this size on lie in blob files, where compaction does not
  // rewrite them. 512 bytes to 1 MiB.
  uint64_t min_blob_bytes = 2048;
  uint64_t blob_file_bytes = 64ull << 20;  // 1 MiB to 4 GiB; the unit of reclaiming space
  bool direct_reads = false;               // O_DIRECT, so that the page cache holds nothing
  int max_open_files = 512;                // 64 to 1,000,000

  // Observers, called from any thread; must not call into the instance.
  enum class Severity { kInfo, kWarning, kError };
  std::function<void(Nanos duration)> on_wal_sync;
  std::function<void(Severity, std::string_view message)> on_message;

  // Errors: kInvalidArgument naming field and range.
  absl::Status Validate() const;
};

// What opening found. Anything but `clean` is worth a line in the log; with
// `data_at_risk()` the owner must be told.
struct OpenReport {
  bool created = false;  // there was nothing before
  bool clean = false;    // the last process closed it
  // kSync only: the write-ahead log is damaged, or ends before what was
  // acknowledged. Its files are kept in `<path>/wal-set-aside`, and what came
  // before the damage is open.
  bool wal_set_aside = false;
  // kSync only: acknowledged writes that are not here, counted in changed keys
  // (a block put is three). Exact after a process died; after a power loss the
  // last 256 acknowledgements may be missing from the count.
  uint64_t writes_lost = 0;
  // kCache only: the files were unreadable and the instance started empty.
  bool reset_after_damage = false;
  // kCache and kInterval only: tables that could not be read and were taken out.
  // Blocks that they named are misses.
  uint64_t tables_dropped = 0;
  // The manifest had decayed, and its second copy had not: nothing is lost.
  bool manifest_mended = false;
  uint64_t blocks = 0;
  uint64_t damaged_metadata = 0;  // entries that do not decode; their blocks are misses
  std::string detail;             // one line for a person

  bool data_at_risk() const {
    return wal_set_aside || writes_lost > 0 || reset_after_damage || tables_dropped > 0 ||
           damaged_metadata > 0;
  }
};

struct InstanceStats {
  LevelStats blocks;
  // Physical, now.
  uint64_t table_bytes = 0;
  uint64_t blob_bytes = 0;
  uint64_t blob_garbage_bytes = 0;  // known so far: what compaction has already seen
  uint64_t write_buffer_bytes = 0;
  uint64_t wal_bytes = 0;
  // Since open. Write amplification is (wal + table + blob) / accepted.
  uint64_t accepted_bytes = 0;  // keys and values taken by blocks() and store()
  uint64_t wal_written_bytes = 0;
  uint64_t table_written_bytes = 0;
  uint64_t blob_written_bytes = 0;
  uint64_t wal_syncs = 0;
  uint64_t resumes = 0;         // recoveries from an I/O error or a full disk
  uint64_t damaged_erased = 0;  // blocks that background work found damaged
  uint64_t orphans_erased = 0;  // payloads whose metadata went with a damaged table
  uint64_t mark_failures = 0;   // kSync: the second record of what is durable was not written
  // Ok, or why writes are refused while reads go on.
  absl::Status writable;

  double WriteAmplification() const;
  // Bytes on disk for each byte of live values; 0 without any.
  double SpaceAmplification() const;
};

// The blocks of an instance. Put refuses a block that asks for more durability
// than the instance gives: kInvalidArgument. In a kCache instance a put is not
// logged, and lies in a write buffer alone until Sync, Flush or Close;
// everything else is always logged. UpdateMetadata there writes the payload
// again.
class DurableLevel : public BlockLevel {
 public:
  // Erases every value of `shard` whose key starts with `prefix`, atomically
  // and as one logged operation (kDeleteSpace, key = prefix): a space, or a
  // space and salt. Returns how many there were. The room returns with later
  // compactions. Errors: kInvalidArgument (a prefix outside the shard or
  // shorter than StoredKey::kPrefixSize), and those of Put.
  virtual absl::StatusOr<uint64_t> ErasePrefix(uint16_t shard, std::string_view prefix) = 0;
};

// Thread-safe, but for Close.
//
// When a write fails on an I/O error or a full disk, the instance takes no
// writes (kUnavailable or kResourceExhausted) while reads go on. MaintainSpace
// recovers: when enough space is free and a small file can be written, it
// closes the files and opens them again. Reads wait for that; it needs every
// StoreSnapshot and every running Scan or ForEach to end within 2 s, or is
// tried again by the next call. What a kCache or kInterval instance had
// accepted and not yet synced may be lost then, as by a restart.
//
// Background work that meets a damaged file stops writes as well. MaintainSpace
// then, at most every 10 minutes, opens anew, reads every payload, and erases
// the blocks that are damaged: they are misses from then on.
class Instance {
 public:
  // Borrows `files`, `clock` and `resources`. `report` may be null.
  // Errors: kInvalidArgument (options), kUnavailable (another process has it),
  // kResourceExhausted (no space), kDataLoss (files so damaged that nothing
  // can be promised; the message names the repair), kFailedPrecondition (a
  // format that this version does not know).
  static absl::StatusOr<std::unique_ptr<Instance>> Open(const InstanceOptions& options,
                                                        FileSystem& files, const Clock& clock,
                                                        TierResources& resources,
                                                        OpenReport* report);
  virtual ~Instance() = default;  // closes, ignoring errors

  virtual Store& store() = 0;
  virtual DurableLevel& blocks() = 0;

  // Cheap when there is nothing to do. Trims the log, gives space of erased
  // blocks back when it exceeds its bound, and recovers from a full disk.
  // Call it every second or so while there is traffic.
  virtual absl::Status MaintainSpace() = 0;
  // Gives back all space of erased values. May rewrite everything.
  virtual absl::Status Compact() = 0;
  // Moves write buffers into files: what a restart would replay.
  virtual absl::Status Flush() = 0;
  // Reads everything once and compares checksums. Errors: kDataLoss naming
  // the file.
  virtual absl::Status VerifyFiles() = 0;

  virtual InstanceStats Stats() const = 0;

  // Puts everything on stable storage and closes. No other call may be running or
  // follow, and snapshots are gone before; pinned bytes stay valid. Idempotent.
  virtual absl::Status Close() = 0;
};

}  // namespace mnemo

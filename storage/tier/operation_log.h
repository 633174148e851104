// The operation log of an instance: numbers, writes, reads and trims it.
#pragma once

#include <rocksdb/write_batch.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/mutex.h"
#include "storage/tier/durable_writer.h"
#include "storage/tier/store.h"

namespace mnemo {

// docs/formats/operation-log.md. Decode takes the sequence and shard from the
// key. Errors: kDataLoss.
std::string EncodeLogKey(uint16_t shard, uint64_t sequence);
std::string EncodeLogValue(const Operation& operation);
absl::StatusOr<Operation> DecodeLogEntry(std::string_view key, std::string_view value);

// Thread-safe. Sequences have no gaps even when a power loss cuts the
// write-ahead log: a shard's mutex is held from giving a number until RocksDB
// has the batch, so the order of numbers is the order in its log. The price is
// that writes of one shard do not share a sync; 256 shards, spread by a hash,
// do.
class OperationLog {
 public:
  // Errors: kDataLoss.
  static absl::StatusOr<std::unique_ptr<OperationLog>> Open(DurableWriter& writer);

  // No turn is taken while one of these lives; it waits for those that are.
  class Pause {
   public:
    explicit Pause(OperationLog& log);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

    // Reads the last sequences anew. Errors: kDataLoss.
    absl::Status Reload() { return log_.Reload(); }

   private:
    OperationLog& log_;
  };

  // Exclusive right to write in some shards, until destroyed. Take one at a
  // time: they lock in ascending order of shards.
  class Turn {
   public:
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    // Adds `operation` to `batch` under the next sequence of its shard, which
    // is one of this turn's.
    void Append(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                const Operation& operation);
    // Writes `batch`. On an error the sequences are given again. Once.
    // A batch with an operation in it is logged: a sequence that is lost before
    // a later one would leave a gap.
    absl::Status Write(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                       RocksDb::Logging logging);

   private:
    friend class OperationLog;
    Turn(OperationLog& log, std::vector<uint16_t> shards);
    OperationLog& log_;
    const std::vector<uint16_t> shards_;  // ascending, without repeats
    std::vector<uint64_t> given_;         // the last given in each
    bool appended_ = false;
  };
  // Errors: kUnavailable (paused).
  absl::StatusOr<std::unique_ptr<Turn>> Take(std::vector<uint16_t> shards);

  uint64_t LastSequence(uint16_t shard) const { return shards_[shard].last; }
  // As Store's.
  absl::Status Read(uint16_t shard, uint64_t first_sequence,
                    const std::function<bool(const Operation&)>& visit) const;
  // Errors: kOutOfRange (beyond the last sequence + 1).
  absl::Status Trim(uint16_t shard, uint64_t first_kept);
  // Trims shards that keep more than twice `retained` to `retained`.
  absl::Status TrimAll(uint64_t retained);
  // Drops what is kept and goes on far beyond every sequence that may have been
  // given: for a log that has holes. While nobody else writes.
  absl::Status Restart();

 private:
  struct alignas(64) Shard {
    Mutex mutex;
    // Written under `mutex`, read by anyone.
    std::atomic<uint64_t> last{0};
    std::atomic<uint64_t> first_kept{1};
  };

  explicit OperationLog(DurableWriter& writer) : writer_(writer) {}
  absl::Status Reload();
  absl::Status Reload(const RocksDb::Session& session, uint16_t shard);
  void EndTurn();

  DurableWriter& writer_;
  std::array<Shard, kShardCount> shards_;
  // Before the shards'.
  Mutex turns_mutex_;
  CondVar turns_ended_;
  uint64_t turns_ ABSL_GUARDED_BY(turns_mutex_) = 0;
  bool paused_ ABSL_GUARDED_BY(turns_mutex_) = false;
};

}  // namespace mnemo

// The ordered store: small state with atomic batches, read snapshots, and an
// operation log written in the same batch.
//
// Every change of state but a cache put appends an operation (shard, epoch,
// sequence) in its batch. Exactly-once append, replication, moving a shard,
// snapshots and audit stand on that log, so a batch without an operation is
// refused.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// On disk: never renumber.
enum class OperationKind : uint8_t {
  kPutBlock = 1,
  kDeleteBlock = 2,
  kUpdateBlock = 3,
  kPutSpace = 4,
  kDeleteSpace = 5,
  kPin = 6,
  kUnpin = 7,
  kPutContext = 8,
  kDeleteContext = 9,
  kClaimContext = 10,
  kAppendTokens = 11,
  kSealContext = 12,
  kPutLink = 13,
  kPutSummaries = 14,
  kMoveChunks = 15,
  kPutSegment = 16,
  kEraseContext = 17,  // some of what a deleted context left
  kPutCalibration = 18,
};

// One entry of the log of a shard. Sequences start at 1 and have no gaps.
struct Operation {
  uint16_t shard = 0;
  uint64_t epoch = 0;
  uint64_t sequence = 0;  // given by the store when the batch is applied
  OperationKind kind = OperationKind::kPutBlock;
  std::string key;      // the stored key it is about
  std::string payload;  // by kind; docs/formats/operation-log.md
};

// Changes that happen together or not at all. Not thread-safe.
class StoreBatch {
 public:
  struct Write {
    StoredKey key;
    std::optional<std::string> value;  // none: delete
  };
  void Put(StoredKey key, std::string value) {
    writes_.push_back({std::move(key), std::move(value)});
  }
  void Delete(StoredKey key) { writes_.push_back({std::move(key), std::nullopt}); }
  // `operation.sequence` is ignored.
  void Log(Operation operation) { operations_.push_back(std::move(operation)); }

  const std::vector<Write>& writes() const { return writes_; }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  std::vector<Write> writes_;
  std::vector<Operation> operations_;
};

// A read view as of one moment. Thread-safe.
class StoreSnapshot {
 public:
  virtual ~StoreSnapshot() = default;
};

// Thread-safe. Errors of every call: kDataLoss (a damaged file), kUnavailable
// (stopped after an I/O error), kResourceExhausted (the disk is full).
class Store {
 public:
  virtual ~Store() = default;

  // Applies the batch atomically; with `sync`, on return it is on stable
  // storage. Errors: kInvalidArgument (no operation in the batch).
  virtual absl::Status Apply(const StoreBatch& batch, bool sync) = 0;

  // Errors: kNotFound.
  virtual absl::StatusOr<std::string> Get(const StoredKey& key,
                                          const StoreSnapshot* snapshot = nullptr) const = 0;

  // Visits [begin, end) in order until `visit` returns false; an empty `end`
  // means to the last key.
  virtual absl::Status Scan(std::string_view begin, std::string_view end,
                            const std::function<bool(const StoredKey&, std::string_view)>& visit,
                            const StoreSnapshot* snapshot = nullptr) const = 0;

  virtual std::unique_ptr<StoreSnapshot> Snapshot() const = 0;

  // Visits the log of `shard` from `first_sequence` on, until `visit` returns
  // false. Errors: kOutOfRange (already trimmed; the first kept is named).
  virtual absl::Status ReadLog(uint16_t shard, uint64_t first_sequence,
                               const std::function<bool(const Operation&)>& visit) const = 0;
  // The last sequence given in `shard`; 0 if none.
  virtual uint64_t LastSequence(uint16_t shard) const = 0;
  // Forgets operations before `first_kept`.
  virtual absl::Status TrimLog(uint16_t shard, uint64_t first_kept) = 0;

  // Makes everything applied so far durable.
  virtual absl::Status Sync() = 0;

  // OK, or why writes are refused since an I/O error. Until they are accepted
  // again, what is read may be more than what is durable, refused changes among
  // it: who acknowledges on the strength of a read asks here after it.
  virtual absl::Status Writable() const = 0;
};

}  // namespace mnemo

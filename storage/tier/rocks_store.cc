#include "storage/tier/rocks_store.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

rocksdb::Slice AsSlice(std::string_view text) { return {text.data(), text.size()}; }

// Without a session when the instance was not open: then no read is served
// either.
class RocksSnapshot final : public StoreSnapshot {
 public:
  explicit RocksSnapshot(absl::StatusOr<RocksDb::Session> session)
      : session_(std::move(session)),
        snapshot_(session_.ok() ? session_->db().GetSnapshot() : nullptr) {}
  ~RocksSnapshot() override {
    if (session_.ok()) session_->db().ReleaseSnapshot(snapshot_);
  }
  const rocksdb::Snapshot* get() const { return snapshot_; }

 private:
  const absl::StatusOr<RocksDb::Session> session_;
  const rocksdb::Snapshot* const snapshot_;
};

rocksdb::ReadOptions ReadAt(const StoreSnapshot* snapshot) {
  rocksdb::ReadOptions options;
  if (snapshot != nullptr) options.snapshot = static_cast<const RocksSnapshot*>(snapshot)->get();
  return options;
}

absl::Status CheckShard(uint16_t shard) {
  if (shard < kShardCount) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("shard is {} (0 to {})", shard, kShardCount - 1));
}

absl::Status CheckBatch(const StoreBatch& batch) {
  if (batch.operations().empty()) {
    return absl::InvalidArgumentError("operations: 0 in the batch (at least 1)");
  }
  for (const Operation& operation : batch.operations()) {
    MNEMO_RETURN_IF_ERROR(CheckShard(operation.shard));
    if (operation.key.size() > UINT16_MAX) {
      return absl::InvalidArgumentError(
          fmt::format("operation key of {} bytes (0 to {})", operation.key.size(), UINT16_MAX));
    }
  }
  for (const StoreBatch::Write& write : batch.writes()) {
    if (!write.key.valid()) {
      return absl::InvalidArgumentError("key: not a stored key (storage/tier/stored_key.h)");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RocksStore::Apply(const StoreBatch& batch, bool sync) {
  MNEMO_RETURN_IF_ERROR(CheckBatch(batch));
  std::vector<uint16_t> shards;
  for (const Operation& operation : batch.operations()) shards.push_back(operation.shard);
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  rocksdb::WriteBatch writes;
  for (const StoreBatch::Write& write : batch.writes()) {
    const rocksdb::Slice key = AsSlice(write.key.bytes());
    const rocksdb::Status added = write.value.has_value()
                                      ? writes.Put(session.state(), key, AsSlice(*write.value))
                                      : writes.Delete(session.state(), key);
    MNEMO_RETURN_IF_ERROR(FromRocks(added, "batch"));
  }
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn,
                         log_.Take(std::move(shards)));
  for (const Operation& operation : batch.operations()) turn->Append(session, writes, operation);
  return turn->Write(session, writes,
                     sync ? RocksDb::Logging::kSynced : RocksDb::Logging::kWrite);
}

absl::StatusOr<std::string> RocksStore::Get(const StoredKey& key,
                                            const StoreSnapshot* snapshot) const {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  std::string value;
  MNEMO_RETURN_IF_ERROR(FromRocks(
      session.db().Get(ReadAt(snapshot), session.state(), AsSlice(key.bytes()), &value), "state"));
  return value;
}

absl::Status RocksStore::Scan(
    std::string_view begin, std::string_view end,
    const std::function<bool(const StoredKey&, std::string_view)>& visit,
    const StoreSnapshot* snapshot) const {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  rocksdb::ReadOptions options = ReadAt(snapshot);
  const rocksdb::Slice upper = AsSlice(end);
  if (!end.empty()) options.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> it(session.db().NewIterator(options, session.state()));
  for (it->Seek(AsSlice(begin)); it->Valid(); it->Next()) {
    const StoredKey key = StoredKey::FromBytes(it->key().ToString());
    if (!key.valid()) return absl::DataLossError("state: an entry without a stored key");
    if (!visit(key, {it->value().data(), it->value().size()})) return absl::OkStatus();
  }
  return FromRocks(it->status(), "state");
}

std::unique_ptr<StoreSnapshot> RocksStore::Snapshot() const {
  return std::make_unique<RocksSnapshot>(writer_.db().Acquire());
}

absl::Status RocksStore::ReadLog(uint16_t shard, uint64_t first_sequence,
                                 const std::function<bool(const Operation&)>& visit) const {
  MNEMO_RETURN_IF_ERROR(CheckShard(shard));
  return log_.Read(shard, first_sequence, visit);
}

uint64_t RocksStore::LastSequence(uint16_t shard) const {
  return shard < kShardCount ? log_.LastSequence(shard) : 0;
}

absl::Status RocksStore::TrimLog(uint16_t shard, uint64_t first_kept) {
  MNEMO_RETURN_IF_ERROR(CheckShard(shard));
  return log_.Trim(shard, first_kept);
}

}  // namespace mnemo

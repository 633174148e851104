#include "storage/tier/rocks_level.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

constexpr size_t kMaxParent = 64;
// RocksDB keeps lengths of keys and values in 32 bits.
constexpr uint64_t kMaxEnvelope = 1ull << 30;
constexpr size_t kScanReadahead = 2u << 20;

rocksdb::Slice AsSlice(std::string_view text) { return {text.data(), text.size()}; }
ByteView AsBytes(const rocksdb::Slice& slice) {
  return {reinterpret_cast<const uint8_t*>(slice.data()), slice.size()};
}

absl::Status CheckKey(const StoredKey& key) {
  if (key.valid()) return absl::OkStatus();
  return absl::InvalidArgumentError("key: not a stored key (storage/tier/stored_key.h)");
}

}  // namespace

RocksLevel::RocksLevel(DurableWriter& writer, OperationLog& log, SpaceKeeper& keeper,
                       const InstanceOptions& options)
    : writer_(writer),
      log_(log),
      keeper_(keeper),
      durability_(options.durability),
      epoch_(options.epoch),
      capacity_bytes_(options.capacity_bytes),
      wal_for_cache_puts_(options.wal_for_cache_puts) {}

absl::StatusOr<uint64_t> RocksLevel::Load() {
  const auto visit = [](const StoredKey&, const BlockMetadata&) { return true; };
  MNEMO_ASSIGN_OR_RETURN(const Scanned scanned, ScanMetadata("", "", visit));
  values_ = scanned.values;
  live_bytes_ = scanned.bytes;
  return scanned.damaged;
}

absl::StatusOr<uint64_t> RocksLevel::EraseDamaged() {
  std::vector<StoredKey> damaged;
  const auto visit = [&](const StoredKey& key, const BlockMetadata&) {
    const absl::Status got = Get(key, {}).status();
    if (absl::IsDataLoss(got) || absl::IsNotFound(got)) damaged.push_back(key);
    return true;
  };
  MNEMO_RETURN_IF_ERROR(ScanMetadata("", "", visit).status());
  uint64_t erased = 0;
  for (const StoredKey& key : damaged) {
    // One that was erased or put anew since is looked at again.
    const absl::Status got = Get(key, {}).status();
    if (!absl::IsDataLoss(got) && !absl::IsNotFound(got)) continue;
    MNEMO_RETURN_IF_ERROR(Erase(key, {}));
    ++erased;
  }
  return erased;
}

absl::StatusOr<uint64_t> RocksLevel::EraseOrphans() {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  uint64_t erased = 0;
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    std::string from;
    std::string to;
    AppendBig<uint16_t>(from, shard);
    AppendBig<uint16_t>(to, shard + 1);
    const rocksdb::Slice upper = AsSlice(to);
    options.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> it(
        session.db().NewIterator(options, session.payloads()));
    for (it->Seek(AsSlice(from)); it->Valid(); it->Next()) {
      const StoredKey key = StoredKey::FromBytes(it->key().ToString());
      if (!key.valid()) continue;
      MNEMO_ASSIGN_OR_RETURN(const bool was_orphan, EraseOrphan(session, key));
      if (was_orphan) ++erased;
    }
    // A damaged payload ends the look at its shard; it is met when it is read.
    if (!it->status().ok() && !it->status().IsCorruption()) {
      return FromRocks(it->status(), "block");
    }
  }
  return erased;
}

absl::StatusOr<bool> RocksLevel::EraseOrphan(const RocksDb::Session& session,
                                             const StoredKey& key) {
  if (!absl::IsNotFound(PresentBytes(session, key).status())) return false;
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn, log_.Take({key.shard()}));
  if (!absl::IsNotFound(PresentBytes(session, key).status())) return false;
  rocksdb::WriteBatch batch;
  MNEMO_RETURN_IF_ERROR(FromRocks(batch.Delete(session.payloads(), AsSlice(key.bytes())), "batch"));
  MNEMO_RETURN_IF_ERROR(turn->Write(session, batch, RocksDb::Logging::kWrite));
  return true;
}

absl::Status RocksLevel::CheckPut(const StoredKey& key, const BlockMetadata& metadata,
                                  uint64_t bytes) const {
  MNEMO_RETURN_IF_ERROR(CheckKey(key));
  if (metadata.durability > durability_) {
    return absl::InvalidArgumentError(fmt::format("durability is {} (at most {} in this instance)",
                                                  static_cast<int>(metadata.durability),
                                                  static_cast<int>(durability_)));
  }
  if (metadata.parent.size() > kMaxParent) {
    return absl::InvalidArgumentError(
        fmt::format("parent of {} bytes (0 to {})", metadata.parent.size(), kMaxParent));
  }
  if (bytes > kMaxEnvelope) {
    return absl::InvalidArgumentError(
        fmt::format("envelope of {} bytes (0 to {})", bytes, kMaxEnvelope));
  }
  if (capacity_bytes_ > 0 && live_bytes_ + bytes > capacity_bytes_) {
    return absl::ResourceExhaustedError(
        fmt::format("{} live bytes and {} more (capacity_bytes is {})", live_bytes_.load(), bytes,
                    capacity_bytes_));
  }
  return absl::OkStatus();
}

absl::Status RocksLevel::Found(const absl::Status& read) const {
  if (absl::IsNotFound(read)) MNEMO_RETURN_IF_ERROR(writer_.db().Writable());
  return read;
}

absl::StatusOr<uint64_t> RocksLevel::PresentBytes(const RocksDb::Session& session,
                                                  const StoredKey& key) const {
  rocksdb::PinnableSlice value;
  MNEMO_RETURN_IF_ERROR(Found(FromRocks(
      session.db().Get(rocksdb::ReadOptions(), session.metadata(), AsSlice(key.bytes()), &value),
      "block metadata")));
  const absl::StatusOr<BlockMetadata> metadata = DecodeMetadata(AsBytes(value));
  return metadata.ok() ? metadata->stored_bytes : 0;
}

absl::StatusOr<Locator> RocksLevel::Put(const StoredKey& key, const BlockMetadata& metadata,
                                        const std::vector<ByteView>& envelope) {
  BlockMetadata stored = metadata;
  stored.stored_bytes = 0;
  for (const ByteView piece : envelope) stored.stored_bytes += piece.size();
  MNEMO_RETURN_IF_ERROR(CheckPut(key, metadata, stored.stored_bytes));
  MNEMO_RETURN_IF_ERROR(writer_.db().Admit(stored.stored_bytes));
  keeper_.Pace(stored.stored_bytes);

  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  std::vector<rocksdb::Slice> pieces;
  pieces.reserve(envelope.size());
  for (const ByteView piece : envelope) pieces.push_back(AsSlice(AsText(piece)));
  const rocksdb::Slice key_slice = AsSlice(key.bytes());
  const std::string encoded = EncodeMetadata(stored);
  // Sized at once: growing would copy tens of megabytes over and over.
  rocksdb::WriteBatch batch(stored.stored_bytes + 2 * encoded.size() + 3 * key.bytes().size() +
                            256);
  MNEMO_RETURN_IF_ERROR(
      FromRocks(batch.Put(session.payloads(), rocksdb::SliceParts(&key_slice, 1),
                          rocksdb::SliceParts(pieces.data(), static_cast<int>(pieces.size()))),
                "batch"));
  MNEMO_RETURN_IF_ERROR(
      FromRocks(batch.Put(session.metadata(), key_slice, AsSlice(encoded)), "batch"));

  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn, log_.Take({key.shard()}));
  const absl::StatusOr<uint64_t> replaced = PresentBytes(session, key);
  if (!replaced.ok() && !absl::IsNotFound(replaced.status())) return replaced.status();
  const bool logged = durability_ != Durability::kCache;
  if (logged) {
    turn->Append(session, batch,
                 {.shard = key.shard(),
                  .epoch = epoch_,
                  .kind = OperationKind::kPutBlock,
                  .key = key.bytes(),
                  .payload = encoded});
  }
  MNEMO_RETURN_IF_ERROR(turn->Write(
      session, batch,
      logged || wal_for_cache_puts_ ? RocksDb::Logging::kWrite : RocksDb::Logging::kNone));
  live_bytes_ += stored.stored_bytes;
  if (replaced.ok()) {
    live_bytes_ -= *replaced;
  } else {
    ++values_;
  }
  return Locator{};
}

absl::StatusOr<PinnedBytes> RocksLevel::Get(const StoredKey& key, Locator) const {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  // shared_ptr because PinnedBytes shares its owner among slices.
  const auto value = std::make_shared<rocksdb::PinnableSlice>();
  MNEMO_RETURN_IF_ERROR(Found(FromRocks(session.db().Get(rocksdb::ReadOptions(), session.payloads(),
                                                         AsSlice(key.bytes()), value.get()),
                                        "block")));
  return PinnedBytes({AsBytes(*value)}, value);
}

absl::Status RocksLevel::UpdateMetadata(const StoredKey& key, const BlockMetadata& metadata) {
  MNEMO_RETURN_IF_ERROR(CheckPut(key, metadata, 0));
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn, log_.Take({key.shard()}));
  BlockMetadata stored = metadata;
  MNEMO_ASSIGN_OR_RETURN(stored.stored_bytes, PresentBytes(session, key));
  const std::string encoded = EncodeMetadata(stored);
  rocksdb::WriteBatch batch;
  MNEMO_RETURN_IF_ERROR(
      FromRocks(batch.Put(session.metadata(), AsSlice(key.bytes()), AsSlice(encoded)), "batch"));
  // A put that was not logged may be lost where its update is not. So that no
  // metadata is left without a payload, the payload comes along.
  rocksdb::PinnableSlice payload;
  if (durability_ == Durability::kCache && !wal_for_cache_puts_) {
    const rocksdb::Slice key_slice = AsSlice(key.bytes());
    MNEMO_RETURN_IF_ERROR(
        FromRocks(session.db().Get(rocksdb::ReadOptions(), session.payloads(), key_slice, &payload),
                  "block"));
    MNEMO_RETURN_IF_ERROR(FromRocks(batch.Put(session.payloads(), key_slice, payload), "batch"));
  }
  turn->Append(session, batch,
               {.shard = key.shard(),
                .epoch = epoch_,
                .kind = OperationKind::kUpdateBlock,
                .key = key.bytes(),
                .payload = encoded});
  return turn->Write(session, batch, RocksDb::Logging::kWrite);
}

absl::Status RocksLevel::Erase(const StoredKey& key, Locator) {
  MNEMO_RETURN_IF_ERROR(CheckKey(key));
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn, log_.Take({key.shard()}));
  const absl::StatusOr<uint64_t> present = PresentBytes(session, key);
  if (absl::IsNotFound(present.status())) return absl::OkStatus();
  // Metadata that cannot be read does not keep its block: it goes as well.
  rocksdb::WriteBatch batch;
  MNEMO_RETURN_IF_ERROR(FromRocks(batch.Delete(session.metadata(), AsSlice(key.bytes())), "batch"));
  MNEMO_RETURN_IF_ERROR(FromRocks(batch.Delete(session.payloads(), AsSlice(key.bytes())), "batch"));
  turn->Append(session, batch,
               {.shard = key.shard(),
                .epoch = epoch_,
                .kind = OperationKind::kDeleteBlock,
                .key = key.bytes()});
  MNEMO_RETURN_IF_ERROR(turn->Write(session, batch, RocksDb::Logging::kWrite));
  if (!present.ok()) return absl::OkStatus();
  live_bytes_ -= *present;
  --values_;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> RocksLevel::ErasePrefix(uint16_t shard, std::string_view prefix) {
  if (prefix.size() < StoredKey::kPrefixSize || prefix.size() > UINT16_MAX ||
      LoadBig<uint16_t>(prefix.data()) != shard || shard >= kShardCount) {
    return absl::InvalidArgumentError(
        fmt::format("prefix of {} bytes ({} to {}, of a key of shard {})", prefix.size(),
                    StoredKey::kPrefixSize, UINT16_MAX, shard));
  }
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  const std::string end = PrefixEnd(prefix);
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<OperationLog::Turn> turn, log_.Take({shard}));
  const auto visit = [](const StoredKey&, const BlockMetadata&) { return true; };
  MNEMO_ASSIGN_OR_RETURN(const Scanned scanned, ScanMetadata(prefix, end, visit));
  if (scanned.values == 0 && scanned.damaged == 0) {
    MNEMO_RETURN_IF_ERROR(writer_.db().Writable());
    return uint64_t{0};
  }
  rocksdb::WriteBatch batch;
  for (rocksdb::ColumnFamilyHandle* family : {session.metadata(), session.payloads()}) {
    MNEMO_RETURN_IF_ERROR(
        FromRocks(batch.DeleteRange(family, AsSlice(prefix), AsSlice(end)), "batch"));
  }
  turn->Append(session, batch,
               {.shard = shard,
                .epoch = epoch_,
                .kind = OperationKind::kDeleteSpace,
                .key = std::string(prefix)});
  MNEMO_RETURN_IF_ERROR(turn->Write(session, batch, RocksDb::Logging::kWrite));
  live_bytes_ -= scanned.bytes;
  values_ -= scanned.values;
  return scanned.values;
}

absl::StatusOr<RocksLevel::Scanned> RocksLevel::ScanMetadata(
    std::string_view begin, std::string_view end,
    const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  rocksdb::ReadOptions options;
  options.readahead_size = kScanReadahead;
  options.fill_cache = false;
  const rocksdb::Slice upper = AsSlice(end);
  if (!end.empty()) options.iterate_upper_bound = &upper;
  Scanned scanned;
  uint16_t shard = begin.size() >= 2 ? LoadBig<uint16_t>(begin.data()) : 0;
  std::string from(begin);
  while (true) {
    const std::unique_ptr<rocksdb::Iterator> it(
        session.db().NewIterator(options, session.metadata()));
    for (it->Seek(AsSlice(from)); it->Valid(); it->Next()) {
      const StoredKey key = StoredKey::FromBytes(it->key().ToString());
      const absl::StatusOr<BlockMetadata> metadata = DecodeMetadata(AsBytes(it->value()));
      if (!key.valid() || !metadata.ok()) {
        ++scanned.damaged;
        continue;
      }
      shard = key.shard();
      ++scanned.values;
      scanned.bytes += metadata->stored_bytes;
      if (!visit(key, *metadata)) return scanned;
    }
    if (it->status().ok()) return scanned;
    if (!it->status().IsCorruption()) return FromRocks(it->status(), "block metadata");
    // A damaged table block hides what follows it. The next shard is beyond it,
    // or meets it again and goes on to the one after.
    ++scanned.damaged;
    if (++shard >= kShardCount) return scanned;
    from.clear();
    AppendBig<uint16_t>(from, shard);
    if (!end.empty() && from >= end) return scanned;
  }
}

absl::Status RocksLevel::ForEach(
    const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const Scanned scanned, ScanMetadata("", "", visit));
  if (scanned.damaged == 0) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("block metadata: {} damaged places were passed over", scanned.damaged));
}

LevelStats RocksLevel::Stats() const {
  LevelStats stats;
  stats.capacity_bytes = capacity_bytes_;
  stats.live_bytes = live_bytes_;
  stats.values = values_;
  const absl::StatusOr<RocksDb::Session> session = writer_.db().Acquire();
  if (!session.ok()) return stats;
  for (rocksdb::ColumnFamilyHandle* family : {session->metadata(), session->payloads()}) {
    for (const char* property : {"rocksdb.total-sst-files-size", "rocksdb.total-blob-file-size",
                                 "rocksdb.cur-size-all-mem-tables"}) {
      stats.used_bytes += session->Property(family, property);
    }
  }
  return stats;
}

}  // namespace mnemo

// Blocks in an instance: payload, metadata and log entry in one write.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "storage/tier/durable_writer.h"
#include "storage/tier/instance.h"
#include "storage/tier/operation_log.h"
#include "storage/tier/space_keeper.h"

namespace mnemo {

// Thread-safe. Borrows `writer`, `log` and `keeper`.
//
// Put stores `metadata.stored_bytes` as what the envelope has, whatever the
// caller said. Metadata and payload lie apart, so that a start reads 100 bytes
// a block; both are found by the stored key, and a locator is always 0.
class RocksLevel final : public DurableLevel {
 public:
  RocksLevel(DurableWriter& writer, OperationLog& log, SpaceKeeper& keeper,
             const InstanceOptions& options);

  // Counts what is there, from metadata, while nobody writes. Returns how many
  // entries do not decode or could not be read.
  absl::StatusOr<uint64_t> Load();

  // Reads every payload and erases the blocks whose payload is damaged or gone.
  // Returns how many. Reads the whole instance.
  absl::StatusOr<uint64_t> EraseDamaged();

  // Erases payloads without metadata. Returns how many. Reads the whole instance.
  absl::StatusOr<uint64_t> EraseOrphans();

  absl::StatusOr<Locator> Put(const StoredKey& key, const BlockMetadata& metadata,
                              const std::vector<ByteView>& envelope) override;
  absl::StatusOr<PinnedBytes> Get(const StoredKey& key, Locator locator) const override;
  absl::Status UpdateMetadata(const StoredKey& key, const BlockMetadata& metadata) override;
  absl::Status Erase(const StoredKey& key, Locator locator) override;
  absl::StatusOr<uint64_t> ErasePrefix(uint16_t shard, std::string_view prefix) override;
  absl::Status ForEach(
      const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const override;
  absl::Status Sync() override { return writer_.Sync(); }
  LevelStats Stats() const override;
  uint64_t live_bytes() const { return live_bytes_; }

 private:
  struct Scanned {
    uint64_t values = 0;
    uint64_t bytes = 0;
    uint64_t damaged = 0;
  };

  absl::Status CheckPut(const StoredKey& key, const BlockMetadata& metadata, uint64_t bytes) const;
  // The status of a read. While writes are refused, kNotFound becomes the reason:
  // a refused erasure may be seen, and its value be back after the recovery.
  absl::Status Found(const absl::Status& read) const;
  // Bytes of the present value; kNotFound, as Found. Damaged metadata counts as 0 bytes.
  absl::StatusOr<uint64_t> PresentBytes(const RocksDb::Session& session,
                                        const StoredKey& key) const;
  // Erases the payload unless there is metadata by now.
  absl::StatusOr<bool> EraseOrphan(const RocksDb::Session& session, const StoredKey& key);
  // Visits metadata in [begin, end), past what is damaged.
  absl::StatusOr<Scanned> ScanMetadata(
      std::string_view begin, std::string_view end,
      const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const;

  DurableWriter& writer_;
  OperationLog& log_;
  SpaceKeeper& keeper_;
  const Durability durability_;
  const uint64_t epoch_;
  const uint64_t capacity_bytes_;
  const bool wal_for_cache_puts_;
  std::atomic<uint64_t> values_{0};
  std::atomic<uint64_t> live_bytes_{0};
};

}  // namespace mnemo

// The ordered store on the default column family of an instance.
#pragma once

#include <memory>
#include <string>

#include "storage/tier/durable_writer.h"
#include "storage/tier/operation_log.h"
#include "storage/tier/store.h"

namespace mnemo {

// Thread-safe. Borrows both.
class RocksStore final : public Store {
 public:
  RocksStore(DurableWriter& writer, OperationLog& log) : writer_(writer), log_(log) {}

  absl::Status Apply(const StoreBatch& batch, bool sync) override;
  absl::StatusOr<std::string> Get(const StoredKey& key,
                                  const StoreSnapshot* snapshot) const override;
  absl::Status Scan(std::string_view begin, std::string_view end,
                    const std::function<bool(const StoredKey&, std::string_view)>& visit,
                    const StoreSnapshot* snapshot) const override;
  std::unique_ptr<StoreSnapshot> Snapshot() const override;
  absl::Status ReadLog(uint16_t shard, uint64_t first_sequence,
                       const std::function<bool(const Operation&)>& visit) const override;
  uint64_t LastSequence(uint16_t shard) const override;
  absl::Status TrimLog(uint16_t shard, uint64_t first_kept) override;
  absl::Status Sync() override { return writer_.Sync(); }
  absl::Status Writable() const override { return writer_.db().Writable(); }

 private:
  DurableWriter& writer_;
  OperationLog& log_;
};

}  // namespace mnemo

// Reads parts from wherever they lie, verified.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/envelope.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe. Takes no gate unless a copy is damaged, so that reads wait for
// no mover. Memory: what the answer pins or holds decoded.
class TieredReader {
 public:
  explicit TieredReader(StoreCore& core) : core_(core) {}

  // As BlockStore::Read. `used`, if there is an answer, is the entry as it was
  // before this use.
  absl::StatusOr<PartRead> Read(const PartKey& key, uint32_t first, uint32_t count,
                                DirectoryEntry& used);

 private:
  absl::StatusOr<PinnedBytes> Fetch(const DirectoryEntry& entry);
  absl::StatusOr<PartRead> Open(const DirectoryEntry& entry, const PinnedBytes& stored,
                                uint32_t first, uint32_t count);
  // Drops the nearest copy of `seen` if it is still the one that was read, and
  // still cannot be. True if the part may be read again.
  bool Repair(const DirectoryEntry& seen);

  StoreCore& core_;
};

}  // namespace mnemo

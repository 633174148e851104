// What owners ask for: deletes, pins, flushes.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/demotion.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe. Semantics and errors: BlockStore.
class PartChanges {
 public:
  PartChanges(StoreCore& core, Demotion& demotion) : core_(core), demotion_(demotion) {}

  absl::StatusOr<uint64_t> Erase(std::span<const PartKey> keys);
  absl::StatusOr<uint64_t> EraseScope(KeyScope scope, const std::optional<SaltDigest>& salt);
  absl::StatusOr<uint64_t> SetPinned(std::span<const PartKey> keys, bool pinned);
  absl::StatusOr<uint64_t> Flush(KeyScope scope);
  // Writes cache parts that lie in RAM alone to disk, the admitted first, as
  // far as room and time allow, without moving anything out of their way.
  void FlushWithinRoom(MonoTime deadline);

 private:
  // Instances that were written to.
  using Touched = std::array<bool, 5>;  // by durability, and:
  static constexpr size_t kArchivedInterval = 4;

  // True if the part was there. Adds where its bytes on disk were.
  absl::StatusOr<bool> EraseOne(const PartKey& key, Touched& touched);
  // Syncs what was written to at either level.
  absl::Status SyncTouched(const Touched& touched);
  absl::StatusOr<bool> PinOne(const PartKey& key, bool pinned, Touched& touched);
  absl::Status WritePinned(const DirectoryEntry& entry, bool pinned);
  // Calls `change` with each part that `filter` names, until an error.
  absl::Status ForEach(const ListFilter& filter,
                       const std::function<absl::Status(const DirectoryEntry&)>& change);
  // True if it lay in RAM alone and was written.
  absl::StatusOr<bool> WriteBehind(const DirectoryEntry& listed);
  // The gate of the part that `key` names now, and what is known of it; no
  // entry if it is not present.
  std::optional<DirectoryEntry> EnterPresent(const PartKey& key, EntryGate::Hold& hold);

  StoreCore& core_;
  Demotion& demotion_;
};

}  // namespace mnemo

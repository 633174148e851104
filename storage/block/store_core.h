// What the operations of a block store share, and the few changes of a part
// that keep directory, policies, levels, budgets and events agreed.
//
// Inside storage/block only: block_store.h is the interface.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/directory.h"
#include "storage/block/disk_levels.h"
#include "storage/block/encoding_choice.h"
#include "storage/block/entry_gate.h"
#include "storage/block/expiry_clock.h"
#include "storage/block/lease_table.h"
#include "storage/block/part_events.h"
#include "storage/block/prefetch_marks.h"
#include "storage/block/space_codecs.h"
#include "storage/codec/codec.h"
#include "storage/policy/eviction_queues.h"
#include "storage/policy/placement.h"
#include "storage/tier/data_directory.h"
#include "storage/tier/ram_level.h"

namespace mnemo {

// Counts of what happened; only grow.
struct StoreTally {
  using ByLevel = std::array<std::atomic<uint64_t>, kLevelCount>;
  ByLevel lookups{}, hits{}, demoted{}, promoted{}, evicted{}, corrupt{};
  std::atomic<uint64_t> refused_puts{0}, write_behind{0}, write_behind_skipped{0}, expired{0},
      below_floor{0}, reencoded{0};
  std::array<std::atomic<uint64_t>, IdleHistogram::kLimits.size() + 1> idle_counts{};
  std::atomic<uint64_t> idle_nanos{0};
  std::array<std::atomic<uint64_t>, kPrefetchOrigins> prefetched_used{};

  // `level` dropped a part for want of room.
  void CountEvicted(Level level, Nanos idle);
};

// Thread-safe. A function that says "held" requires the gate of the part, and
// an entry that was read while it was held.
class StoreCore {
 public:
  struct Parts {
    BlockStoreOptions options;
    std::unique_ptr<DataDirectory> data_directory;
    std::unique_ptr<ExpiryClock> time;
    std::unique_ptr<DiskLevels> disks;
    std::unique_ptr<RamLevel> l1;
    std::unique_ptr<RamLevel> l2;  // may be null
    std::array<PolicyKind, kLevelCount> policies{};
    LeaseId first_lease = 1;
  };
  StoreCore(Parts parts, BlockStore::Observer observer);

  const BlockStoreOptions& options() const { return parts_.options; }
  ExpiryClock& time() { return *parts_.time; }
  DiskLevels& disks() { return *parts_.disks; }
  const DataDirectory& data_directory() const { return *parts_.data_directory; }
  bool has_l2() const { return parts_.l2 != nullptr; }
  // kL1, or kL2 if there is one.
  RamLevel& Ram(Level level) { return level == Level::kL1 ? *parts_.l1 : *parts_.l2; }
  const PlacementRules& rules() const { return rules_; }
  // What lies at a level and what is being written there.
  uint64_t Used(Level level) const;
  uint64_t Capacity(Level level) const;

  // Makes a written part visible, with its places. Held. The budget of `disk`
  // was taken. Errors: those of Directory::Publish; then the places are the
  // caller's.
  absl::Status Publish(EntryRef reserved, const PartKey& key, const Digest128& digest,
                       const RamPlace& ram, const std::optional<DiskPlace>& disk);
  // Takes a part found on disk into directory, policy and budget, at start.
  absl::Status Restore(const NewPart& part, const Digest128& digest, bool pinned,
                       const DiskPlace& disk);

  // The part lies at `place` now; where it lay before in RAM or on disk is
  // freed. Held. Errors: kAborted (it changed); then `place` is freed.
  absl::Status PlaceInRam(const DirectoryEntry& entry, const RamPlace& place);
  // The bytes at `place` are durable, their budget taken.
  absl::Status PlaceOnDisk(const DirectoryEntry& entry, const DiskPlace& place);
  // Gives up one of two places. Held. Errors: kAborted, kFailedPrecondition.
  absl::Status LeaveRam(const DirectoryEntry& entry);
  absl::Status LeaveDisk(const DirectoryEntry& entry);
  // Removes the part everywhere. Held. `evicted_from` is the level that wanted
  // room. With `disk_erased` its bytes on disk are gone already. Errors: those
  // of Directory::Remove, with nothing changed; those of the disk, with the
  // part gone but for bytes that a restart may find.
  absl::Status Remove(EntryRef ref, Directory::RemoveWhen when, std::optional<Level> evicted_from,
                      bool disk_erased = false);
  // Its time is over. The hold may be empty: then somebody else sees to it.
  void RemoveExpired(EntryRef ref, const EntryGate::Hold& hold);
  // A copy turned out to be damaged, or is kept in fewer bits than the space's owner
  // allows now: it goes, and with the last the part. Held.
  void DropDamaged(const DirectoryEntry& entry, Level level);
  void DropBelowFloor(const DirectoryEntry& entry, Level level);

  // Holds of policies end that leases or children no longer justify.
  void ReleaseHolds(const std::vector<EntryId>& ids);
  // A use, found at its nearest place.
  void CountUse(const DirectoryEntry& entry);
  PlacementSignals Signals(const DirectoryEntry& entry) const;
  static uint64_t Fingerprint(const PartKey& key);

  Directory directory;
  EvictionQueues queues;
  LeaseTable leases;
  EntryGate gate;
  PartEvents events;
  CodecSet codecs;
  EncodingChoice encodings;
  SpaceCodecs spaces;
  StoreTally tally;
  PrefetchMarks prefetched;

 private:
  void Announce(PartEvent::Kind kind, const DirectoryEntry& entry, Level level);
  void DropCopy(const DirectoryEntry& entry, Level level);
  void FreeRam(const PartKey& key, const RamPlace& place);
  // Errors: those of BlockLevel::Erase.
  absl::Status FreeDisk(const PartKey& key, const DiskPlace& place);
  void Enqueue(const DirectoryEntry& entry, Level level, uint64_t stored_bytes);

  const Parts parts_;
  const PlacementRules rules_;
};

}  // namespace mnemo

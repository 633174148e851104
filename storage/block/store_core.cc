#include "storage/block/store_core.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

PlacementRules RulesFor(const StoreCore::Parts& parts) {
  PlacementRules rules;
  rules.promote_hits = parts.options.promote_hits;
  rules.has_l2 = parts.l2 != nullptr;
  rules.has_archive = parts.disks->has_archive();
  return rules;
}

}  // namespace

void StoreTally::CountEvicted(Level level, Nanos idle) {
  ++evicted[Index(level)];
  const auto& limits = IdleHistogram::kLimits;
  const auto limit = std::lower_bound(limits.begin(), limits.end(), idle);
  ++idle_counts[static_cast<size_t>(limit - limits.begin())];
  idle_nanos += static_cast<uint64_t>(idle.count());
}

StoreCore::StoreCore(Parts parts, BlockStore::Observer observer)
    : directory(DirectoryOptions{}, *parts.time),
      queues(parts.policies),
      leases(directory, *parts.time, parts.first_lease),
      events(std::move(observer)),
      spaces(parts.disks->state(), *parts.time),
      parts_(std::move(parts)),
      rules_(RulesFor(parts_)) {}

uint64_t StoreCore::Used(Level level) const {
  if (!IsRam(level)) return parts_.disks->used(level);
  const RamLevel* const ram = level == Level::kL1 ? parts_.l1.get() : parts_.l2.get();
  return ram == nullptr ? 0 : ram->arena_stats().used_bytes;
}

uint64_t StoreCore::Capacity(Level level) const {
  if (!IsRam(level)) return parts_.disks->capacity(level);
  return level == Level::kL1 ? options().l1_bytes : options().l2_bytes;
}

uint64_t StoreCore::Fingerprint(const PartKey& key) {
  const uint64_t seed = key.scope.space * 0x9e3779b97f4a7c15ull ^
                        LoadLittle<uint64_t>(key.salt.data()) ^ uint64_t { key.part.group } << 32 ^
                        uint64_t { key.part.tp_rank } << 16 ^ key.part.pp_rank;
  return key.key.Hash(seed);
}

void StoreCore::Enqueue(const DirectoryEntry& entry, Level level, uint64_t stored_bytes) {
  queues.Insert(level, entry.ref.id, entry.parent, stored_bytes, Fingerprint(entry.key));
}

void StoreCore::Announce(PartEvent::Kind kind, const DirectoryEntry& entry, Level level) {
  events.Add(PartEvent{kind, entry.key, entry.depth, level});
}

void StoreCore::FreeRam(const PartKey& key, const RamPlace& place) {
  // An arena finds its value by the locator alone, and has no error but that.
  Ram(place.level).Erase(StoredKey(), place.locator).IgnoreError();
}

absl::Status StoreCore::FreeDisk(const PartKey& key, const DiskPlace& place) {
  const absl::Status erased = disks().Erase(place, key.Stored());
  disks().Give(place.level, place.stored_bytes);
  return erased;
}

absl::Status StoreCore::Publish(EntryRef reserved, const PartKey& key, const Digest128& digest,
                                const RamPlace& ram, const std::optional<DiskPlace>& disk) {
  MNEMO_RETURN_IF_ERROR(directory.Publish(reserved, digest, ram, disk).status());
  // The gate is held, so it can only have expired.
  const std::optional<DirectoryEntry> entry = directory.Get(reserved.id);
  if (!entry) return absl::OkStatus();
  Enqueue(*entry, ram.level, ram.stored_bytes);
  if (disk) Enqueue(*entry, disk->level, disk->stored_bytes);
  Announce(PartEvent::Kind::kStored, *entry, ram.level);
  return absl::OkStatus();
}

absl::Status StoreCore::Restore(const NewPart& part, const Digest128& digest, bool pinned,
                                const DiskPlace& disk) {
  MNEMO_ASSIGN_OR_RETURN(const EntryRef ref, directory.Restore(part, digest, pinned, disk));
  disks().Take(disk.level, disk.stored_bytes);
  spaces.Changed(part.key.scope);
  if (const std::optional<DirectoryEntry> entry = directory.Get(ref.id)) {
    Enqueue(*entry, disk.level, disk.stored_bytes);
  }
  return absl::OkStatus();
}

absl::Status StoreCore::PlaceInRam(const DirectoryEntry& entry, const RamPlace& place) {
  const absl::StatusOr<Directory::RamChange> change = directory.SetRam(entry.ref, place);
  if (!change.ok()) {
    FreeRam(entry.key, place);
    return change.status();
  }
  Enqueue(entry, place.level, place.stored_bytes);
  if (change->previous) FreeRam(entry.key, *change->previous);
  if (entry.nearest() != place.level) Announce(PartEvent::Kind::kMoved, entry, place.level);
  return absl::OkStatus();
}

absl::Status StoreCore::PlaceOnDisk(const DirectoryEntry& entry, const DiskPlace& place) {
  const absl::StatusOr<Directory::DiskChange> change = directory.SetDisk(entry.ref, place);
  if (!change.ok()) {
    // Nothing points there; if it stays, a restart finds it and the part's own.
    FreeDisk(entry.key, place).IgnoreError();
    return change.status();
  }
  Enqueue(entry, place.level, place.stored_bytes);
  // A copy that stays behind is harmless: a restart keeps the nearer one.
  if (change->previous && change->previous->level == place.level &&
      change->previous->instance == place.instance) {
    disks().Give(place.level, change->previous->stored_bytes);  // it was overwritten
  } else if (change->previous) {
    FreeDisk(entry.key, *change->previous).IgnoreError();
  }
  if (!entry.ram && entry.nearest() != place.level) {
    Announce(PartEvent::Kind::kMoved, entry, place.level);
  }
  return absl::OkStatus();
}

absl::Status StoreCore::LeaveRam(const DirectoryEntry& entry) {
  MNEMO_ASSIGN_OR_RETURN(const Directory::RamChange change, directory.ClearRam(entry.ref));
  queues.Remove(entry.ram->level, entry.ref.id, /*evicted=*/true, Fingerprint(entry.key));
  if (change.previous) FreeRam(entry.key, *change.previous);
  Announce(PartEvent::Kind::kMoved, entry, entry.disk->level);
  return absl::OkStatus();
}

absl::Status StoreCore::LeaveDisk(const DirectoryEntry& entry) {
  MNEMO_ASSIGN_OR_RETURN(const Directory::DiskChange change, directory.ClearDisk(entry.ref));
  queues.Remove(entry.disk->level, entry.ref.id, /*evicted=*/true, Fingerprint(entry.key));
  return change.previous ? FreeDisk(entry.key, *change.previous) : absl::OkStatus();
}

absl::Status StoreCore::Remove(EntryRef ref, Directory::RemoveWhen when,
                               std::optional<Level> evicted_from, bool disk_erased) {
  MNEMO_ASSIGN_OR_RETURN(const DirectoryEntry entry, directory.Remove(ref, when));
  absl::Status freed;
  if (entry.ram) FreeRam(entry.key, *entry.ram);
  if (entry.disk && disk_erased) {
    disks().Give(entry.disk->level, entry.disk->stored_bytes);
  } else if (entry.disk) {
    freed = FreeDisk(entry.key, *entry.disk);
  }
  if (evicted_from) {
    queues.Remove(*evicted_from, ref.id, /*evicted=*/true, Fingerprint(entry.key));
    tally.CountEvicted(*evicted_from, entry.idle);
  }
  queues.RemoveAll(ref.id);
  Announce(PartEvent::Kind::kRemoved, entry, entry.ram ? entry.ram->level : entry.disk->level);
  std::vector<EntryId> new_leaves;
  directory.Recycle(ref.id, new_leaves);
  ReleaseHolds(new_leaves);
  return freed;
}

void StoreCore::RemoveExpired(EntryRef ref, const EntryGate::Hold& hold) {
  if (!hold) return;
  const absl::Status removed = Remove(ref, Directory::RemoveWhen::kAlways, std::nullopt);
  if (!absl::IsAborted(removed)) ++tally.expired;
}

void StoreCore::DropDamaged(const DirectoryEntry& entry, Level level) {
  ++tally.corrupt[Index(level)];
  DropCopy(entry, level);
}

void StoreCore::DropBelowFloor(const DirectoryEntry& entry, Level level) {
  ++tally.below_floor;
  DropCopy(entry, level);
}

void StoreCore::DropCopy(const DirectoryEntry& entry, Level level) {
  absl::Status dropped;
  if (IsRam(level) && entry.disk) {
    dropped = LeaveRam(entry);
  } else if (!IsRam(level) && entry.ram) {
    dropped = LeaveDisk(entry);
  } else {
    dropped = Remove(entry.ref, Directory::RemoveWhen::kAlways, std::nullopt);
  }
  // What fails here is the erasing of bytes that nobody finds any more.
  dropped.IgnoreError();
}

void StoreCore::ReleaseHolds(const std::vector<EntryId>& ids) {
  for (const EntryId id : ids) queues.Release(id);
}

void StoreCore::CountUse(const DirectoryEntry& entry) {
  const Level found = entry.nearest();
  ++tally.hits[Index(found)];
  for (size_t level = 0; level <= Index(found); ++level) ++tally.lookups[level];
  const EntryId id = entry.ref.id;
  directory.Touch({&id, 1});
  queues.Touch({&id, 1});
}

PlacementSignals StoreCore::Signals(const DirectoryEntry& entry) const {
  PlacementSignals signals;
  signals.durability = entry.durability;
  signals.pinned = entry.pinned;
  signals.leased = entry.leases > 0;
  signals.hits = entry.hits;
  signals.idle = entry.idle;
  if (entry.ram || entry.disk) signals.nearest = entry.nearest();
  signals.on_disk = entry.disk.has_value();
  if (entry.disk) signals.disk_level = entry.disk->level;
  return signals;
}

}  // namespace mnemo

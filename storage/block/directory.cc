// Writing, changing and removing entries; directory_lookup.cc reads them.
#include "storage/block/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/block/directory_lanes.h"
#include "storage/block/directory_shard.h"

namespace mnemo {
namespace {

constexpr uint64_t kMaxBytes = 0xffffffff;
constexpr uint32_t kMaxLeases = 0x7fff;
constexpr uint32_t kMaxHits = 255;
constexpr int64_t kSecond = 1'000'000'000;

uint32_t SlotOf(EntryId id) { return id & 0xffffff; }

uint32_t SecondsDown(WallTime time) {
  return static_cast<uint32_t>(std::clamp<int64_t>(time.nanos / kSecond, 0, kMaxBytes));
}
// 0 is kept for "never".
uint32_t SecondsUp(WallTime time) {
  if (time.nanos == 0) return 0;
  const int64_t seconds = time.nanos / kSecond + (time.nanos % kSecond > 0 ? 1 : 0);
  return static_cast<uint32_t>(std::clamp<int64_t>(seconds, 1, kMaxBytes));
}

absl::Status Changed() { return absl::AbortedError("the part has changed meanwhile"); }

// Puts an entry's usage in place of what it was before a change.
void Account(LaneTable& lanes, DirectoryShard& shard, const PackedEntry& entry,
             const DirectoryUsage& before) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
  const DirectoryUsage after = entry.Usage();
  shard.exact_bytes += after.exact_bytes - before.exact_bytes;
  lanes.Account(entry.lane, before, after);
}

// Gives the slot of a placeholder back, if nothing refers to it; answers the
// parent to unlink then.
EntryId FreeIfUnused(LaneTable& lanes, DirectoryShard& shard, uint32_t slot)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
  const PackedEntry& entry = shard.At(slot);
  const bool nothing_stored =
      entry.state == PackedEntry::kPlaceholder || entry.state == PackedEntry::kDetached;
  if (!nothing_stored || entry.children > 0 || entry.leases > 0) return kNoEntry;
  const EntryId parent = entry.parent;
  const uint32_t lane = entry.lane;
  shard.Free(slot);
  lanes.Release(lane);
  return parent;
}

void CheckPlaces(const std::optional<RamPlace>& ram, const std::optional<DiskPlace>& disk) {
  if (ram) {
    MNEMO_CHECK(IsRam(ram->level) && ram->stored_bytes <= kMaxBytes && ram->codec < 16);
  }
  if (disk) {
    MNEMO_CHECK(!IsRam(disk->level) && disk->stored_bytes <= kMaxBytes && disk->codec < 16);
  }
}

}  // namespace

Directory::Directory(const DirectoryOptions& options, const Clock& clock)
    : options_(options),
      clock_(clock),
      started_(clock.Mono()),
      lanes_(std::make_unique<LaneTable>()) {
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    shards_[shard] = std::make_unique<DirectoryShard>(shard);
  }
  memory_ = MemoryBytes();
}

Directory::~Directory() = default;

DirectoryShard& Directory::ShardOfId(EntryId id) const { return *shards_[id >> 24]; }

uint32_t Directory::NowTicks() const {
  return static_cast<uint32_t>((clock_.Mono() - started_) / std::chrono::milliseconds(100));
}

absl::Status Directory::CheckNew(const NewPart& part) const {
  if (part.key.key.empty()) return absl::InvalidArgumentError("key is empty, not 1 to 64 bytes");
  if (part.key.shard >= kShardCount || part.parent_shard >= kShardCount) {
    return absl::InvalidArgumentError(fmt::format("shard is {} and parent_shard {}, not 0 to {}",
                                                  part.key.shard, part.parent_shard,
                                                  kShardCount - 1));
  }
  if (part.payload_bytes == 0 || part.payload_bytes > kMaxBytes) {
    return absl::InvalidArgumentError(
        fmt::format("payload_bytes is {}, not 1 to {}", part.payload_bytes, kMaxBytes));
  }
  if (options_.max_memory_bytes > 0 && memory_ >= options_.max_memory_bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("the directory has used its {} bytes", options_.max_memory_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<Reservation> Directory::Reserve(const NewPart& part, MonoTime deadline) {
  MNEMO_RETURN_IF_ERROR(CheckNew(part));
  LaneReferences references(*lanes_);
  const uint32_t lane = lanes_->Acquire(Lane::Of(part.key));
  references.Own(lane);
  bool fresh = false;
  EntryId orphaned = kNoEntry;
  const absl::StatusOr<Reservation> made = ReserveEntry(part, lane, deadline, fresh, orphaned);
  UnlinkParentQuietly(orphaned);
  MNEMO_RETURN_IF_ERROR(made.status());
  const Reservation reservation = *made;
  if (reservation.outcome != Reservation::Outcome::kReserved || !fresh) return reservation;

  // A link that does not fit for want of room costs order of eviction, no more.
  const absl::StatusOr<EntryId> parent = LinkParent(part, lane, reservation.ref.id);
  if (!parent.ok() || *parent == kNoEntry) return reservation;
  DirectoryShard& shard = *shards_[part.key.shard];
  {
    MutexLock lock(shard.mutex);
    PackedEntry& entry = shard.At(SlotOf(reservation.ref.id));
    if (entry.generation == reservation.ref.generation && entry.parent == kNoEntry) {
      entry.parent = *parent;
      return reservation;
    }
  }
  // The deadline passed in between, and the entry is somebody else's.
  UnlinkParentQuietly(*parent);
  return absl::AbortedError("the reservation ended before it began");
}

absl::StatusOr<Reservation> Directory::ReserveEntry(const NewPart& part, uint32_t lane,
                                                    MonoTime deadline, bool& fresh,
                                                    EntryId& orphaned) {
  using Outcome = Reservation::Outcome;
  const std::string_view key = part.key.key.view();
  const uint64_t hash = DirectoryShard::Hash(lane, key);
  const MonoTime now = clock_.Mono();
  const WallTime wall = clock_.Wall();
  DirectoryShard& shard = *shards_[part.key.shard];
  MutexLock lock(shard.mutex);
  uint32_t slot = shard.Find(hash, lane, key);
  if (slot != DirectoryShard::kNoSlot) {
    const PackedEntry& entry = shard.At(slot);
    const EntryRef ref{shard.IdOf(slot), entry.generation};
    switch (entry.state) {
      case PackedEntry::kPresent:
        if (entry.ExpiredAt(wall)) return Reservation{Outcome::kExpired, ref, {}};
        return Reservation{Outcome::kPresent, ref, entry.digest};
      case PackedEntry::kRemoved:
        return Reservation{Outcome::kPending, ref, {}};
      case PackedEntry::kPending:
        if (MonoTime(Nanos(static_cast<int64_t>(entry.locator_or_deadline))) > now) {
          return Reservation{Outcome::kPending, ref, {}};
        }
        break;
      default:
        break;
    }
    // Links that were made under another depth keep the name they knew, and this
    // part begins anew: links that do not fit by depth could make cycles.
    const bool linked = entry.children > 0 || entry.parent != kNoEntry;
    if (linked && entry.depth != part.depth) {
      const DirectoryUsage before = entry.Usage();
      shard.Detach(slot);
      Account(*lanes_, shard, entry, before);
      orphaned = FreeIfUnused(*lanes_, shard, slot);
      slot = DirectoryShard::kNoSlot;
    }
  }
  if (slot == DirectoryShard::kNoSlot) {
    MNEMO_ASSIGN_OR_RETURN(slot, InsertEntry(shard, hash, lane, key));
  }
  PackedEntry& entry = shard.At(slot);
  const DirectoryUsage before = entry.Usage();
  ++entry.generation;
  entry.state = PackedEntry::kPending;
  entry.locator_or_deadline = static_cast<uint64_t>(deadline.time_since_epoch().count());
  entry.payload_bytes = static_cast<uint32_t>(part.payload_bytes);
  entry.depth = part.depth;
  entry.tokens = part.tokens;
  entry.durability = static_cast<uint16_t>(part.durability) & 3;
  entry.created = SecondsDown(part.created);
  entry.expires = SecondsUp(part.expires);
  entry.pinned = 0;
  entry.hits = 0;
  fresh = entry.parent == kNoEntry;
  Account(*lanes_, shard, entry, before);
  return Reservation{Outcome::kReserved, {shard.IdOf(slot), entry.generation}, {}};
}

absl::StatusOr<EntryId> Directory::LinkParent(const NewPart& part, uint32_t lane, EntryId child) {
  if (part.parent.empty() || part.depth == 0) return kNoEntry;
  const std::string_view key = part.parent.view();
  const uint64_t hash = DirectoryShard::Hash(lane, key);
  DirectoryShard& shard = *shards_[part.parent_shard];
  MutexLock lock(shard.mutex);
  uint32_t slot = shard.Find(hash, lane, key);
  if (slot == DirectoryShard::kNoSlot) {
    MNEMO_ASSIGN_OR_RETURN(slot, InsertEntry(shard, hash, lane, key));
    shard.At(slot).state = PackedEntry::kPlaceholder;
    shard.At(slot).depth = part.depth - 1;
  }
  PackedEntry& parent = shard.At(slot);
  if (parent.depth + 1 != part.depth) return kNoEntry;
  ++parent.children;
  shard.set_child(slot, child);
  return shard.IdOf(slot);
}

absl::StatusOr<uint32_t> Directory::InsertEntry(DirectoryShard& shard, uint64_t hash, uint32_t lane,
                                                std::string_view key)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const uint64_t before = shard.MemoryBytes();
  MNEMO_ASSIGN_OR_RETURN(const uint32_t slot, shard.Insert(hash, lane, key));
  memory_ += shard.MemoryBytes() - before;
  lanes_->AddReference(lane);
  return slot;
}

void Directory::UnlinkParent(EntryId parent, std::vector<EntryId>& new_leaves) {
  while (parent != kNoEntry) {
    DirectoryShard& shard = ShardOfId(parent);
    MutexLock lock(shard.mutex);
    PackedEntry& entry = shard.At(SlotOf(parent));
    MNEMO_CHECK(entry.children > 0);
    if (--entry.children > 0) return;
    if (entry.state == PackedEntry::kPresent) new_leaves.push_back(parent);
    parent = FreeIfUnused(*lanes_, shard, SlotOf(parent));
  }
}

void Directory::UnlinkParentQuietly(EntryId parent) {
  if (parent == kNoEntry) return;
  std::vector<EntryId> new_leaves;
  UnlinkParent(parent, new_leaves);
  MutexLock lock(quiet_mutex_);
  quiet_leaves_.insert(quiet_leaves_.end(), new_leaves.begin(), new_leaves.end());
}

absl::StatusOr<EntryRef> Directory::Publish(EntryRef reserved, const Digest128& digest,
                                            const std::optional<RamPlace>& ram,
                                            const std::optional<DiskPlace>& disk) {
  MNEMO_CHECK(ram || disk);
  CheckPlaces(ram, disk);
  DirectoryShard& shard = ShardOfId(reserved.id);
  MutexLock lock(shard.mutex);
  PackedEntry& entry = shard.At(SlotOf(reserved.id));
  if (entry.generation != reserved.generation || entry.state != PackedEntry::kPending) {
    return absl::AbortedError("the reservation has ended");
  }
  const DirectoryUsage before = entry.Usage();
  ++entry.generation;
  entry.state = PackedEntry::kPresent;
  entry.digest = digest;
  entry.set_ram(ram);
  entry.set_disk(disk);
  entry.last_use = NowTicks();
  Account(*lanes_, shard, entry, before);
  return EntryRef{reserved.id, entry.generation};
}

void Directory::Abandon(EntryRef reserved, std::vector<EntryId>& new_leaves) {
  DirectoryShard& shard = ShardOfId(reserved.id);
  EntryId parent = kNoEntry;
  {
    MutexLock lock(shard.mutex);
    PackedEntry& entry = shard.At(SlotOf(reserved.id));
    if (entry.generation != reserved.generation || entry.state != PackedEntry::kPending) return;
    const DirectoryUsage before = entry.Usage();
    ++entry.generation;
    entry.state = PackedEntry::kPlaceholder;
    Account(*lanes_, shard, entry, before);
    parent = FreeIfUnused(*lanes_, shard, SlotOf(reserved.id));
  }
  UnlinkParent(parent, new_leaves);
}

absl::StatusOr<EntryRef> Directory::Restore(const NewPart& part, const Digest128& digest,
                                            bool pinned, const DiskPlace& disk) {
  MNEMO_ASSIGN_OR_RETURN(const Reservation reservation, Reserve(part, MonoTime::max()));
  if (reservation.outcome != Reservation::Outcome::kReserved) {
    return absl::AlreadyExistsError("the part is there");
  }
  MNEMO_ASSIGN_OR_RETURN(const EntryRef ref, Publish(reservation.ref, digest, std::nullopt, disk));
  return pinned ? SetPinned(ref, true) : ref;
}

void Directory::Touch(std::span<const EntryId> ids) {
  const uint32_t now = NowTicks();
  for (const EntryId id : ids) {
    DirectoryShard& shard = ShardOfId(id);
    MutexLock lock(shard.mutex);
    if (SlotOf(id) >= shard.slots()) continue;
    PackedEntry& entry = shard.At(SlotOf(id));
    if (entry.state != PackedEntry::kPresent) continue;
    entry.last_use = now;
    if (entry.hits < kMaxHits) ++entry.hits;
  }
}

namespace {

// Applies `change` to the present entry of `ref`, and answers its new state.
template <typename Change>
absl::StatusOr<EntryRef> ChangePresent(LaneTable& lanes, DirectoryShard& shard, EntryRef ref,
                                       const Change& change) {
  MutexLock lock(shard.mutex);
  if (SlotOf(ref.id) >= shard.slots()) return Changed();
  PackedEntry& entry = shard.At(SlotOf(ref.id));
  if (entry.state != PackedEntry::kPresent || entry.generation != ref.generation) {
    return Changed();
  }
  const DirectoryUsage before = entry.Usage();
  MNEMO_RETURN_IF_ERROR(change(entry));
  ++entry.generation;
  Account(lanes, shard, entry, before);
  return EntryRef{ref.id, entry.generation};
}

}  // namespace

absl::StatusOr<Directory::RamChange> Directory::SetRam(EntryRef ref, const RamPlace& place) {
  CheckPlaces(place, std::nullopt);
  RamChange change;
  MNEMO_ASSIGN_OR_RETURN(change.ref,
                         ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) {
                           change.previous = entry.ram();
                           entry.set_ram(place);
                           return absl::OkStatus();
                         }));
  return change;
}

absl::StatusOr<Directory::DiskChange> Directory::SetDisk(EntryRef ref, const DiskPlace& place) {
  CheckPlaces(std::nullopt, place);
  DiskChange change;
  MNEMO_ASSIGN_OR_RETURN(change.ref,
                         ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) {
                           change.previous = entry.disk();
                           entry.set_disk(place);
                           return absl::OkStatus();
                         }));
  return change;
}

absl::StatusOr<Directory::RamChange> Directory::ClearRam(EntryRef ref) {
  RamChange change;
  MNEMO_ASSIGN_OR_RETURN(
      change.ref,
      ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) -> absl::Status {
        if (!entry.disk()) return absl::FailedPreconditionError("RAM is the part's only place");
        change.previous = entry.ram();
        entry.set_ram(std::nullopt);
        return absl::OkStatus();
      }));
  return change;
}

absl::StatusOr<Directory::DiskChange> Directory::ClearDisk(EntryRef ref) {
  DiskChange change;
  MNEMO_ASSIGN_OR_RETURN(
      change.ref,
      ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) -> absl::Status {
        if (!entry.ram()) return absl::FailedPreconditionError("disk is the part's only place");
        change.previous = entry.disk();
        entry.set_disk(std::nullopt);
        return absl::OkStatus();
      }));
  return change;
}

absl::StatusOr<EntryRef> Directory::SetPinned(EntryRef ref, bool pinned) {
  return ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) {
    entry.pinned = pinned ? 1 : 0;
    return absl::OkStatus();
  });
}

absl::StatusOr<EntryRef> Directory::SetExpiry(EntryRef ref, WallTime expires) {
  return ChangePresent(*lanes_, ShardOfId(ref.id), ref, [&](PackedEntry& entry) {
    entry.expires = SecondsUp(expires);
    return absl::OkStatus();
  });
}

std::optional<uint64_t> Directory::AddLease(EntryId id, uint64_t tenant) {
  const WallTime wall = clock_.Wall();
  DirectoryShard& shard = ShardOfId(id);
  MutexLock lock(shard.mutex);
  if (SlotOf(id) >= shard.slots()) return std::nullopt;
  PackedEntry& entry = shard.At(SlotOf(id));
  if (entry.state != PackedEntry::kPresent || entry.ExpiredAt(wall)) return std::nullopt;
  if (lanes_->Get(entry.lane).scope.tenant != tenant) return std::nullopt;
  if (entry.leases == kMaxLeases) return std::nullopt;
  ++entry.leases;
  return entry.payload_bytes;
}

bool Directory::DropLease(EntryId id, std::vector<EntryId>& new_leaves) {
  DirectoryShard& shard = ShardOfId(id);
  EntryId parent = kNoEntry;
  bool last = false;
  {
    MutexLock lock(shard.mutex);
    PackedEntry& entry = shard.At(SlotOf(id));
    MNEMO_CHECK(entry.leases > 0);
    --entry.leases;
    last = entry.leases == 0;
    // A part that was deleted under its lease kept its slot until now.
    if (last) parent = FreeIfUnused(*lanes_, shard, SlotOf(id));
  }
  UnlinkParent(parent, new_leaves);
  return last;
}

absl::StatusOr<DirectoryEntry> Directory::Remove(EntryRef ref, RemoveWhen when) {
  const WallTime wall = clock_.Wall();
  DirectoryShard& shard = ShardOfId(ref.id);
  MutexLock lock(shard.mutex);
  if (SlotOf(ref.id) >= shard.slots()) return Changed();
  PackedEntry& entry = shard.At(SlotOf(ref.id));
  if (entry.state != PackedEntry::kPresent || entry.generation != ref.generation) {
    return Changed();
  }
  if (when == RemoveWhen::kEvictable) {
    const bool cache = entry.durability == static_cast<uint16_t>(Durability::kCache);
    std::string_view obstacle;
    if (entry.leases > 0) obstacle = "leased";
    if (entry.pinned) obstacle = "pinned";
    if (entry.children > 0) obstacle = "the parent of a part that is here";
    if (!cache && !entry.ExpiredAt(wall)) obstacle = "of a class that is never dropped";
    if (!obstacle.empty()) {
      return absl::FailedPreconditionError(fmt::format("the part is {}", obstacle));
    }
  }
  const DirectoryEntry removed = Snapshot(shard, ref.id);
  const DirectoryUsage before = entry.Usage();
  ++entry.generation;
  entry.state = PackedEntry::kRemoved;
  Account(*lanes_, shard, entry, before);
  return removed;
}

void Directory::Recycle(EntryId id, std::vector<EntryId>& new_leaves) {
  DirectoryShard& shard = ShardOfId(id);
  EntryId parent = kNoEntry;
  {
    MutexLock lock(shard.mutex);
    PackedEntry& entry = shard.At(SlotOf(id));
    MNEMO_CHECK(entry.state == PackedEntry::kRemoved);
    entry.state = PackedEntry::kPlaceholder;
    parent = FreeIfUnused(*lanes_, shard, SlotOf(id));
  }
  UnlinkParent(parent, new_leaves);
}

}  // namespace mnemo

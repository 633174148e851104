#include "storage/block/demotion.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/block/part_encoding.h"

namespace mnemo {
namespace {

// Victims in a row that could not go before a caller is told that there is no
// room: busy gates and failing writes end soon, and the workers come again.
constexpr int kMaxFailures = 64;
// One sync for so much that moves from L3 to Disk.
constexpr uint64_t kBatchBytes = 8 * kMiB;
constexpr size_t kBatchParts = 64;

}  // namespace

bool Demotion::MakeRoom(Level level, uint64_t bytes) {
  const bool made = Free(level, bytes);
  core_.events.Deliver();
  return made;
}

bool Demotion::Free(Level level, uint64_t bytes) {
  uint64_t freed = 0;
  int failures = 0;
  while (freed < bytes && failures < kMaxFailures) {
    const std::optional<Fate> fate = DemoteNext(level, bytes - freed, freed);
    if (!fate) break;
    failures = *fate == Fate::kFailed ? failures + 1 : 0;
  }
  return freed >= bytes;
}

std::optional<Demotion::Victim> Demotion::NextVictim(Level level) {
  const std::optional<EntryId> id = core_.queues.Victim(level);
  if (!id) return std::nullopt;
  Victim victim;
  victim.id = *id;
  victim.hold = core_.gate.TryEnter(*id);
  if (!victim.hold) {
    core_.queues.Release(*id);
    return victim;
  }
  victim.entry = core_.directory.Get(*id);
  const bool here = victim.entry && victim.entry->state == EntryState::kPresent &&
                    (IsRam(level) ? victim.entry->ram && victim.entry->ram->level == level
                                  : victim.entry->disk && victim.entry->disk->level == level);
  if (!here) {
    // Expired: the sweep frees it. Until then it is nobody's victim.
    core_.queues.Remove(level, *id, /*evicted=*/false, 0);
    victim.entry.reset();
  }
  return victim;
}

std::optional<Demotion::Fate> Demotion::DemoteNext(Level level, uint64_t wanted, uint64_t& freed) {
  if (level == Level::kL3 && core_.disks().has_archive()) return DemoteL3Batch(wanted, freed);
  std::optional<Victim> victim = NextVictim(level);
  if (!victim) return std::nullopt;
  if (!victim->hold) return Fate::kFailed;
  if (!victim->entry) return Fate::kStays;
  const DirectoryEntry& entry = *victim->entry;
  const uint64_t bytes = IsRam(level) ? entry.ram->stored_bytes : entry.disk->stored_bytes;
  const Fate fate = IsRam(level) ? DemoteFromRam(entry) : DropFromDisk(entry, level);
  if (fate == Fate::kFreed) freed += bytes;
  if (fate == Fate::kFailed) core_.queues.Release(victim->id);
  return fate;
}

Demotion::Fate Demotion::DemoteFromRam(const DirectoryEntry& entry) {
  const Level level = entry.ram->level;
  if (level == Level::kL1 && core_.has_l2() && MoveToL2(entry)) {
    ++core_.tally.demoted[Index(level)];
    return Fate::kFreed;
  }
  // MoveToL2 may have found the bytes damaged, and dropped them.
  const std::optional<DirectoryEntry> now = core_.directory.Get(entry.ref.id);
  if (!now || !now->ram || now->ram->level != level) return Fate::kFreed;
  if (!now->disk) {
    const Admission admission = AdmitToDisk(core_.Signals(*now), core_.rules());
    if (!admission.admit) {
      const absl::Status removed = core_.Remove(now->ref, Directory::RemoveWhen::kEvictable, level);
      // Not evictable: leased meanwhile, or others hang on it, so it is worth
      // the disk.
      if (!absl::IsFailedPrecondition(removed)) {
        ++core_.tally.write_behind_skipped;
        return Fate::kFreed;
      }
    }
    const absl::Status written = WriteToDisk(*now);
    if (absl::IsDataLoss(written)) return Fate::kFreed;
    if (!written.ok()) {
      return core_.Remove(now->ref, Directory::RemoveWhen::kEvictable, level).ok() ? Fate::kFreed
                                                                                   : Fate::kFailed;
    }
  }
  const std::optional<DirectoryEntry> on_disk = core_.directory.Get(entry.ref.id);
  if (!on_disk || !on_disk->disk || !core_.LeaveRam(*on_disk).ok()) return Fate::kFailed;
  ++core_.tally.demoted[Index(level)];
  return Fate::kFreed;
}

bool Demotion::MoveToL2(const DirectoryEntry& entry) {
  const absl::StatusOr<PinnedBytes> exact =
      core_.Ram(Level::kL1).Get(StoredKey(), entry.ram->locator);
  if (!exact.ok()) return false;
  absl::StatusOr<EncodedPart> encoded = FormFor(core_, entry, *exact, Level::kL2);
  if (!encoded.ok()) {
    if (absl::IsDataLoss(encoded.status())) core_.DropDamaged(entry, Level::kL1);
    return false;
  }
  RamLevel& l2 = core_.Ram(Level::kL2);
  absl::StatusOr<Locator> locator = absl::ResourceExhaustedError("");
  // Others may take the room that was just made, but not for ever.
  for (int attempt = 0; attempt < 4 && !locator.ok(); ++attempt) {
    if (attempt > 0 && !Free(Level::kL2, encoded->size())) return false;
    locator = l2.Put(StoredKey(), BlockMetadata(), encoded->pieces());
  }
  if (!locator.ok()) return false;
  return core_.PlaceInRam(entry, RamPlace{Level::kL2, *locator, encoded->size(), encoded->form()})
      .ok();
}

absl::Status Demotion::WriteToDisk(const DirectoryEntry& entry) {
  MNEMO_ASSIGN_OR_RETURN(const PinnedBytes bytes,
                         core_.Ram(entry.ram->level).Get(StoredKey(), entry.ram->locator));
  // What decayed in RAM must not be kept as if it were sound.
  const absl::Status sound = VerifyPart(entry, bytes);
  const absl::StatusOr<EncodedPart> encoded =
      sound.ok() ? FormFor(core_, entry, bytes, Level::kL3) : sound;
  if (!encoded.ok()) {
    if (absl::IsDataLoss(encoded.status())) core_.DropDamaged(entry, entry.ram->level);
    return encoded.status();
  }
  MNEMO_RETURN_IF_ERROR(PutOnDisk(entry, Level::kL3, entry.durability, *encoded));
  ++core_.tally.write_behind;
  return absl::OkStatus();
}

absl::Status Demotion::PutOnDisk(const DirectoryEntry& entry, Level level, Durability instance,
                                 const EncodedPart& encoded) {
  const DiskPlace place{level, instance, encoded.size(), encoded.form()};
  MNEMO_RETURN_IF_ERROR(TakeOnDisk(place.level, place.stored_bytes));
  MNEMO_RETURN_IF_ERROR(PutTaken(entry, place, encoded));
  return core_.PlaceOnDisk(entry, place);
}

absl::Status Demotion::PutTaken(const DirectoryEntry& entry, const DiskPlace& place,
                                const EncodedPart& encoded) {
  const BlockMetadata metadata = core_.directory.MetadataOf(entry, place.stored_bytes, place.codec);
  absl::Status put = core_.disks().Put(place, entry.key.Stored(), metadata, encoded.pieces());
  if (!put.ok()) core_.disks().Give(place.level, place.stored_bytes);
  return put;
}

std::optional<Demotion::Fate> Demotion::DemoteL3Batch(uint64_t wanted, uint64_t& freed) {
  struct Copied {
    Victim victim;
    DiskPlace place;
  };
  std::vector<Copied> copied;
  std::array<bool, 3> touched{};
  uint64_t bytes = 0;
  std::optional<Fate> last;
  while (bytes < std::min(wanted, kBatchBytes) && copied.size() < kBatchParts) {
    std::optional<Victim> victim = NextVictim(Level::kL3);
    if (!victim) break;
    last = Fate::kStays;
    if (!victim->hold) {
      last = Fate::kFailed;
      break;
    }
    if (!victim->entry) continue;
    const DirectoryEntry& entry = *victim->entry;
    absl::StatusOr<DiskPlace> place = CopyToArchive(entry);
    if (place.ok()) {
      bytes += entry.disk->stored_bytes;
      touched[static_cast<size_t>(place->instance) - 1] = true;
      copied.push_back({*std::move(victim), *place});
      continue;
    }
    last = absl::IsDataLoss(place.status()) ? Fate::kFreed : DropFromDisk(entry, Level::kL3);
    if (*last == Fate::kFreed) freed += entry.disk->stored_bytes;
    // Disk may have room later, so it is not held for good.
    if (*last != Fate::kFreed) core_.queues.Release(victim->id);
    if (*last != Fate::kFreed) last = Fate::kFailed;
    break;
  }
  // Copy, sync, then delete: a power loss in between leaves both or the first.
  absl::Status synced;
  for (size_t i = 0; i < touched.size(); ++i) {
    if (!touched[i]) continue;
    const auto durability = static_cast<Durability>(i + 1);
    // The log of L3 first: what was written before a part must not be lost when
    // the part is not.
    synced.Update(core_.disks().Sync(Level::kL3, durability));
    synced.Update(core_.disks().Sync(Level::kDisk, durability));
  }
  for (Copied& copy : copied) {
    const DirectoryEntry& entry = *copy.victim.entry;
    if (synced.ok() && core_.PlaceOnDisk(entry, copy.place).ok()) {
      ++core_.tally.demoted[Index(Level::kL3)];
      freed += entry.disk->stored_bytes;
      last = Fate::kFreed;
      continue;
    }
    if (!synced.ok()) {
      // If the erasing fails too, a restart finds both copies and keeps one.
      core_.disks().Erase(copy.place, entry.key.Stored()).IgnoreError();
      core_.disks().Give(copy.place.level, copy.place.stored_bytes);
    }
    core_.queues.Release(copy.victim.id);
    last = Fate::kFailed;
  }
  return last;
}

absl::StatusOr<DiskPlace> Demotion::CopyToArchive(const DirectoryEntry& entry) {
  // Before the read: encoding hardly ever makes a part larger.
  const uint64_t before = entry.disk->stored_bytes;
  MNEMO_RETURN_IF_ERROR(TakeOnDisk(Level::kDisk, before));
  const absl::StatusOr<EncodedPart> encoded = ReadForArchive(entry);
  if (!encoded.ok()) {
    core_.disks().Give(Level::kDisk, before);
    return encoded.status();
  }
  const DiskPlace place{Level::kDisk, entry.durability, encoded->size(), encoded->form()};
  // What was lossless, of zeros for example, may be larger in few bits a value.
  core_.disks().Give(Level::kDisk, before);
  if (place.stored_bytes > before) {
    MNEMO_RETURN_IF_ERROR(TakeOnDisk(Level::kDisk, place.stored_bytes));
  } else {
    core_.disks().Take(Level::kDisk, place.stored_bytes);
  }
  MNEMO_RETURN_IF_ERROR(PutTaken(entry, place, *encoded));
  return place;
}

absl::StatusOr<EncodedPart> Demotion::ReadForArchive(const DirectoryEntry& entry) {
  const absl::StatusOr<PinnedBytes> stored = core_.disks().Get(*entry.disk, entry.key.Stored());
  absl::Status sound = stored.status();
  if (sound.ok()) sound = VerifyPart(entry, *stored);
  if (sound.ok()) {
    absl::StatusOr<EncodedPart> encoded = FormFor(core_, entry, *stored, Level::kDisk);
    if (encoded.ok()) return encoded;
    sound = encoded.status();
  }
  // With the gate held nobody else erased it.
  if (!absl::IsDataLoss(sound) && !absl::IsNotFound(sound)) return sound;
  core_.DropDamaged(entry, Level::kL3);
  return absl::DataLossError(sound.message());
}

absl::Status Demotion::TakeOnDisk(Level level, uint64_t stored_bytes) {
  for (int attempt = 0; attempt < 4; ++attempt) {
    if (core_.disks().TryTake(level, stored_bytes)) return absl::OkStatus();
    if (!Free(level, stored_bytes + DiskLevels::kOverheadBytes)) break;
  }
  if (core_.disks().TryTake(level, stored_bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      fmt::format("{}: {} of {} bytes are taken by parts that must stay", LevelLabel(level),
                  core_.disks().used(level), core_.disks().capacity(level)));
}

Demotion::Fate Demotion::DropFromDisk(const DirectoryEntry& entry, Level level) {
  if (entry.durability != Durability::kCache || entry.pinned) return Fate::kStays;
  if (entry.ram) {
    // What is in RAM may be dropped from there, when its time comes.
    if (!core_.LeaveDisk(entry).ok()) return Fate::kFailed;
    core_.tally.CountEvicted(level, entry.idle);
    return Fate::kFreed;
  }
  const absl::Status removed = core_.Remove(entry.ref, Directory::RemoveWhen::kEvictable, level);
  // Leased, or an ancestor: its policy holds it until that ends.
  if (absl::IsFailedPrecondition(removed)) return Fate::kStays;
  return absl::IsAborted(removed) ? Fate::kFailed : Fate::kFreed;
}

}  // namespace mnemo

#include "storage/block/part_changes.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kPage = 1024;

}  // namespace

std::optional<DirectoryEntry> PartChanges::EnterPresent(const PartKey& key, EntryGate::Hold& hold) {
  while (true) {
    const std::optional<DirectoryEntry> found = core_.directory.Find(key);
    if (!found || found->state != EntryState::kPresent) return std::nullopt;
    hold = core_.gate.Enter(found->ref.id);
    std::optional<DirectoryEntry> entry = core_.directory.Get(found->ref.id);
    if (entry && entry->state == EntryState::kPresent && entry->key == key) return entry;
    // It went while we waited, and may be back under another id.
    hold.End();
  }
}

absl::StatusOr<bool> PartChanges::EraseOne(const PartKey& key, Touched& touched) {
  EntryGate::Hold hold;
  const std::optional<DirectoryEntry> entry = EnterPresent(key, hold);
  if (!entry) return false;
  // First the bytes: if that fails, the part is still wholly there.
  if (entry->disk) {
    if (entry->disk->level == Level::kDisk && entry->disk->instance == Durability::kInterval) {
      // Two logs of one class: a delete in this one must not outlive a write
      // before it in the other.
      MNEMO_RETURN_IF_ERROR(core_.disks().Sync(Level::kL3, Durability::kInterval));
      touched[kArchivedInterval] = true;
    }
    MNEMO_RETURN_IF_ERROR(core_.disks().Erase(*entry->disk, key.Stored()));
    touched[static_cast<size_t>(entry->disk->instance)] = true;
  }
  const absl::Status removed =
      core_.Remove(entry->ref, Directory::RemoveWhen::kAlways, std::nullopt, /*disk_erased=*/true);
  if (absl::IsAborted(removed)) return false;  // it expired under our hands
  return true;
}

absl::Status PartChanges::SyncTouched(const Touched& touched) {
  absl::Status failed;
  for (size_t durability = 1; durability <= 3; ++durability) {
    if (!touched[durability]) continue;
    failed.Update(core_.disks().Sync(Level::kL3, static_cast<Durability>(durability)));
    if (core_.disks().has_archive()) {
      failed.Update(core_.disks().Sync(Level::kDisk, static_cast<Durability>(durability)));
    }
  }
  return failed;
}

absl::StatusOr<uint64_t> PartChanges::Erase(std::span<const PartKey> keys) {
  Touched touched{};
  uint64_t erased = 0;
  absl::Status failed;
  for (const PartKey& key : keys) {
    const absl::StatusOr<bool> was_there = EraseOne(key, touched);
    failed.Update(was_there.status());
    if (was_there.ok() && *was_there) ++erased;
  }
  core_.events.Deliver();
  // A class that may lose its last writes may lose its last deletes.
  touched[static_cast<size_t>(Durability::kCache)] = false;
  touched[static_cast<size_t>(Durability::kInterval)] = touched[kArchivedInterval];
  failed.Update(SyncTouched(touched));
  MNEMO_RETURN_IF_ERROR(failed);
  return erased;
}

absl::Status PartChanges::ForEach(
    const ListFilter& filter, const std::function<absl::Status(const DirectoryEntry&)>& change) {
  std::string after;
  do {
    for (const DirectoryEntry& entry : core_.directory.List(filter, after, kPage)) {
      MNEMO_RETURN_IF_ERROR(change(entry));
    }
    core_.events.Deliver();
  } while (!after.empty());
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> PartChanges::EraseScope(KeyScope scope,
                                                 const std::optional<SaltDigest>& salt) {
  ListFilter filter;
  filter.tenant = scope.tenant;
  filter.space = scope.space;
  filter.salt = salt;
  Touched touched{};
  uint64_t erased = 0;
  const auto erase = [&](const DirectoryEntry& entry) -> absl::Status {
    MNEMO_ASSIGN_OR_RETURN(const bool was_there, EraseOne(entry.key, touched));
    if (was_there) ++erased;
    return absl::OkStatus();
  };
  MNEMO_RETURN_IF_ERROR(ForEach(filter, erase));
  MNEMO_RETURN_IF_ERROR(SyncTouched(touched));
  return erased;
}

absl::Status PartChanges::WritePinned(const DirectoryEntry& entry, bool pinned) {
  BlockMetadata metadata =
      core_.directory.MetadataOf(entry, entry.disk->stored_bytes, entry.disk->codec);
  metadata.pinned = pinned;
  MNEMO_RETURN_IF_ERROR(core_.disks().UpdateMetadata(*entry.disk, entry.key.Stored(), metadata));
  return core_.directory.SetPinned(entry.ref, pinned).status();
}

absl::StatusOr<bool> PartChanges::PinOne(const PartKey& key, bool pinned, Touched& touched) {
  EntryGate::Hold hold;
  std::optional<DirectoryEntry> entry = EnterPresent(key, hold);
  if (!entry || entry->pinned == pinned) return false;
  const uint64_t quota = core_.options().l3_bytes + core_.options().archive_bytes;
  const auto limit = static_cast<uint64_t>(core_.options().pin_share * static_cast<double>(quota));
  const uint64_t taken = core_.directory.TenantUsage(key.scope.tenant).pinned_bytes;
  if (pinned && taken + entry->payload_bytes > limit) {
    return absl::ResourceExhaustedError(
        fmt::format("pin_share: {} bytes are pinned of at most {}", taken, limit));
  }
  if (!entry->disk) {
    MNEMO_RETURN_IF_ERROR(demotion_.WriteToDisk(*entry));
    entry = core_.directory.Get(entry->ref.id);
    if (!entry || !entry->disk) return absl::NotFoundError("the part expired");
  }
  MNEMO_RETURN_IF_ERROR(WritePinned(*entry, pinned));
  touched[static_cast<size_t>(entry->disk->instance)] = true;
  if (!pinned) core_.queues.Release(entry->ref.id);
  return true;
}

absl::StatusOr<uint64_t> PartChanges::SetPinned(std::span<const PartKey> keys, bool pinned) {
  Touched touched{};
  uint64_t changed = 0;
  absl::Status failed;
  for (const PartKey& key : keys) {
    const absl::StatusOr<bool> one = PinOne(key, pinned, touched);
    failed = one.status();
    if (!failed.ok()) break;
    if (*one) ++changed;
  }
  core_.events.Deliver();
  // Also what was done before a failure is made to last.
  failed.Update(SyncTouched(touched));
  MNEMO_RETURN_IF_ERROR(failed);
  return changed;
}

absl::StatusOr<bool> PartChanges::WriteBehind(const DirectoryEntry& listed) {
  if (listed.disk || !listed.ram) return false;
  EntryGate::Hold hold;
  const std::optional<DirectoryEntry> entry = EnterPresent(listed.key, hold);
  if (!entry || entry->disk || !entry->ram) return false;
  const absl::Status written = demotion_.WriteToDisk(*entry);
  // Damaged: it is gone, and nothing was to be written.
  if (absl::IsDataLoss(written)) return false;
  MNEMO_RETURN_IF_ERROR(written);
  return true;
}

absl::StatusOr<uint64_t> PartChanges::Flush(KeyScope scope) {
  ListFilter filter;
  if (scope.tenant != 0) filter.tenant = scope.tenant;
  if (scope.tenant != 0 && scope.space != 0) filter.space = scope.space;
  uint64_t written = 0;
  const auto flush = [&](const DirectoryEntry& entry) -> absl::Status {
    MNEMO_ASSIGN_OR_RETURN(const bool was_written, WriteBehind(entry));
    if (was_written) ++written;
    return absl::OkStatus();
  };
  MNEMO_RETURN_IF_ERROR(ForEach(filter, flush));
  MNEMO_RETURN_IF_ERROR(core_.disks().SyncAll());
  return written;
}

void PartChanges::FlushWithinRoom(MonoTime deadline) {
  for (const bool admitted : {true, false}) {
    const auto flush = [&](const DirectoryEntry& entry) -> absl::Status {
      if (core_.time().Mono() >= deadline) return absl::DeadlineExceededError("");
      if (entry.disk || !entry.ram) return absl::OkStatus();
      const Admission admission = AdmitToDisk(core_.Signals(entry), core_.rules());
      const uint64_t room = core_.disks().capacity(Level::kL3) - core_.disks().used(Level::kL3);
      if (admission.admit != admitted || room < entry.ram->stored_bytes + kMaxPartBytes / 64) {
        return absl::OkStatus();
      }
      return WriteBehind(entry).status();
    };
    // What is not written is cache, and may be lost.
    if (!ForEach(ListFilter(), flush).ok()) return;
  }
}

}  // namespace mnemo

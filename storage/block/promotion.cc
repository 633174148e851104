#include "storage/block/promotion.h"

#include "storage/block/part_encoding.h"

namespace mnemo {

bool Promotion::Suggest(EntryId id) {
  MutexLock lock(mutex_);
  if (queue_.size() >= kMaxWaiting || !queued_.insert(id).second) return false;
  queue_.push_back(id);
  return true;
}

bool Promotion::waiting() const {
  MutexLock lock(mutex_);
  return !queue_.empty();
}

bool Promotion::Step() {
  EntryId id = kNoEntry;
  {
    MutexLock lock(mutex_);
    if (queue_.empty()) return false;
    id = queue_.front();
    queue_.pop_front();
    queued_.erase(id);
  }
  {
    // A busy part is being moved; its next use suggests it again.
    const EntryGate::Hold hold = core_.gate.TryEnter(id);
    const std::optional<DirectoryEntry> entry =
        hold ? core_.directory.Get(id) : std::optional<DirectoryEntry>();
    if (entry && entry->state == EntryState::kPresent && entry->nearest() != Level::kL1) {
      Promote(*entry);
    }
  }
  core_.events.Deliver();
  return true;
}

void Promotion::Promote(const DirectoryEntry& entry) {
  const Level from = entry.nearest();
  const absl::StatusOr<PinnedBytes> stored =
      entry.ram ? core_.Ram(from).Get(StoredKey(), entry.ram->locator)
                : core_.disks().Get(*entry.disk, entry.key.Stored());
  if (!stored.ok()) {
    // A read meets the same, and knows what to do.
    return;
  }
  const absl::StatusOr<EncodedPart> form = FormForL1(core_, entry, *stored);
  if (absl::IsDataLoss(form.status())) core_.DropDamaged(entry, from);
  if (!form.ok()) return;
  RamLevel& l1 = core_.Ram(Level::kL1);
  absl::StatusOr<Locator> locator = l1.Put(StoredKey(), BlockMetadata(), form->pieces());
  if (!locator.ok() && demotion_.Free(Level::kL1, form->size())) {
    locator = l1.Put(StoredKey(), BlockMetadata(), form->pieces());
  }
  if (!locator.ok()) return;
  if (core_.PlaceInRam(entry, RamPlace{Level::kL1, *locator, form->size(), form->form()}).ok()) {
    ++core_.tally.promoted[Index(from)];
  }
}

}  // namespace mnemo

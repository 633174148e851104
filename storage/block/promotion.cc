#include "storage/block/promotion.h"

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

absl::StatusOr<EncodedPart> Promotion::Load(const DirectoryEntry& entry) {
  const Level from = entry.nearest();
  const absl::StatusOr<PinnedBytes> stored =
      entry.ram ? core_.Ram(from).Get(StoredKey(), entry.ram->locator)
                : core_.disks().Get(*entry.disk, entry.key.Stored());
  // Where this fails, a read meets the same, and knows what to do.
  if (!stored.ok()) return stored.status();
  absl::StatusOr<EncodedPart> form = FormForL1(core_, entry, *stored);
  if (absl::IsDataLoss(form.status())) core_.DropDamaged(entry, from);
  return form;
}

bool Promotion::HasRoom(uint64_t bytes) const {
  const double bound =
      core_.options().high_watermark * static_cast<double>(core_.Capacity(Level::kL1));
  return static_cast<double>(core_.Used(Level::kL1) + bytes) <= bound;
}

PrefetchOutcome Promotion::Prefetch(const PartKey& key, PrefetchOrigin origin) {
  const std::optional<DirectoryEntry> seen = core_.directory.Find(key);
  if (!seen || seen->state != EntryState::kPresent) return PrefetchOutcome::kAbsent;
  if (seen->ram) return PrefetchOutcome::kInRam;
  if (!HasRoom(seen->payload_bytes)) return PrefetchOutcome::kNoRoom;
  PrefetchOutcome outcome = PrefetchOutcome::kAbsent;
  {
    // Waited for: whoever asked once does not ask again.
    const EntryGate::Hold hold = core_.gate.Enter(seen->ref.id);
    const std::optional<DirectoryEntry> entry = core_.directory.Get(seen->ref.id);
    if (entry && entry->state == EntryState::kPresent && entry->key == key) {
      outcome = entry->ram ? PrefetchOutcome::kInRam : BringIntoL1(*entry);
    }
  }
  if (outcome == PrefetchOutcome::kBrought) core_.prefetched.Set(seen->ref.id, origin);
  core_.events.Deliver();
  return outcome;
}

PrefetchOutcome Promotion::BringIntoL1(const DirectoryEntry& entry) {
  const Level from = entry.nearest();
  const absl::StatusOr<EncodedPart> form = Load(entry);
  if (!form.ok()) return PrefetchOutcome::kFailed;
  // Others have written meanwhile.
  if (!HasRoom(form->size())) return PrefetchOutcome::kNoRoom;
  const absl::StatusOr<Locator> locator =
      core_.Ram(Level::kL1).Put(StoredKey(), BlockMetadata(), form->pieces());
  if (!locator.ok()) return PrefetchOutcome::kNoRoom;
  const RamPlace place{Level::kL1, *locator, form->size(), form->form()};
  if (!core_.PlaceInRam(entry, place).ok()) return PrefetchOutcome::kBusy;
  ++core_.tally.promoted[Index(from)];
  return PrefetchOutcome::kBrought;
}

void Promotion::Promote(const DirectoryEntry& entry) {
  const Level from = entry.nearest();
  const absl::StatusOr<EncodedPart> form = Load(entry);
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

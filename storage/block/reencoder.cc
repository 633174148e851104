#include "storage/block/reencoder.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/block/part_encoding.h"
#include "storage/block/space_codecs.h"

namespace mnemo {
namespace {

// Whether a copy in `form` at `level` is to be looked at more closely.
bool IsAnother(uint8_t form, const SpacePolicy& policy, Level level) {
  if (!IsLossyForm(form)) return IsLossy(FormAt(policy, level));
  return IsBelowFloor(policy, BitsOf(static_cast<StoredForm>(form))) ||
         MayBeCut(form, policy, level);
}

// Whether some part of a space of this policy may have to change.
bool MayDiffer(const SpacePolicy& policy, const DirectoryUsage& usage) {
  if (policy.floor_bits_per_value != 0) return usage.parts != 0;
  for (size_t form = 0; form < kCodecSlots; ++form) {
    if (IsLossyForm(static_cast<uint8_t>(form)) && usage.codec_stored_bytes[form] != 0) return true;
  }
  return false;
}

}  // namespace

std::optional<Reencoder::Look> Reencoder::Begin() {
  while (true) {
    Look look;
    {
      MutexLock lock(mutex_);
      if (look_) return look_;
      const std::optional<KeyScope> next = core_.spaces.NextChanged(core_.time().Mono());
      if (!next) return std::nullopt;
      look.scope = *next;
      look_ = look;
    }
    const std::shared_ptr<const Space> space = core_.spaces.Find(look.scope);
    const DirectoryUsage usage = core_.directory.Usage(look.scope);
    const bool may_differ = space != nullptr && MayDiffer(space->spec.policy, usage);
    look.parts = usage.parts;
    MutexLock lock(mutex_);
    look_.reset();
    if (!may_differ) continue;
    look_ = look;
    return look_;
  }
}

void Reencoder::End(const Look& look) {
  MutexLock lock(mutex_);
  if (!look.after.empty()) {
    look_ = look;
    return;
  }
  look_.reset();
  core_.spaces.Rest(look.scope, core_.time().Mono() + kRest);
}

bool Reencoder::Step() {
  if (working_.exchange(true)) return false;
  std::optional<Look> look = Begin();
  if (look) {
    ListFilter filter;
    filter.tenant = look->scope.tenant;
    filter.space = look->scope.space;
    uint64_t encoded_bytes = 0;
    const std::vector<DirectoryEntry> page = core_.directory.List(filter, look->after, kStepParts);
    for (size_t i = 0; i < page.size(); ++i) {
      LookAt(page[i], encoded_bytes);
      ++look->looked_at;
      if (encoded_bytes < kStepBytes || i + 1 == page.size()) continue;
      look->after = page[i].key.Stored().bytes();
      break;
    }
    End(*look);
  }
  working_ = false;
  core_.events.Deliver();
  return look.has_value() && !look->after.empty();
}

void Reencoder::LookAt(const DirectoryEntry& listed, uint64_t& encoded_bytes) {
  const std::shared_ptr<const Space> space = core_.spaces.Find(listed.key.scope);
  if (space == nullptr) return;
  const SpacePolicy& policy = space->spec.policy;
  const auto in_ram = [&](const DirectoryEntry& entry) {
    // What was put into L1 stays there as it is.
    return entry.ram && (entry.ram->level == Level::kL2 || IsLossyForm(entry.ram->codec)) &&
           IsAnother(entry.ram->codec, policy, entry.ram->level);
  };
  const auto on_disk = [&](const DirectoryEntry& entry) {
    return entry.disk && IsAnother(entry.disk->codec, policy, entry.disk->level);
  };
  if (!in_ram(listed) && !on_disk(listed)) return;
  // One that is moved just now takes its form there.
  const EntryGate::Hold hold = core_.gate.TryEnter(listed.ref.id);
  if (!hold) return core_.spaces.Changed(listed.key.scope);
  std::optional<DirectoryEntry> entry = core_.directory.Get(listed.ref.id);
  if (!entry || entry->state != EntryState::kPresent || entry->key != listed.key) return;
  if (in_ram(*entry)) {
    ReplaceInL2(*entry, encoded_bytes);
    entry = core_.directory.Get(listed.ref.id);
    if (!entry || entry->state != EntryState::kPresent) return;
  }
  if (on_disk(*entry)) ReplaceOnDisk(*entry, encoded_bytes);
}

void Reencoder::Count(const absl::Status& replaced) {
  if (replaced.ok()) ++core_.tally.reencoded;
}

void Reencoder::ReplaceInL2(const DirectoryEntry& entry, uint64_t& encoded_bytes) {
  const Level level = entry.ram->level;
  if (IsBelowFloor(core_, entry.key.scope, entry.ram->codec)) {
    return core_.DropBelowFloor(entry, level);
  }
  RamLevel& ram = core_.Ram(level);
  const absl::StatusOr<PinnedBytes> stored = ram.Get(StoredKey(), entry.ram->locator);
  if (!stored.ok()) return;
  const absl::StatusOr<EncodedPart> encoded = FormFor(core_, entry, *stored, level);
  if (absl::IsDataLoss(encoded.status())) return core_.DropDamaged(entry, level);
  if (!encoded.ok() || encoded->form() == entry.ram->codec) return;
  encoded_bytes += entry.payload_bytes;
  const absl::StatusOr<Locator> locator = ram.Put(StoredKey(), BlockMetadata(), encoded->pieces());
  // Full: what leaves it takes its form then.
  if (!locator.ok()) return;
  const RamPlace place{level, *locator, encoded->size(), encoded->form()};
  Count(core_.PlaceInRam(entry, place));
}

void Reencoder::ReplaceOnDisk(const DirectoryEntry& entry, uint64_t& encoded_bytes) {
  const Level level = entry.disk->level;
  if (IsBelowFloor(core_, entry.key.scope, entry.disk->codec)) {
    // Of what has to be on disk, and is good enough in RAM, that is written in its place.
    const bool stays = entry.pinned || entry.durability != Durability::kCache;
    if (stays && entry.ram && !IsBelowFloor(core_, entry.key.scope, entry.ram->codec)) {
      return Count(demotion_.WriteToDisk(entry));
    }
    return core_.DropBelowFloor(entry, level);
  }
  const absl::StatusOr<PinnedBytes> stored = core_.disks().Get(*entry.disk, entry.key.Stored());
  absl::Status sound = stored.status();
  if (sound.ok()) sound = VerifyPart(entry, *stored);
  const absl::StatusOr<EncodedPart> encoded =
      sound.ok() ? FormFor(core_, entry, *stored, level) : sound;
  if (absl::IsDataLoss(encoded.status()) || absl::IsNotFound(encoded.status())) {
    return core_.DropDamaged(entry, level);
  }
  if (!encoded.ok() || encoded->form() == entry.disk->codec || !IsLossyForm(encoded->form())) {
    return;
  }
  encoded_bytes += entry.payload_bytes;
  Count(demotion_.PutOnDisk(entry, level, entry.disk->instance, *encoded));
}

Reencoding Reencoder::ProgressOf(KeyScope scope) const {
  const uint64_t parts = core_.directory.Usage(scope).parts;
  MutexLock lock(mutex_);
  if (look_ && look_->scope == scope) {
    // Parts that came since the look began are looked at, too.
    return {.under_way = true,
            .looked_at = look_->looked_at,
            .parts = std::max(look_->parts, look_->looked_at)};
  }
  return {.under_way = core_.spaces.IsChanged(scope), .parts = parts};
}

uint64_t Reencoder::PartsLeft() const {
  uint64_t left = 0;
  for (const KeyScope& scope : core_.spaces.AllChanged()) {
    left += core_.directory.Usage(scope).parts;
  }
  MutexLock lock(mutex_);
  if (look_) left += look_->parts - std::min(look_->parts, look_->looked_at);
  return left;
}

}  // namespace mnemo

#include "storage/block/directory_shard.h"

#include <algorithm>
#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo {

std::optional<RamPlace> PackedEntry::ram() const {
  if (ram_level == 0) return std::nullopt;
  return RamPlace{.level = static_cast<Level>(ram_level - 1),
                  .locator = {locator_or_deadline},
                  .stored_bytes = ram_bytes,
                  .codec = ram_codec};
}

void PackedEntry::set_ram(const std::optional<RamPlace>& place) {
  ram_level = place ? static_cast<uint16_t>(Index(place->level) + 1) & 3 : 0;
  locator_or_deadline = place ? place->locator.value : 0;
  ram_bytes = place ? static_cast<uint32_t>(place->stored_bytes) : 0;
  ram_codec = place ? place->codec & 15 : 0;
}

std::optional<DiskPlace> PackedEntry::disk() const {
  if (disk_place == 0) return std::nullopt;
  return DiskPlace{.level = disk_place > 3 ? Level::kDisk : Level::kL3,
                   .instance = static_cast<Durability>((disk_place - 1) % 3 + 1),
                   .stored_bytes = disk_bytes,
                   .codec = disk_codec};
}

void PackedEntry::set_disk(const std::optional<DiskPlace>& place) {
  disk_place = 0;
  disk_bytes = place ? static_cast<uint32_t>(place->stored_bytes) : 0;
  disk_codec = place ? place->codec & 15 : 0;
  if (!place) return;
  const int far = place->level == Level::kDisk ? 3 : 0;
  disk_place = static_cast<uint16_t>(far + static_cast<int>(place->instance)) & 7;
}

DirectoryUsage PackedEntry::Usage() const {
  DirectoryUsage usage;
  if (state == kPending) usage.pending = 1;
  if (state != kPresent) return usage;
  usage.parts = 1;
  usage.exact_bytes = payload_bytes;
  usage.pinned_bytes = pinned ? payload_bytes : 0;
  const auto count = [&](const auto& place) {
    const size_t level = Index(place.level);
    usage.level_parts[level] = 1;
    usage.level_bytes[level] = place.stored_bytes;
    usage.level_exact_bytes[level] = payload_bytes;
    usage.codec_stored_bytes[place.codec] += place.stored_bytes;
    usage.codec_exact_bytes[place.codec] += payload_bytes;
    return level;
  };
  size_t nearest = 0;
  if (const auto place = disk()) nearest = count(*place);
  if (const auto place = ram()) nearest = count(*place);
  usage.nearest_parts[nearest] = 1;
  usage.nearest_exact_bytes[nearest] = payload_bytes;
  usage.pinned_parts[nearest] = pinned;
  usage.pinned_exact_bytes[nearest] = usage.pinned_bytes;
  return usage;
}

uint32_t KeySlabs::Add(std::string_view key) {
  SizeClass& keys = classes_[ClassOf(key.size())];
  const size_t stride = StrideOf(key.size());
  uint32_t ref;
  if (keys.free_head != kNone) {
    ref = keys.free_head;
    std::memcpy(&keys.free_head, At(ref, key.size()), sizeof(uint32_t));
  } else {
    // A reference is a page and eight bits within it.
    const size_t per_page = std::min<size_t>(kPageBytes / stride, 256);
    if (keys.pages.empty() || keys.used_of_last == per_page) {
      keys.pages.push_back(std::make_unique<char[]>(per_page * stride));
      keys.used_of_last = 0;
      memory_bytes_ += per_page * stride;
    }
    ref = static_cast<uint32_t>(keys.pages.size() - 1) << 8 | keys.used_of_last++;
  }
  std::memcpy(keys.pages[ref >> 8].get() + (ref & 0xff) * stride, key.data(), key.size());
  return ref;
}

void KeySlabs::Remove(uint32_t ref, size_t size) {
  SizeClass& keys = classes_[ClassOf(size)];
  char* const at = keys.pages[ref >> 8].get() + (ref & 0xff) * StrideOf(size);
  std::memcpy(at, &keys.free_head, sizeof(uint32_t));
  keys.free_head = ref;
}

uint32_t DirectoryShard::Find(uint64_t hash, uint32_t lane, std::string_view key) const {
  if (table_.empty()) return kNoSlot;
  const size_t mask = table_.size() - 1;
  const uint32_t tag = TagOf(hash);
  for (size_t i = hash & mask; table_[i] != kEmpty; i = (i + 1) & mask) {
    if ((table_[i] & 0xff000000) != tag) continue;
    const uint32_t slot = table_[i] & 0xffffff;
    const PackedEntry& entry = At(slot);
    if (entry.lane == lane && KeyOf(entry) == key) return slot;
  }
  return kNoSlot;
}

void DirectoryShard::PrefetchTable(uint64_t hash) const {
  if (!table_.empty()) __builtin_prefetch(&table_[hash & (table_.size() - 1)]);
}

uint32_t DirectoryShard::PrefetchEntry(uint64_t hash) const {
  if (table_.empty()) return kNoSlot;
  const size_t mask = table_.size() - 1;
  const uint32_t tag = TagOf(hash);
  for (size_t i = hash & mask; table_[i] != kEmpty; i = (i + 1) & mask) {
    if ((table_[i] & 0xff000000) != tag) continue;
    const uint32_t slot = table_[i] & 0xffffff;
    const auto* const entry = reinterpret_cast<const char*>(&At(slot));
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + sizeof(PackedEntry) - 1);
    return slot;
  }
  return kNoSlot;
}

void DirectoryShard::PrefetchKey(uint32_t slot) const {
  const std::string_view key = KeyOf(At(slot));
  __builtin_prefetch(key.data());
  __builtin_prefetch(key.data() + key.size() - 1);
}

void DirectoryShard::InsertWord(uint64_t hash, uint32_t slot) {
  const size_t mask = table_.size() - 1;
  size_t i = hash & mask;
  while (table_[i] != kEmpty) i = (i + 1) & mask;
  table_[i] = TagOf(hash) | slot;
  ++in_table_;
}

void DirectoryShard::Grow() {
  std::vector<uint32_t> old = std::move(table_);
  table_.assign(std::max<size_t>(16, old.size() * 2), kEmpty);
  in_table_ = 0;
  for (const uint32_t word : old) {
    if (word != kEmpty) InsertWord(HashOf(word & 0xffffff), word & 0xffffff);
  }
}

absl::StatusOr<uint32_t> DirectoryShard::Insert(uint64_t hash, uint32_t lane,
                                                std::string_view key) {
  uint32_t slot = free_head_;
  if (slot != kNoSlot) {
    free_head_ = At(slot).parent;
  } else {
    if (slots_ == kMaxSlots) {
      return absl::ResourceExhaustedError("a shard holds 16,777,215 parts, and no more fit");
    }
    slot = slots_++;
    if (slot % kPageEntries == 0) {
      pages_.emplace_back(new PackedEntry[kPageEntries]());
      children_.emplace_back(new EntryId[kPageEntries]);
    }
  }
  set_child(slot, kNoEntry);
  // The generation goes on, so that no reference to the slot's former entry
  // fits this one.
  PackedEntry& entry = At(slot);
  const uint32_t generation = entry.generation + 1;
  entry = PackedEntry{};
  entry.generation = generation;
  entry.lane = lane;
  entry.key = keys_.Add(key);
  entry.key_size_less_1 = static_cast<uint16_t>(key.size() - 1) & 63;
  entry.parent = kNoEntry;
  if (uint64_t{in_table_ + 1} * 5 > table_.size() * 4) Grow();
  InsertWord(hash, slot);
  return slot;
}

void DirectoryShard::Detach(uint32_t slot) {
  const uint64_t hash = HashOf(slot);
  const size_t mask = table_.size() - 1;
  size_t hole = hash & mask;
  while (table_[hole] != (TagOf(hash) | slot)) {
    MNEMO_CHECK(table_[hole] != kEmpty);
    hole = (hole + 1) & mask;
  }
  // Backward shift: whatever was pushed past the hole moves into it, so that no
  // tombstones lengthen the probes.
  for (size_t i = (hole + 1) & mask; table_[i] != kEmpty; i = (i + 1) & mask) {
    const size_t home = HashOf(table_[i] & 0xffffff) & mask;
    if (((i - home) & mask) >= ((i - hole) & mask)) {
      table_[hole] = table_[i];
      hole = i;
    }
  }
  table_[hole] = kEmpty;
  --in_table_;
  At(slot).state = PackedEntry::kDetached;
}

void DirectoryShard::Free(uint32_t slot) {
  if (At(slot).state != PackedEntry::kDetached) Detach(slot);
  PackedEntry& entry = At(slot);
  keys_.Remove(entry.key, entry.key_size_less_1 + 1u);
  entry.state = PackedEntry::kFree;
  entry.parent = free_head_;
  free_head_ = slot;
}

uint64_t DirectoryShard::MemoryBytes() const {
  return table_.capacity() * sizeof(uint32_t) +
         pages_.size() * kPageEntries * (sizeof(PackedEntry) + sizeof(EntryId)) +
         pages_.capacity() * sizeof(pages_[0]) + children_.capacity() * sizeof(children_[0]) +
         keys_.MemoryBytes() + sizeof(DirectoryShard);
}

}  // namespace mnemo

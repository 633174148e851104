// One shard of the directory: entries and keys in slabs, and a hash table of
// slots over them. Knows the form of things, not their meaning.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/checksum.h"
#include "storage/base/mutex.h"
#include "storage/block/block_key.h"
#include "storage/block/directory.h"

namespace mnemo {

// 80 bytes. Times are whole seconds since the epoch (0: never), uses are ticks
// of 0.1 s since the directory was made.
struct PackedEntry {
  enum State : uint16_t {
    kFree = 0,
    kPlaceholder = 1,  // a name with children or leases, and nothing stored
    kDetached = 2,     // a placeholder that is not found by its name any more
    kPending = 3,
    kPresent = 4,
    kRemoved = 5,
  };

  uint32_t lane;
  uint32_t key;  // in KeySlabs
  Digest128 digest;
  uint64_t locator_or_deadline;  // in RAM; kPending: nanos of the reservation's end
  uint32_t payload_bytes;
  uint32_t ram_bytes;
  uint32_t disk_bytes;
  uint32_t depth;
  uint32_t created;
  uint32_t expires;
  uint32_t generation;
  uint32_t last_use;
  EntryId parent;
  uint32_t children;
  uint16_t tokens;
  uint8_t ram_codec : 4;
  uint8_t disk_codec : 4;
  uint8_t hits;
  uint16_t state : 3;
  uint16_t durability : 2;
  uint16_t ram_level : 2;   // 0: none, 1: L1, 2: L2
  uint16_t disk_place : 3;  // 0: none, 1 + 3 * (level is Disk) + (instance - 1)
  uint16_t key_size_less_1 : 6;
  uint16_t leases : 15;
  uint16_t pinned : 1;

  std::optional<RamPlace> ram() const;
  void set_ram(const std::optional<RamPlace>& place);
  std::optional<DiskPlace> disk() const;
  void set_disk(const std::optional<DiskPlace>& place);
  bool ExpiredAt(WallTime now) const {
    return expires != 0 && int64_t{expires} * 1'000'000'000 <= now.nanos;
  }
  // What it adds to its space's usage.
  DirectoryUsage Usage() const;
};
static_assert(sizeof(PackedEntry) == 80);

// Keys by size, rounded up to 4 bytes, in pages of 4 KiB.
class KeySlabs {
 public:
  uint32_t Add(std::string_view key);
  void Remove(uint32_t ref, size_t size);
  const char* At(uint32_t ref, size_t size) const {
    const SizeClass& keys = classes_[ClassOf(size)];
    return keys.pages[ref >> 8].get() + (ref & 0xff) * StrideOf(size);
  }
  uint64_t MemoryBytes() const { return memory_bytes_; }

 private:
  static constexpr size_t kPageBytes = 4096;
  static constexpr uint32_t kNone = 0xffffffff;
  struct SizeClass {
    std::vector<std::unique_ptr<char[]>> pages;
    uint32_t free_head = kNone;  // linked through the unused keys themselves
    uint32_t used_of_last = 0;
  };
  static size_t ClassOf(size_t size) { return (size - 1) / 4; }
  static size_t StrideOf(size_t size) { return (ClassOf(size) + 1) * 4; }

  std::array<SizeClass, BlockKey::kMaxSize / 4> classes_;
  uint64_t memory_bytes_ = 0;
};

// Everything but `mutex` is guarded by it.
class DirectoryShard {
 public:
  static constexpr uint32_t kNoSlot = 0xffffffff;
  static constexpr uint32_t kMaxSlots = (1u << 24) - 1;

  explicit DirectoryShard(uint16_t shard) : shard_(shard) {}

  mutable Mutex mutex;

  static uint64_t Hash(uint32_t lane, std::string_view key) {
    return Checksum64(AsBytes(key), lane * uint64_t{0x9e3779b97f4a7c15});
  }

  uint32_t Find(uint64_t hash, uint32_t lane, std::string_view key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Look-ups fetched ahead: first the table, then the likely entry (kNoSlot:
  // surely absent), then its key.
  void PrefetchTable(uint64_t hash) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  uint32_t PrefetchEntry(uint64_t hash) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void PrefetchKey(uint32_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // A new entry, zero but for lane, key, generation and parent (kNoEntry); its
  // state is the caller's to set. Errors: kResourceExhausted.
  absl::StatusOr<uint32_t> Insert(uint64_t hash, uint32_t lane, std::string_view key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // The entry is not found by its name any more, and becomes kDetached.
  void Detach(uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Detaches, and makes the slot free for another.
  void Free(uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // `slot` below slots().
  PackedEntry& At(uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return pages_[slot / kPageEntries][slot % kPageEntries];
  }
  const PackedEntry& At(uint32_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return pages_[slot / kPageEntries][slot % kPageEntries];
  }
  // The child that was linked to the entry last, which may have gone; kNoEntry: none yet.
  EntryId child(uint32_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return children_[slot / kPageEntries][slot % kPageEntries];
  }
  void set_child(uint32_t slot, EntryId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    children_[slot / kPageEntries][slot % kPageEntries] = id;
  }
  std::string_view KeyOf(const PackedEntry& entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const size_t size = entry.key_size_less_1 + 1u;
    return {keys_.At(entry.key, size), size};
  }
  EntryId IdOf(uint32_t slot) const { return uint32_t{shard_} << 24 | slot; }
  uint32_t slots() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return slots_; }
  uint64_t MemoryBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Exact bytes of the present entries.
  uint64_t exact_bytes ABSL_GUARDED_BY(mutex) = 0;

 private:
  static constexpr uint32_t kPageEntries = 64;
  static constexpr uint32_t kEmpty = 0xffffffff;

  // A table word is an 8-bit tag of the hash over a slot.
  static uint32_t TagOf(uint64_t hash) { return static_cast<uint32_t>(hash >> 56) << 24; }
  void InsertWord(uint64_t hash, uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  uint64_t HashOf(uint32_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return Hash(At(slot).lane, KeyOf(At(slot)));
  }
  void Grow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  const uint16_t shard_;
  // Open addressing with linear probing; a power of two, at most 4/5 full.
  std::vector<uint32_t> table_ ABSL_GUARDED_BY(mutex);
  uint32_t in_table_ ABSL_GUARDED_BY(mutex) = 0;
  std::vector<std::unique_ptr<PackedEntry[]>> pages_ ABSL_GUARDED_BY(mutex);
  // Beside the entries, since 4 bytes more in them would make 88 of 80.
  std::vector<std::unique_ptr<EntryId[]>> children_ ABSL_GUARDED_BY(mutex);
  uint32_t slots_ ABSL_GUARDED_BY(mutex) = 0;
  uint32_t free_head_ ABSL_GUARDED_BY(mutex) = kNoSlot;  // linked through `parent`
  KeySlabs keys_ ABSL_GUARDED_BY(mutex);
};

}  // namespace mnemo

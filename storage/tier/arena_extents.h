// The bookkeeping of an arena: which granules are free, and which extents a
// value has. Plain data structures without locks; the arena guards them.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "storage/tier/block_level.h"

namespace mnemo {

inline constexpr uint32_t kGranulesPerSlab = 4096;

// A bit set that finds its first member in O(log64 n).
class SummaryBitmap {
 public:
  // All `size` bits are `filled`.
  SummaryBitmap(uint64_t size, bool filled);

  bool Test(uint64_t i) const { return levels_[0][i >> 6] >> (i & 63) & 1; }
  void Set(uint64_t i);
  void Clear(uint64_t i);
  std::optional<uint64_t> First() const;
  uint64_t MemoryBytes() const;

 private:
  // levels_[0] is the set; a bit of levels_[k + 1] says that the word below
  // has one.
  std::vector<std::vector<uint64_t>> levels_;
};

// One extent in 32 bits: the lowest set bit is its order (granules = 1 <<
// order), what is above it the first granule. Reaches 2^31 granules: 1 TiB.
class Extent {
 public:
  Extent() = default;
  Extent(uint32_t granule, uint32_t order) : code_(2 * granule + (1u << order)) {}
  uint32_t order() const { return static_cast<uint32_t>(std::countr_zero(code_)); }
  uint32_t granule() const { return (code_ - (1u << order())) / 2; }
  uint32_t granules() const { return 1u << order(); }

 private:
  uint32_t code_ = 0;
};

// Buddy allocation over bitmaps: one per order, a set bit is a free block.
class BuddyBitmaps {
 public:
  static constexpr uint32_t kMaxOrder = 12;  // 2 MiB in granules of 512 B

  explicit BuddyBitmaps(uint32_t slabs);

  uint64_t free_granules() const { return free_granules_; }
  // Takes an extent of at most 1 << max_order granules: the largest there is,
  // at the lowest address. Requires free_granules() > 0.
  Extent Take(uint32_t max_order);
  // Takes a slab known to be wholly free.
  void TakeSlab(uint32_t slab);
  // Gives an extent back, merged with its free buddies.
  void Give(Extent extent);
  uint64_t MemoryBytes() const;

 private:
  std::vector<SummaryBitmap> free_;  // by order
  uint64_t free_granules_;
};

// What the arena knows of a value; 32 bytes.
struct ValueRecord {
  static constexpr uint32_t kInlineExtents = 3;
  enum State : uint32_t { kUnused = 0, kReserved = 1, kSealed = 2, kFreed = 3 };

  uint32_t generation = 0;  // changes when the record is used again
  uint32_t pins : 30 = 0;
  uint32_t state : 2 = kUnused;
  uint64_t size = 0;
  uint32_t extent_count = 0;
  // The extents, or where there are more than three the pointer to them.
  uint32_t inline_or_pointer[kInlineExtents] = {};

  std::span<const Extent> extents() const;
};
static_assert(sizeof(ValueRecord) == 32);

// Records by locator (slot u32 | generation u32, so that a stale one is told).
class ValueTable {
 public:
  ValueTable() = default;
  ~ValueTable();
  ValueTable(const ValueTable&) = delete;
  ValueTable& operator=(const ValueTable&) = delete;

  // A reserved record with these extents.
  Locator Add(uint64_t size, std::span<const Extent> extents);
  // Null if the locator is stale.
  ValueRecord* Find(Locator locator);
  const ValueRecord* Find(Locator locator) const {
    return const_cast<ValueTable*>(this)->Find(locator);
  }
  void Remove(Locator locator);
  uint64_t MemoryBytes() const { return memory_bytes_; }

 private:
  static constexpr uint32_t kPageRecords = 256;

  ValueRecord& At(uint32_t slot) { return pages_[slot / kPageRecords][slot % kPageRecords]; }

  std::vector<std::unique_ptr<ValueRecord[]>> pages_;
  std::vector<uint32_t> unused_;
  uint32_t slots_ = 0;
  uint64_t memory_bytes_ = 0;
};

}  // namespace mnemo

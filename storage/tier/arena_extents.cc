#include "storage/tier/arena_extents.h"

#include <algorithm>
#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo {

SummaryBitmap::SummaryBitmap(uint64_t size, bool filled) {
  do {
    const uint64_t words = (size + 63) / 64;
    std::vector<uint64_t> level(words, filled ? ~uint64_t{0} : 0);
    if (filled && size % 64 != 0) level.back() = (uint64_t{1} << (size % 64)) - 1;
    levels_.push_back(std::move(level));
    size = words;
  } while (size > 1);
}

void SummaryBitmap::Set(uint64_t i) {
  for (std::vector<uint64_t>& level : levels_) {
    uint64_t& word = level[i >> 6];
    const bool had_any = word != 0;
    word |= uint64_t{1} << (i & 63);
    if (had_any) return;
    i >>= 6;
  }
}

void SummaryBitmap::Clear(uint64_t i) {
  for (std::vector<uint64_t>& level : levels_) {
    uint64_t& word = level[i >> 6];
    word &= ~(uint64_t{1} << (i & 63));
    if (word != 0) return;
    i >>= 6;
  }
}

std::optional<uint64_t> SummaryBitmap::First() const {
  if (levels_.back()[0] == 0) return std::nullopt;
  uint64_t i = 0;
  for (size_t k = levels_.size(); k-- > 0;) {
    i = i << 6 | static_cast<uint64_t>(std::countr_zero(levels_[k][i]));
  }
  return i;
}

uint64_t SummaryBitmap::MemoryBytes() const {
  uint64_t bytes = 0;
  for (const std::vector<uint64_t>& level : levels_) bytes += level.size() * sizeof(uint64_t);
  return bytes;
}

BuddyBitmaps::BuddyBitmaps(uint32_t slabs) : free_granules_(uint64_t{slabs} * kGranulesPerSlab) {
  for (uint32_t order = 0; order <= kMaxOrder; ++order) {
    free_.emplace_back(free_granules_ >> order, order == kMaxOrder);
  }
}

Extent BuddyBitmaps::Take(uint32_t max_order) {
  std::optional<uint64_t> block;
  uint32_t order = max_order;
  while (order <= kMaxOrder && !(block = free_[order].First())) ++order;
  if (!block) {
    for (order = max_order; !block;) block = free_[--order].First();
  }
  free_[order].Clear(*block);
  // The upper half goes back at each split, so that low addresses fill first.
  while (order > max_order) {
    --order;
    *block *= 2;
    free_[order].Set(*block + 1);
  }
  free_granules_ -= uint64_t{1} << order;
  return Extent(static_cast<uint32_t>(*block << order), order);
}

void BuddyBitmaps::TakeSlab(uint32_t slab) {
  MNEMO_CHECK(free_[kMaxOrder].Test(slab));
  free_[kMaxOrder].Clear(slab);
  free_granules_ -= kGranulesPerSlab;
}

void BuddyBitmaps::Give(Extent extent) {
  uint32_t order = extent.order();
  uint64_t block = extent.granule() >> order;
  free_granules_ += extent.granules();
  while (order < kMaxOrder && free_[order].Test(block ^ 1)) {
    free_[order].Clear(block ^ 1);
    block >>= 1;
    ++order;
  }
  free_[order].Set(block);
}

uint64_t BuddyBitmaps::MemoryBytes() const {
  uint64_t bytes = 0;
  for (const SummaryBitmap& bitmap : free_) bytes += bitmap.MemoryBytes();
  return bytes;
}

std::span<const Extent> ValueRecord::extents() const {
  static_assert(sizeof(Extent) == sizeof(uint32_t));
  if (extent_count <= kInlineExtents) {
    return {reinterpret_cast<const Extent*>(inline_or_pointer), extent_count};
  }
  const Extent* extents;
  std::memcpy(&extents, inline_or_pointer, sizeof(extents));
  return {extents, extent_count};
}

ValueTable::~ValueTable() {
  for (uint32_t slot = 0; slot < slots_; ++slot) {
    const ValueRecord& record = At(slot);
    if (record.state != ValueRecord::kUnused && record.extent_count > ValueRecord::kInlineExtents) {
      delete[] record.extents().data();
    }
  }
}

Locator ValueTable::Add(uint64_t size, std::span<const Extent> extents) {
  uint32_t slot;
  if (!unused_.empty()) {
    slot = unused_.back();
    unused_.pop_back();
  } else {
    slot = slots_++;
    if (slot % kPageRecords == 0) {
      pages_.push_back(std::make_unique<ValueRecord[]>(kPageRecords));
      memory_bytes_ += kPageRecords * sizeof(ValueRecord);
    }
  }
  ValueRecord& record = At(slot);
  // Never 0, so that no locator is.
  if (++record.generation == 0) record.generation = 1;
  record.pins = 0;
  record.state = ValueRecord::kReserved;
  record.size = size;
  record.extent_count = static_cast<uint32_t>(extents.size());
  if (extents.size() <= ValueRecord::kInlineExtents) {
    std::memcpy(record.inline_or_pointer, extents.data(), extents.size_bytes());
  } else {
    Extent* const copy = new Extent[extents.size()];
    std::copy(extents.begin(), extents.end(), copy);
    std::memcpy(record.inline_or_pointer, &copy, sizeof(copy));
    memory_bytes_ += extents.size_bytes();
  }
  return {uint64_t{record.generation} << 32 | slot};
}

ValueRecord* ValueTable::Find(Locator locator) {
  const uint32_t slot = static_cast<uint32_t>(locator.value);
  if (slot >= slots_) return nullptr;
  ValueRecord& record = At(slot);
  const bool live = record.state != ValueRecord::kUnused &&
                    record.generation == static_cast<uint32_t>(locator.value >> 32);
  return live ? &record : nullptr;
}

void ValueTable::Remove(Locator locator) {
  ValueRecord* const record = Find(locator);
  MNEMO_CHECK(record != nullptr);
  if (record->extent_count > ValueRecord::kInlineExtents) {
    memory_bytes_ -= record->extents().size_bytes();
    delete[] record->extents().data();
  }
  record->state = ValueRecord::kUnused;
  record->extent_count = 0;
  unused_.push_back(static_cast<uint32_t>(locator.value));
}

}  // namespace mnemo

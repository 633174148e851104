// Which parts were brought into RAM ahead of use, and not read since.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "storage/base/level.h"
#include "storage/block/block_store.h"

namespace mnemo {

// Thread-safe, without locks: a read costs one load. 512 KiB. Forgets: of two parts that
// share a slot the earlier is not known any more, and the mark of a part that went counts
// for the next one with its id. So it is for figures alone.
class PrefetchMarks {
 public:
  PrefetchMarks() {
    for (std::atomic<uint64_t>& slot : slots_) slot.store(kNone, std::memory_order_relaxed);
  }
  PrefetchMarks(const PrefetchMarks&) = delete;
  PrefetchMarks& operator=(const PrefetchMarks&) = delete;

  void Set(EntryId id, PrefetchOrigin origin) {
    SlotOf(id).store(uint64_t{static_cast<uint8_t>(origin)} << 32 | id, std::memory_order_relaxed);
  }
  // The part was read: why it had been brought, the first time.
  std::optional<PrefetchOrigin> Take(EntryId id) {
    std::atomic<uint64_t>& slot = SlotOf(id);
    uint64_t value = slot.load(std::memory_order_relaxed);
    if (value == kNone || static_cast<EntryId>(value) != id) return std::nullopt;
    if (!slot.compare_exchange_strong(value, kNone, std::memory_order_relaxed)) {
      return std::nullopt;
    }
    return static_cast<PrefetchOrigin>(value >> 32);
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  static constexpr int kBits = 16;

  std::atomic<uint64_t>& SlotOf(EntryId id) {
    // The shard is in the high bits and the slot in the low ones: both must count.
    return slots_[id * uint32_t{0x9e3779b1} >> (32 - kBits)];
  }

  std::array<std::atomic<uint64_t>, size_t{1} << kBits> slots_;
};

}  // namespace mnemo

// The links by which policies order entries, kept by entry id.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "storage/base/level.h"

namespace mnemo {

// 28 bytes an entry, whatever levels it is at: one set of links for RAM (L1 or
// L2) and one for disk (L3 or Disk). Not thread-safe.
//
// Counts of children and weights are single bytes: a count that does not fit
// (255 and more) continues in a side table, and a weight is a coarse float.
class EntryLinkTable {
 public:
  enum class Queue : uint8_t { kNone = 0, kQueued = 1, kParked = 2, kHeld = 3 };

  struct Links {
    EntryId prev = kNoEntry;
    EntryId next = kNoEntry;
    std::array<uint8_t, 2> resident_children = {0, 0};  // at the two levels of the set
    uint8_t weight = 0;                                 // see EncodeWeight
    uint8_t queue : 2 = 0;                              // Queue
    uint8_t far_level : 1 = 0;                          // L2 or Disk, not L1 or L3
    uint8_t frequency : 2 = 0;                          // uses, saturating; SIEVE uses one bit
    uint8_t main_queue : 1 = 0;                         // S3-FIFO
    uint8_t left_window : 1 = 0;
    uint8_t used_while_out : 1 = 0;  // touched while parked or held
  };
  struct Node {
    EntryId parent = kNoEntry;
    std::array<Links, 2> sets;
  };
  static_assert(sizeof(Links) == 12);
  static_assert(sizeof(Node) == 28);

  // Grows the table as needed; references stay valid.
  Node& At(EntryId id);
  // Null if the table never held it.
  Node* Find(EntryId id);

  // Children of `id` that are resident at `level`.
  uint32_t ResidentChildren(EntryId id, Level level);
  void AddResidentChild(EntryId id, Level level);
  // Returns how many are left.
  uint32_t RemoveResidentChild(EntryId id, Level level);

  static constexpr size_t SetOf(Level level) { return IsRam(level) ? 0 : 1; }
  static constexpr bool IsFar(Level level) { return level == Level::kL2 || level == Level::kDisk; }

  // Whether `node` is in a queue of `level`, or held or parked there.
  static bool IsAt(const Node& node, Level level) {
    const Links& links = node.sets[SetOf(level)];
    return links.queue != static_cast<uint8_t>(Queue::kNone) && links.far_level == IsFar(level);
  }

  // Five bits of exponent and three of mantissa: within 12.5 % below.
  static uint8_t EncodeWeight(uint64_t bytes);
  static uint64_t DecodeWeight(uint8_t weight);

  uint64_t MemoryBytes() const { return memory_bytes_; }

 private:
  static constexpr uint32_t kPageNodes = 128;
  static constexpr uint32_t kSlotBits = 24;
  static constexpr uint8_t kSpilled = 255;

  static uint64_t SpillKey(EntryId id, Level level) {
    return uint64_t{id} << 2 | static_cast<uint64_t>(level);
  }

  std::array<std::vector<std::unique_ptr<Node[]>>, 256> pages_;  // by shard, then slot
  absl::flat_hash_map<uint64_t, uint32_t> spilled_;              // counts from 255 on
  uint64_t memory_bytes_ = 0;
};

}  // namespace mnemo

// The eviction policies of a node, one a level, behind one lock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "storage/base/level.h"
#include "storage/base/mutex.h"
#include "storage/policy/entry_links.h"
#include "storage/policy/eviction_policy.h"

namespace mnemo {

// Thread-safe; calls are short, and none of them calls out. How the composition
// uses it:
//
//   part published or moved to a level   Insert(level, ...)
//   part left a level                    Remove(level, ...), before its id is recycled
//   match or get                         Touch(ids of the chain, root first)
//   room needed                          Victim(level): the id is held. Look it up, then
//     - moved or dropped: Remove(level, id, evicted = true)
//     - leased, pinned, or not to be dropped because it has children at other
//       levels: leave it held, and Release it when that ends. Check after
//       Victim: an end that came before the check was seen by it, and one that
//       comes after releases the hold. No scan meets it in between.
//     - not now (a failed write): Release.
class EvictionQueues {
 public:
  // One policy kind for each level.
  explicit EvictionQueues(const std::array<PolicyKind, kLevelCount>& kinds);

  // As in EvictionPolicy. An entry is at most at one RAM level and one disk
  // level: inserting it at another level of the same medium moves it.
  void Insert(Level level, EntryId id, EntryId parent, uint64_t bytes, uint64_t fingerprint);
  void Remove(Level level, EntryId id, bool evicted, uint64_t fingerprint);
  // Forgets `id` at every level.
  void RemoveAll(EntryId id);
  // A use at every level where they are.
  void Touch(std::span<const EntryId> chain);
  std::optional<EntryId> Victim(Level level);
  // At every level where it is held.
  void Release(EntryId id);
  void MarkLeftWindow(EntryId id);

  uint64_t entries(Level level) const;
  uint64_t MemoryBytes() const;

 private:
  EvictionPolicy& At(Level level) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return *policies_[Index(level)];
  }

  mutable Mutex mutex_;  // innermost
  EntryLinkTable links_ ABSL_GUARDED_BY(mutex_);
  std::array<std::unique_ptr<EvictionPolicy>, kLevelCount> policies_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

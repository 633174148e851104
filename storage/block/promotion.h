// Brings parts nearer that are used where they lie.
#pragma once

#include <deque>

#include "absl/container/flat_hash_set.h"
#include "storage/base/mutex.h"
#include "storage/block/demotion.h"
#include "storage/block/part_encoding.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe. Readers suggest, workers promote: no reader waits for it.
class Promotion {
 public:
  // Suggestions beyond so many are dropped: the next use suggests again.
  static constexpr size_t kMaxWaiting = 1024;

  Promotion(StoreCore& core, Demotion& demotion) : core_(core), demotion_(demotion) {}

  // False if it was suggested already, or too many wait.
  bool Suggest(EntryId id);
  // As BlockStore::Prefetch.
  PrefetchOutcome Prefetch(const PartKey& key, PrefetchOrigin origin);
  // Promotes the next suggested part to L1. False if none waits.
  bool Step();
  bool waiting() const;

 private:
  // The part as it would lie in L1. Held. Errors: those of reading its nearest copy; one
  // that is damaged is dropped.
  absl::StatusOr<EncodedPart> Load(const DirectoryEntry& entry);
  // Both held.
  void Promote(const DirectoryEntry& entry);
  PrefetchOutcome BringIntoL1(const DirectoryEntry& entry);
  // Whether L1 takes so much more without a part having to leave it.
  bool HasRoom(uint64_t bytes) const;

  StoreCore& core_;
  Demotion& demotion_;
  mutable Mutex mutex_;  // innermost
  std::deque<EntryId> queue_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<EntryId> queued_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

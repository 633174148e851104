// What is in RAM of the ranges that searches look at.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/segment_set.h"
#include "server/engine/call.h"
#include "server/engine/reuse_order.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/context/context_reader.h"
#include "storage/context/context_segments.h"

namespace mnemo {

inline constexpr size_t kSegmentKinds = 3;
inline constexpr size_t Index(SegmentKind kind) { return static_cast<size_t>(kind); }

// A set of segments for each range of 131,072 tokens that somebody searches:
// those that are stored, and behind them flat ones of what no segment covers
// yet. Both are read from the store when they are asked for, and flat ones read
// on when the context has grown: appends need not know of it, and after a
// restart there is nothing to repair. A stored segment that is damaged is left
// out, with what lies behind it, and told of. Their bytes are lent by the cache of
// chunks; where they exceed the capacity, those go that are used least often, so
// that of a context that does not fit as much stays as can (docs/decisions/0096);
// those that searches hold stay alive with them (0074, 0089). Thread-safe.
class ContextRangeCache {
 public:
  // Told of a range whose stored segments cannot be used; called without a lock,
  // on the thread of whoever asked for the range.
  using DamageObserver = std::function<void(const ContextRecord&, uint64_t range)>;

  // Borrows all.
  ContextRangeCache(const ContextReader& reader, const ContextSegments& segments,
                    ChunkCache& chunks, const Clock& clock, const Kernels& kernels,
                    uint64_t capacity_bytes, DamageObserver on_damage)
      : reader_(reader),
        segments_(segments),
        chunks_(chunks),
        clock_(clock),
        kernels_(kernels),
        capacity_bytes_(capacity_bytes),
        on_damage_(std::move(on_damage)) {}

  // The range's segments with at least its first `rows` rows. Blocks on the disk;
  // of several callers one reads and the others wait for it.
  // Errors: the store's; kCancelled, kDeadlineExceeded.
  absl::StatusOr<std::shared_ptr<SegmentSet>> Range(const CallContext& call,
                                                    const ContextRecord& context, uint64_t range,
                                                    uint32_t rows);
  // Ranges [first, end) of a context, those that are in RAM before the others:
  // what they find tells how little the others have to be asked for.
  std::vector<uint64_t> InOrder(uint64_t context_id, uint64_t first, uint64_t end) const;
  // After segments of `set` were replaced and stored: counts its bytes anew. A
  // set that took its place meanwhile goes, since it was read before that.
  void Replaced(uint64_t context_id, uint64_t range, const SegmentSet& set);
  // Gives back what is held of a context that was deleted.
  void Forget(uint64_t context_id);

  struct Held {
    uint32_t segments = 0;
    uint64_t bytes = 0;
  };
  Held held(uint64_t context_id) const;

  struct KindFigures {
    uint64_t segments = 0;
    uint64_t rows = 0;
    uint64_t bytes = 0;
  };
  // By kind. O(segments held).
  std::array<KindFigures, kSegmentKinds> by_kind() const;

 private:
  struct Entry {
    std::shared_ptr<SegmentSet> set;
    bool filling = false;  // by one caller, without the mutex
    uint64_t bytes = 0;
  };
  using Key = ReuseOrder::Key;

  absl::Status Load(const ContextRecord& context, uint64_t range, SegmentSet& set) const;
  absl::Status Fill(const CallContext& call, const ContextRecord& context, uint64_t range,
                    uint32_t rows, SegmentSet& set) const;
  absl::StatusOr<Entry*> FindOrMake(const ContextRecord& context, const Key& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountLocked(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseLocked(std::map<Key, Entry>::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After `newest` was filled.
  void EvictLocked(const Key& newest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ContextReader& reader_;
  const ContextSegments& segments_;
  ChunkCache& chunks_;
  const Clock& clock_;
  const Kernels& kernels_;
  const uint64_t capacity_bytes_;
  const DamageObserver on_damage_;

  mutable Mutex mutex_;  // never across the store; before those of the chunks
  CondVar filled_;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  ReuseOrder order_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// How many rows from the first the segments of a snapshot cover that are sealed.
uint32_t SealedRows(const SegmentSnapshot& snapshot);

}  // namespace mnemo

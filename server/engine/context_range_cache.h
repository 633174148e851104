// Embeddings of contexts in RAM, where searches scan them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "index/vector/growing_segment.h"
#include "server/engine/call.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/context/context_reader.h"

namespace mnemo {

// A flat segment for each range of 131,072 tokens that somebody searches, read
// from the store when it is asked for and read on when the context has grown:
// appends need not know of it, and after a restart there is nothing to repair.
// The ranges used longest ago go when their bytes exceed the capacity; those
// that searches hold stay alive with them (docs/decisions/0089). Thread-safe.
class ContextRowCache {
 public:
  ContextRowCache(const ContextReader& reader, const Clock& clock, const Kernels& kernels,
                  uint64_t capacity_bytes)
      : reader_(reader), clock_(clock), kernels_(kernels), capacity_bytes_(capacity_bytes) {}

  // The range's segment with at least its first `rows` rows. Blocks on the disk;
  // of several callers one reads and the others wait for it.
  // Errors: the store's; kCancelled, kDeadlineExceeded.
  absl::StatusOr<std::shared_ptr<const GrowingSegment>> Range(const CallContext& call,
                                                              const ContextRecord& context,
                                                              uint64_t range, uint32_t rows);
  // Gives back what is held of a context that was deleted.
  void Forget(uint64_t context_id);

  struct Held {
    uint32_t segments = 0;
    uint64_t bytes = 0;
  };
  Held held() const;
  Held held(uint64_t context_id) const;

 private:
  struct Entry {
    std::shared_ptr<GrowingSegment> segment;
    bool filling = false;  // by one caller, without the mutex
    uint64_t used = 0;     // the turn of its last use; 0: none yet
    uint64_t bytes = 0;
  };
  using Key = std::pair<uint64_t, uint64_t>;  // context id, range

  absl::Status Fill(const CallContext& call, const ContextRecord& context, uint64_t range,
                    uint32_t rows, GrowingSegment& segment) const;
  absl::StatusOr<Entry*> FindOrMake(const ContextRecord& context, const Key& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EvictLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ContextReader& reader_;
  const Clock& clock_;
  const Kernels& kernels_;
  const uint64_t capacity_bytes_;

  mutable Mutex mutex_;  // never across the store
  CondVar filled_;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Key> by_use_ ABSL_GUARDED_BY(mutex_);  // the longest ago first
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo

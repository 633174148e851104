// Embeddings of whole chunks in RAM: level L1 of contexts.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "storage/base/mutex.h"
#include "storage/context/chunk.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// Thread-safe. Whole chunks never change, so nothing here is ever stale. Least
// recently used out first, in each of 16 parts by itself.
class ChunkCache {
 public:
  using RowsPtr = std::shared_ptr<const ChunkRows>;  // readers outlive eviction: 0082

  explicit ChunkCache(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  RowsPtr Find(KeyScope scope, uint64_t chunk);
  bool Contains(KeyScope scope, uint64_t chunk) const;
  void Insert(KeyScope scope, uint64_t chunk, RowsPtr rows);
  // O(chunks in the cache).
  void EraseContext(KeyScope scope);
  uint64_t used_bytes() const;
  // So much of the capacity is somebody else's, until the next call.
  void Lend(uint64_t bytes);

 private:
  static constexpr size_t kParts = 16;
  using Key = std::pair<std::pair<uint64_t, uint64_t>, uint64_t>;  // tenant, context; chunk
  struct Entry {
    Key key;
    RowsPtr rows;
  };
  struct Part {
    mutable Mutex mutex;
    std::list<Entry> entries ABSL_GUARDED_BY(mutex);  // most recently used first
    absl::flat_hash_map<Key, std::list<Entry>::iterator> by_key ABSL_GUARDED_BY(mutex);
    uint64_t bytes ABSL_GUARDED_BY(mutex) = 0;

    // The least recently used, until `capacity` is kept; to be freed without the
    // mutex.
    std::list<Entry> Evict(uint64_t capacity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  };
  static Key KeyOf(KeyScope scope, uint64_t chunk) { return {{scope.tenant, scope.space}, chunk}; }
  static uint64_t BytesOf(const ChunkRows& rows) { return rows.rows().size() + kEntryBytes; }
  Part& PartOf(const Key& key) { return parts_[absl::HashOf(key) % kParts]; }
  const Part& PartOf(const Key& key) const { return parts_[absl::HashOf(key) % kParts]; }

  static constexpr uint64_t kEntryBytes = 256;  // of list, map and object
  uint64_t part_bytes() const {
    return (capacity_bytes_ - std::min(capacity_bytes_, lent_bytes_.load())) / kParts;
  }

  const uint64_t capacity_bytes_;
  std::atomic<uint64_t> lent_bytes_ = 0;
  std::array<Part, kParts> parts_;
};

}  // namespace mnemo

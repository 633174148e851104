// Immutable pieces of contexts in RAM, as long as there is room.
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
#include "storage/tier/stored_key.h"

namespace mnemo {

// Values that never change, by context and number, so that nothing here is ever
// stale. Value has memory_bytes(). Thread-safe. Least recently used out first, in
// each of 16 parts by itself.
template <typename Value>
class ContextLru {
 public:
  using Ptr = std::shared_ptr<const Value>;  // readers outlive eviction: 0082

  explicit ContextLru(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  Ptr Find(KeyScope scope, uint64_t number) {
    const Key key = KeyOf(scope, number);
    Part& part = PartOf(key);
    MutexLock lock(part.mutex);
    const auto found = part.by_key.find(key);
    if (found == part.by_key.end()) return nullptr;
    part.entries.splice(part.entries.begin(), part.entries, found->second);
    return found->second->value;
  }

  bool Contains(KeyScope scope, uint64_t number) const {
    const Key key = KeyOf(scope, number);
    const Part& part = PartOf(key);
    MutexLock lock(part.mutex);
    return part.by_key.contains(key);
  }

  void Insert(KeyScope scope, uint64_t number, Ptr value) {
    const uint64_t bytes = BytesOf(*value);
    if (bytes > part_bytes()) return;
    const Key key = KeyOf(scope, number);
    Part& part = PartOf(key);
    // Freed outside of the lock.
    std::list<Entry> evicted;
    MutexLock lock(part.mutex);
    if (part.by_key.contains(key)) return;
    part.entries.push_front({key, std::move(value)});
    part.by_key[key] = part.entries.begin();
    part.bytes += bytes;
    evicted = part.Evict(part_bytes());
  }

  // O(values in the cache).
  void EraseContext(KeyScope scope) {
    for (Part& part : parts_) {
      MutexLock lock(part.mutex);
      for (auto it = part.entries.begin(); it != part.entries.end();) {
        if (it->key.first != std::pair(scope.tenant, scope.space)) {
          ++it;
          continue;
        }
        part.bytes -= BytesOf(*it->value);
        part.by_key.erase(it->key);
        it = part.entries.erase(it);
      }
    }
  }

  uint64_t used_bytes() const {
    uint64_t bytes = 0;
    for (const Part& part : parts_) {
      MutexLock lock(part.mutex);
      bytes += part.bytes;
    }
    return bytes;
  }

  // So much of the capacity is somebody else's, until the next call.
  void Lend(uint64_t bytes) {
    lent_bytes_ = bytes;
    for (Part& part : parts_) {
      std::list<Entry> evicted;
      MutexLock lock(part.mutex);
      evicted = part.Evict(part_bytes());
    }
  }

 private:
  static constexpr size_t kParts = 16;
  using Key = std::pair<std::pair<uint64_t, uint64_t>, uint64_t>;  // tenant, context; number
  struct Entry {
    Key key;
    Ptr value;
  };
  struct Part {
    mutable Mutex mutex;
    std::list<Entry> entries ABSL_GUARDED_BY(mutex);  // most recently used first
    absl::flat_hash_map<Key, typename std::list<Entry>::iterator> by_key ABSL_GUARDED_BY(mutex);
    uint64_t bytes ABSL_GUARDED_BY(mutex) = 0;

    // The least recently used, until `capacity` is kept; to be freed without the
    // mutex.
    std::list<Entry> Evict(uint64_t capacity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
      std::list<Entry> evicted;
      while (bytes > capacity) {
        bytes -= BytesOf(*entries.back().value);
        by_key.erase(entries.back().key);
        evicted.splice(evicted.end(), entries, std::prev(entries.end()));
      }
      return evicted;
    }
  };
  static Key KeyOf(KeyScope scope, uint64_t number) {
    return {{scope.tenant, scope.space}, number};
  }
  static uint64_t BytesOf(const Value& value) { return value.memory_bytes() + kEntryBytes; }
  Part& PartOf(const Key& key) { return parts_[absl::HashOf(key) % kParts]; }
  const Part& PartOf(const Key& key) const { return parts_[absl::HashOf(key) % kParts]; }
  uint64_t part_bytes() const {
    return (capacity_bytes_ - std::min(capacity_bytes_, lent_bytes_.load())) / kParts;
  }

  static constexpr uint64_t kEntryBytes = 256;  // of list, map and object
  const uint64_t capacity_bytes_;
  std::atomic<uint64_t> lent_bytes_ = 0;
  std::array<Part, kParts> parts_;
};

}  // namespace mnemo

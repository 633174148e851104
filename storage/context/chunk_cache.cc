#include "storage/context/chunk_cache.h"

namespace mnemo {

ChunkCache::RowsPtr ChunkCache::Find(KeyScope scope, uint64_t chunk) {
  const Key key = KeyOf(scope, chunk);
  Part& part = PartOf(key);
  MutexLock lock(part.mutex);
  const auto found = part.by_key.find(key);
  if (found == part.by_key.end()) return nullptr;
  part.entries.splice(part.entries.begin(), part.entries, found->second);
  return found->second->rows;
}

bool ChunkCache::Contains(KeyScope scope, uint64_t chunk) const {
  const Key key = KeyOf(scope, chunk);
  const Part& part = PartOf(key);
  MutexLock lock(part.mutex);
  return part.by_key.contains(key);
}

std::list<ChunkCache::Entry> ChunkCache::Part::Evict(uint64_t capacity) {
  std::list<Entry> evicted;
  while (bytes > capacity) {
    bytes -= BytesOf(*entries.back().rows);
    by_key.erase(entries.back().key);
    evicted.splice(evicted.end(), entries, std::prev(entries.end()));
  }
  return evicted;
}

void ChunkCache::Insert(KeyScope scope, uint64_t chunk, RowsPtr rows) {
  const uint64_t bytes = BytesOf(*rows);
  if (bytes > part_bytes()) return;
  const Key key = KeyOf(scope, chunk);
  Part& part = PartOf(key);
  // Freed outside of the lock.
  std::list<Entry> evicted;
  MutexLock lock(part.mutex);
  if (part.by_key.contains(key)) return;
  part.entries.push_front({key, std::move(rows)});
  part.by_key[key] = part.entries.begin();
  part.bytes += bytes;
  evicted = part.Evict(part_bytes());
}

void ChunkCache::Lend(uint64_t bytes) {
  lent_bytes_ = bytes;
  for (Part& part : parts_) {
    std::list<Entry> evicted;
    MutexLock lock(part.mutex);
    evicted = part.Evict(part_bytes());
  }
}

void ChunkCache::EraseContext(KeyScope scope) {
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (auto it = part.entries.begin(); it != part.entries.end();) {
      if (it->key.first != std::pair(scope.tenant, scope.space)) {
        ++it;
        continue;
      }
      part.bytes -= BytesOf(*it->rows);
      part.by_key.erase(it->key);
      it = part.entries.erase(it);
    }
  }
}

uint64_t ChunkCache::used_bytes() const {
  uint64_t bytes = 0;
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    bytes += part.bytes;
  }
  return bytes;
}

}  // namespace mnemo

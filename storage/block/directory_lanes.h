// What many parts share, kept once: tenant, space, salt and part id.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "storage/base/mutex.h"
#include "storage/block/block_key.h"
#include "storage/block/directory.h"

namespace mnemo {

struct Lane {
  KeyScope scope;
  SaltDigest salt{};
  PartId part;

  static Lane Of(const PartKey& key) { return {key.scope, key.salt, key.part}; }
  friend bool operator==(const Lane&, const Lane&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Lane& lane) {
    return H::combine(std::move(h), lane.scope.tenant, lane.scope.space, lane.salt, lane.part);
  }
};

// Lanes by small numbers, counted by reference: every entry holds one, and so
// does every look-up while it runs, so that a number never changes its meaning
// under somebody. Also keeps what each space uses. Thread-safe; its lock is
// taken inside those of shards.
class LaneTable {
 public:
  // The lane's number, made if need be, with one more reference.
  uint32_t Acquire(const Lane& lane);
  // The same if it is there.
  std::optional<uint32_t> AcquireIfPresent(const Lane& lane);
  // Every lane that `filter` lets through (its key prefix aside), each with one
  // more reference.
  std::vector<std::pair<uint32_t, Lane>> AcquireMatching(const ListFilter& filter);
  // Every lane of a salt of a space, each with one more reference.
  std::vector<uint32_t> AcquireSalt(KeyScope scope, const SaltDigest& salt);
  void AddReference(uint32_t number);
  void Release(uint32_t number);
  // Requires a reference.
  Lane Get(uint32_t number) const;

  // Replaces what one entry of the lane adds to its space's usage.
  // first_part_blocks follows from parts.
  void Account(uint32_t number, const DirectoryUsage& before, const DirectoryUsage& after);
  DirectoryUsage Usage(KeyScope scope) const;
  DirectoryUsage TenantUsage(uint64_t tenant) const;
  DirectoryUsage TotalUsage() const;

  uint64_t MemoryBytes() const;

 private:
  using SaltKey = std::pair<KeyScope, SaltDigest>;
  struct SaltHash {
    size_t operator()(const SaltKey& key) const {
      return absl::HashOf(key.first.tenant, key.first.space, key.second);
    }
  };
  struct ScopeHash {
    size_t operator()(const KeyScope& scope) const {
      return absl::HashOf(scope.tenant, scope.space);
    }
  };
  struct Record {
    Lane lane;
    uint64_t references = 0;
  };
  struct Space {
    uint64_t lanes = 0;
    DirectoryUsage usage;
  };

  uint32_t AddLocked(const Lane& lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::vector<Record> records_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint32_t> unused_ ABSL_GUARDED_BY(mutex_);
  // The few lanes of one salt lie together: all parts of a block are found.
  absl::flat_hash_map<SaltKey, std::vector<uint32_t>, SaltHash> by_salt_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<KeyScope, Space, ScopeHash> spaces_ ABSL_GUARDED_BY(mutex_);
};

// Gives lanes back at the end of a scope.
class LaneReferences {
 public:
  explicit LaneReferences(LaneTable& table) : table_(table) {}
  ~LaneReferences() {
    for (const uint32_t number : numbers_) table_.Release(number);
  }
  LaneReferences(const LaneReferences&) = delete;
  LaneReferences& operator=(const LaneReferences&) = delete;
  void Own(uint32_t number) { numbers_.push_back(number); }

 private:
  LaneTable& table_;
  std::vector<uint32_t> numbers_;
};

}  // namespace mnemo

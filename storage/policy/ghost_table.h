// A memory of names that left not long ago.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace mnemo {

// Four bytes a name, as many names as entries were ever resident at once, up to
// about a million. A name is overwritten by another that falls on its place, so
// old ones fade; one of 2^32 looks like another. Not thread-safe.
class GhostTable {
 public:
  // Room for as many names as there are entries. Growing forgets.
  void Reserve(uint64_t entries) {
    if (entries <= tags_.size() || tags_.size() == kMaxNames) return;
    const uint64_t size = std::min(kMaxNames, std::bit_ceil(std::max(entries, kMinNames)));
    tags_.assign(size, 0);
  }
  void Add(uint64_t fingerprint) {
    if (!tags_.empty()) Tag(fingerprint) = TagOf(fingerprint);
  }
  // Whether the name is remembered; it is forgotten with that.
  bool Take(uint64_t fingerprint) {
    if (tags_.empty() || Tag(fingerprint) != TagOf(fingerprint)) return false;
    Tag(fingerprint) = 0;
    return true;
  }
  uint64_t MemoryBytes() const { return tags_.capacity() * sizeof(uint32_t); }

 private:
  static constexpr uint64_t kMinNames = 64;
  static constexpr uint64_t kMaxNames = 1 << 20;

  // 0 means "none".
  static uint32_t TagOf(uint64_t fingerprint) {
    return static_cast<uint32_t>(fingerprint >> 32) | 1;
  }
  uint32_t& Tag(uint64_t fingerprint) { return tags_[fingerprint & (tags_.size() - 1)]; }

  std::vector<uint32_t> tags_;
};

}  // namespace mnemo

// A memory of names that left not long ago.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace mnemo {

// Two bytes a name, about as many names as entries are resident when one leaves;
// nothing before the first leaves. Names lie in buckets of eight, each first in,
// first out, which is nearly so for all of them; one of about 8,000 unknown
// names looks like a known one. Not thread-safe.
class GhostTable {
 public:
  // `resident`: entries now. Growing, by a quarter at least, forgets.
  void Add(uint64_t fingerprint, uint64_t resident) {
    const uint64_t wanted = std::max(resident / kBucketNames, kMinBuckets);
    if (wanted > buckets_.size() + buckets_.size() / 4) {
      buckets_ = std::vector<Bucket>(wanted, Bucket{});
    }
    Bucket& bucket = BucketOf(fingerprint);
    std::copy_backward(bucket.begin(), bucket.end() - 1, bucket.end());
    bucket[0] = TagOf(fingerprint);
  }
  // Whether the name is remembered; it is forgotten with that.
  bool Take(uint64_t fingerprint) {
    if (buckets_.empty()) return false;
    Bucket& bucket = BucketOf(fingerprint);
    const auto found = std::find(bucket.begin(), bucket.end(), TagOf(fingerprint));
    if (found == bucket.end()) return false;
    std::copy(found + 1, bucket.end(), found);
    bucket.back() = 0;
    return true;
  }
  uint64_t MemoryBytes() const { return buckets_.capacity() * sizeof(Bucket); }

 private:
  static constexpr uint64_t kBucketNames = 8;
  static constexpr uint64_t kMinBuckets = 8;
  using Bucket = std::array<uint16_t, kBucketNames>;  // newest first; 0: none

  static uint16_t TagOf(uint64_t fingerprint) {
    const auto tag = static_cast<uint16_t>(fingerprint >> 48);
    return tag == 0 ? 1 : tag;
  }
  Bucket& BucketOf(uint64_t fingerprint) { return buckets_[fingerprint % buckets_.size()]; }

  std::vector<Bucket> buckets_;
};

}  // namespace mnemo

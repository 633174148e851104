// The best k of what one query found, over any number of segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace mnemo {

struct Hit {
  uint64_t id = 0;  // the caller's: SearchOptions::first_id + row
  float score = 0;  // see Metric: larger is nearer
  friend bool operator==(const Hit&, const Hit&) = default;
};

// A heap of at most k hits. Handed from segment to segment, its bound lets
// later ones read less. Equal scores: the smaller id wins. Not thread-safe.
class TopK {
 public:
  // `k` is at least 1.
  explicit TopK(size_t k);

  size_t k() const { return k_; }
  bool full() const { return heap_.size() == k_; }
  // The score that a further hit has to reach; -infinity while not full.
  float bound() const {
    return full() ? heap_.front().score : -std::numeric_limits<float>::infinity();
  }
  void Push(uint64_t id, float score);

  // Best first. Leaves it empty.
  std::vector<Hit> Take();

 private:
  size_t k_;
  std::vector<Hit> heap_;  // worst in front
};

}  // namespace mnemo

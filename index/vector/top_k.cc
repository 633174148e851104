#include "index/vector/top_k.h"

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

bool IsBetter(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

}  // namespace

TopK::TopK(size_t k) : k_(k) {
  MNEMO_CHECK(k >= 1);
  // A caller's k may be far more than there are rows.
  heap_.reserve(std::min<size_t>(k, 1024));
}

void TopK::Push(uint64_t id, float score) {
  const Hit hit{id, score};
  if (!full()) {
    heap_.push_back(hit);
    std::push_heap(heap_.begin(), heap_.end(), IsBetter);
    return;
  }
  if (!IsBetter(hit, heap_.front())) return;
  std::pop_heap(heap_.begin(), heap_.end(), IsBetter);
  heap_.back() = hit;
  std::push_heap(heap_.begin(), heap_.end(), IsBetter);
}

std::vector<Hit> TopK::Take() {
  std::sort_heap(heap_.begin(), heap_.end(), IsBetter);
  std::vector<Hit> hits;
  hits.swap(heap_);
  return hits;
}

}  // namespace mnemo

#include "index/vector/graph_walk.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace mnemo {

void CandidatePool::Reset(uint32_t capacity) {
  // One more, so that an insertion moves before it cuts.
  if (entries_.size() < size_t{capacity} + 1) entries_.resize(size_t{capacity} + 1);
  capacity_ = capacity;
  size_ = 0;
  next_ = 0;
  worst_ = std::numeric_limits<float>::infinity();
}

void CandidatePool::Insert(float distance, uint32_t node) {
  if (size_ == capacity_ && !(distance < worst_)) return;
  Candidate* const begin = entries_.data();
  Candidate* const at =
      std::upper_bound(begin, begin + size_, distance,
                       [](float value, const Candidate& entry) { return value < entry.distance; });
  std::memmove(at + 1, at, static_cast<size_t>(begin + size_ - at) * sizeof(Candidate));
  *at = {distance, node};
  if (size_ < capacity_) ++size_;
  if (size_ == capacity_) worst_ = entries_[size_ - 1].distance;
  next_ = std::min(next_, static_cast<uint32_t>(at - begin));
}

uint32_t CandidatePool::TakeNext() {
  if (next_ == size_) return kNoNode;
  const uint32_t node = entries_[next_].node;
  entries_[next_].node |= kExpanded;
  while (next_ < size_ && (entries_[next_].node & kExpanded) != 0) ++next_;
  return node;
}

void WalkScratch::NextWalk() {
  if (++epoch != 0) return;
  std::fill(visited.begin(), visited.end(), uint8_t{0});
  epoch = 1;
}

std::unique_ptr<WalkScratch> WalkScratchPool::Take() {
  {
    const MutexLock lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<WalkScratch> scratch = std::move(free_.back());
      free_.pop_back();
      return scratch;
    }
  }
  return std::make_unique<WalkScratch>(nodes_);
}

void WalkScratchPool::Give(std::unique_ptr<WalkScratch> scratch) {
  scratch->read.Release();
  scratch->distances_made = 0;
  const MutexLock lock(mutex_);
  if (free_.size() < kKept) free_.push_back(std::move(scratch));
}

float DistanceOf(const GraphView& view, const CodeQuery& query, uint32_t node,
                 WalkScratch& scratch) {
  float distance;
  view.codes.Distances(query, {&node, 1}, scratch.batch, &distance);
  ++scratch.distances_made;
  return distance;
}

Candidate Descend(const GraphView& view, const CodeQuery& query, Candidate from, uint8_t level,
                  WalkScratch& scratch) {
  for (bool moved = true; moved;) {
    moved = false;
    size_t count = 0;
    for (const uint32_t node : view.graph.List(from.node, level)) {
      if (node == kNoNode) break;
      scratch.nodes[count++] = node;
      view.codes.Prefetch(node);
    }
    view.codes.Distances(query, {scratch.nodes, count}, scratch.batch, scratch.distances);
    scratch.distances_made += count;
    for (size_t i = 0; i < count; ++i) {
      if (scratch.distances[i] < from.distance) {
        from = {scratch.distances[i], scratch.nodes[i]};
        moved = true;
      }
    }
  }
  return from;
}

bool Walk(const GraphView& view, const CodeQuery& query, Candidate from, uint8_t level,
          uint32_t beam, const std::atomic<bool>* cancelled, WalkScratch& scratch) {
  CandidatePool& pool = scratch.pool;
  pool.Reset(beam);
  scratch.NextWalk();
  scratch.Visit(from.node);
  pool.Insert(from.distance, from.node);
  for (;;) {
    const uint32_t node = pool.TakeNext();
    if (node == kNoNode) return true;
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) return false;
    size_t count = 0;
    for (const uint32_t neighbour : view.graph.List(node, level)) {
      if (neighbour == kNoNode) break;
      if (!scratch.Visit(neighbour)) continue;
      view.codes.Prefetch(neighbour);
      scratch.nodes[count++] = neighbour;
    }
    // Likely the next to be expanded: its links arrive meanwhile.
    if (const uint32_t next = pool.PeekNext(); next != kNoNode) {
      const uint32_t* const list = view.graph.List(next, level).data();
      __builtin_prefetch(list);
      __builtin_prefetch(list + 16);
    }
    view.codes.Distances(query, {scratch.nodes, count}, scratch.batch, scratch.distances);
    scratch.distances_made += count;
    for (size_t i = 0; i < count; ++i) {
      if (scratch.distances[i] < pool.worst()) pool.Insert(scratch.distances[i], scratch.nodes[i]);
    }
  }
}

}  // namespace mnemo

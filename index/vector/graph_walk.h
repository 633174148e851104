// Walking a graph toward a query.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "index/vector/byte_codes.h"
#include "index/vector/hnsw_graph.h"
#include "index/vector/vector_types.h"
#include "storage/base/mutex.h"

namespace mnemo {

struct Candidate {
  float distance = 0;
  uint32_t node = 0;
};

// The nearest nodes seen so far, nearest first, and which of them were
// expanded. A sorted array: with some hundred entries, moving them is cheaper
// than the two heaps of the paper.
class CandidatePool {
 public:
  void Reset(uint32_t capacity);
  void Insert(float distance, uint32_t node);
  // What a further candidate has to beat.
  float worst() const { return worst_; }
  // The nearest node that was not expanded, which it then counts as; kNoNode if
  // there is none.
  uint32_t TakeNext();
  // What TakeNext would give now; kNoNode if there is nothing.
  uint32_t PeekNext() const { return next_ < size_ ? entries_[next_].node & ~kExpanded : kNoNode; }
  uint32_t size() const { return size_; }
  // The i-th nearest.
  Candidate operator[](uint32_t i) const {
    return {entries_[i].distance, entries_[i].node & ~kExpanded};
  }

 private:
  static constexpr uint32_t kExpanded = 0x80000000;  // kMaxSegmentRows is below it
  std::vector<Candidate> entries_;
  uint32_t capacity_ = 0;
  uint32_t size_ = 0;
  uint32_t next_ = 0;  // nothing before it is unexpanded
  float worst_ = 0;
};

// What a walk needs beside the graph; one for each walk at a time.
struct WalkScratch {
  explicit WalkScratch(uint32_t nodes) : visited(nodes) {}
  // Forgets every visit.
  void NextWalk();
  bool Visit(uint32_t node) {
    if (visited[node] == epoch) return false;
    visited[node] = epoch;
    return true;
  }

  std::vector<uint8_t> visited;  // the epoch of the last visit
  uint8_t epoch = 0;
  CandidatePool pool;
  ByteCodes::Batch batch;
  uint32_t nodes[ByteCodes::kMaxBatch];
  float distances[ByteCodes::kMaxBatch];
  CodeQuery query;
  ReadScratch read;
  std::vector<RowId> rows;
  uint64_t distances_made = 0;
};

// Scratch that is kept between walks. Thread-safe.
class WalkScratchPool {
 public:
  explicit WalkScratchPool(uint32_t nodes) : nodes_(nodes) {}

  class Lease {
   public:
    explicit Lease(WalkScratchPool& pool) : pool_(pool), scratch_(pool.Take()) {}
    ~Lease() { pool_.Give(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    WalkScratch& operator*() { return *scratch_; }

   private:
    WalkScratchPool& pool_;
    std::unique_ptr<WalkScratch> scratch_;
  };

 private:
  // More than so many walks at once are rare enough to allocate.
  static constexpr size_t kKept = 4;
  std::unique_ptr<WalkScratch> Take();
  void Give(std::unique_ptr<WalkScratch> scratch);

  const uint32_t nodes_;
  Mutex mutex_;  // a leaf
  std::vector<std::unique_ptr<WalkScratch>> free_ ABSL_GUARDED_BY(mutex_);
};

// A graph with what its nodes are.
struct GraphView {
  const HnswGraph& graph;
  const ByteCodes& codes;
};

// From `from`, steps to ever nearer neighbours on `level` until there is none.
Candidate Descend(const GraphView& view, const CodeQuery& query, Candidate from, uint8_t level,
                  WalkScratch& scratch);

// The distance of one node.
float DistanceOf(const GraphView& view, const CodeQuery& query, uint32_t node,
                 WalkScratch& scratch);

// Fills scratch.pool with the `beam` nearest nodes that a best-first walk on
// `level` from `from` finds (the paper's SEARCH-LAYER). False if `cancelled`,
// which may be null, became true.
bool Walk(const GraphView& view, const CodeQuery& query, Candidate from, uint8_t level,
          uint32_t beam, const std::atomic<bool>* cancelled, WalkScratch& scratch);

}  // namespace mnemo

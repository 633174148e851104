// Building the graph of an HNSW segment.
#pragma once

#include <span>
#include <vector>

#include "index/vector/graph_walk.h"
#include "index/vector/sealed_segment.h"

namespace mnemo {

// Inserts nodes one by one, as the paper's INSERT with SELECT-NEIGHBORS-HEURISTIC
// does, on codes only. Not thread-safe.
class HnswBuilder {
 public:
  // A node is on level l or above with probability links^-l.
  static std::vector<uint8_t> DrawLevels(uint32_t nodes, uint32_t links, uint64_t seed);

  // `codes` is filled; `graph`, without links, is what is built. Both outlive
  // the builder.
  HnswBuilder(const ByteCodes& codes, const HnswOptions& options, HnswGraph& graph);

  // Each node once.
  void Insert(uint32_t node);

 private:
  // Of `candidates`, nearest first, those nearer to the base than to any kept
  // before: at most `most`. `offset` is the base's ByteCodes::Offset.
  void Select(std::span<const Candidate> candidates, float offset, size_t most,
              std::vector<uint32_t>& selected);
  bool IsNearerToOther(const Candidate& candidate, float offset,
                       std::span<const uint32_t> selected);
  void LinkBack(uint32_t node, uint32_t to, uint8_t level);

  const ByteCodes& codes_;
  const HnswOptions options_;
  HnswGraph& graph_;
  WalkScratch scratch_;
  CodeQuery base_query_;
  CodeQuery other_query_;
  std::vector<Candidate> candidates_;
  std::vector<Candidate> around_;
  std::vector<uint32_t> selected_;
  std::vector<uint32_t> kept_;
};

}  // namespace mnemo

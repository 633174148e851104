// A hierarchical navigable small world graph (Malkov and Yashunin, TPAMI 2018),
// without the vectors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "index/vector/aligned_array.h"

namespace mnemo {

inline constexpr uint32_t kNoNode = 0xffffffff;
inline constexpr uint8_t kMaxGraphLevel = 15;

// Links of `nodes` nodes: 2 * links on the ground level, `links` on each level
// above it that a node is on. Lists end with kNoNode where they are not full.
// Not thread-safe while it is changed.
class HnswGraph {
 public:
  // `levels` [nodes]: the highest level of each node, at most kMaxGraphLevel.
  HnswGraph(uint32_t links, std::vector<uint8_t> levels);

  uint32_t nodes() const { return static_cast<uint32_t>(levels_.size()); }
  uint32_t links() const { return links_; }
  uint32_t width(uint8_t level) const { return level == 0 ? 2 * links_ : links_; }
  uint8_t level_of(uint32_t node) const { return levels_[node]; }
  // Where a search begins: a node of the highest level in use.
  uint32_t entry() const { return entry_; }
  uint8_t top_level() const { return entry_ == kNoNode ? 0 : levels_[entry_]; }
  void set_entry(uint32_t node) { entry_ = node; }

  // The whole list of `node` on `level`, which is at most level_of(node).
  std::span<uint32_t> List(uint32_t node, uint8_t level) {
    return {ListBegin(node, level), width(level)};
  }
  std::span<const uint32_t> List(uint32_t node, uint8_t level) const {
    return {const_cast<HnswGraph*>(this)->ListBegin(node, level), width(level)};
  }

  size_t memory_bytes() const {
    return ground_.bytes() + levels_.size() * (sizeof(uint8_t) + sizeof(uint32_t)) +
           upper_.size() * sizeof(uint32_t);
  }

  // The parts, for the file.
  std::span<const uint8_t> levels() const { return levels_; }
  AlignedArray<uint32_t>& ground() { return ground_; }
  const AlignedArray<uint32_t>& ground() const { return ground_; }
  std::vector<uint32_t>& upper() { return upper_; }
  const std::vector<uint32_t>& upper() const { return upper_; }

 private:
  uint32_t* ListBegin(uint32_t node, uint8_t level) {
    if (level == 0) return ground_.data() + size_t{node} * 2 * links_;
    return upper_.data() + (size_t{upper_begin_[node]} + level - 1) * links_;
  }

  uint32_t links_;
  std::vector<uint8_t> levels_;
  AlignedArray<uint32_t> ground_;
  std::vector<uint32_t> upper_;
  std::vector<uint32_t> upper_begin_;  // lists, not elements
  uint32_t entry_ = kNoNode;
};

}  // namespace mnemo

#include "index/vector/hnsw_builder.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace mnemo {

std::vector<uint8_t> HnswBuilder::DrawLevels(uint32_t nodes, uint32_t links, uint64_t seed) {
  std::mt19937_64 random(seed);
  const double scale = 1 / std::log(static_cast<double>(links));
  std::vector<uint8_t> levels(nodes);
  for (uint8_t& level : levels) {
    // In (0, 1], from the bits themselves: the same with every standard library.
    const double uniform = static_cast<double>((random() >> 11) + 1) * 0x1p-53;
    level = static_cast<uint8_t>(std::min<double>(-std::log(uniform) * scale, kMaxGraphLevel));
  }
  return levels;
}

HnswBuilder::HnswBuilder(const ByteCodes& codes, const HnswOptions& options, HnswGraph& graph)
    : codes_(codes), options_(options), graph_(graph), scratch_(codes.nodes()) {}

void HnswBuilder::Insert(uint32_t node) {
  const uint8_t level = graph_.level_of(node);
  if (graph_.entry() == kNoNode) {
    graph_.set_entry(node);
    return;
  }
  const GraphView view{graph_, codes_};
  codes_.MakeNodeQuery(node, base_query_);
  const uint8_t top = graph_.top_level();
  Candidate from{DistanceOf(view, base_query_, graph_.entry(), scratch_), graph_.entry()};
  for (uint8_t at = top; at > level; --at) from = Descend(view, base_query_, from, at, scratch_);

  for (int at = std::min(level, top); at >= 0; --at) {
    const auto on = static_cast<uint8_t>(at);
    Walk(view, base_query_, from, on, options_.ef_construction, nullptr, scratch_);
    candidates_.clear();
    for (uint32_t i = 0; i < scratch_.pool.size(); ++i) candidates_.push_back(scratch_.pool[i]);
    from = candidates_.front();
    Select(candidates_, codes_.Offset(node), graph_.width(on), selected_);
    std::copy(selected_.begin(), selected_.end(), graph_.List(node, on).begin());
    for (const uint32_t to : selected_) LinkBack(node, to, on);
  }
  if (level > top) graph_.set_entry(node);
}

bool HnswBuilder::IsNearerToOther(const Candidate& candidate, float offset,
                                  std::span<const uint32_t> selected) {
  // Few at a time: most candidates are turned down by the first of them.
  constexpr size_t kStep = 4;
  const float to_base = candidate.distance + offset;
  codes_.MakeNodeQuery(candidate.node, other_query_);
  const float own_offset = codes_.Offset(candidate.node);
  for (size_t begin = 0; begin < selected.size(); begin += kStep) {
    const size_t count = std::min(kStep, selected.size() - begin);
    codes_.Distances(other_query_, selected.subspan(begin, count), scratch_.batch,
                     scratch_.distances);
    for (size_t i = 0; i < count; ++i) {
      if (scratch_.distances[i] + own_offset < to_base) return true;
    }
  }
  return false;
}

void HnswBuilder::Select(std::span<const Candidate> candidates, float offset, size_t most,
                         std::vector<uint32_t>& selected) {
  selected.clear();
  for (const Candidate& candidate : candidates) {
    if (selected.size() == most) break;
    if (IsNearerToOther(candidate, offset, selected)) continue;
    selected.push_back(candidate.node);
  }
}

void HnswBuilder::LinkBack(uint32_t node, uint32_t to, uint8_t level) {
  const std::span<uint32_t> list = graph_.List(to, level);
  if (list.back() == kNoNode) {
    *std::find(list.begin(), list.end(), kNoNode) = node;
    return;
  }
  // Full: choose anew among the old ones and the new one.
  size_t count = 0;
  for (const uint32_t linked : list) scratch_.nodes[count++] = linked;
  scratch_.nodes[count++] = node;
  codes_.MakeNodeQuery(to, other_query_);
  codes_.Distances(other_query_, {scratch_.nodes, count}, scratch_.batch, scratch_.distances);
  around_.clear();
  for (size_t i = 0; i < count; ++i) around_.push_back({scratch_.distances[i], scratch_.nodes[i]});
  std::sort(around_.begin(), around_.end(), [](const Candidate& a, const Candidate& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.node < b.node;
  });
  Select(around_, codes_.Offset(to), list.size(), kept_);
  std::fill(std::copy(kept_.begin(), kept_.end(), list.begin()), list.end(), kNoNode);
}

}  // namespace mnemo

#include "index/vector/hnsw_graph.h"

#include <algorithm>

namespace mnemo {

HnswGraph::HnswGraph(uint32_t links, std::vector<uint8_t> levels)
    : links_(links),
      levels_(std::move(levels)),
      ground_(levels_.size() * 2 * links),
      upper_begin_(levels_.size()) {
  std::fill(ground_.data(), ground_.data() + ground_.size(), kNoNode);
  uint32_t lists = 0;
  for (size_t node = 0; node < levels_.size(); ++node) {
    upper_begin_[node] = lists;
    lists += levels_[node];
  }
  upper_.assign(size_t{lists} * links, kNoNode);
}

}  // namespace mnemo

#include "index/vector/row_map.h"

#include <algorithm>
#include <bit>

namespace mnemo {

RowMap::RowMap(uint32_t rows, const RowSet* deleted) : rows_(rows), nodes_(rows) {
  if (deleted == nullptr) return;
  for (RowId row = 0; row < rows; ++row) {
    if (!deleted->Contains(row)) row_of_node_.push_back(row);
  }
  nodes_ = static_cast<uint32_t>(row_of_node_.size());
  if (nodes_ == rows) row_of_node_.clear();
}

RowMap::RowMap(uint32_t rows, std::vector<RowId> row_of_node)
    : rows_(rows),
      nodes_(static_cast<uint32_t>(row_of_node.size())),
      row_of_node_(std::move(row_of_node)) {
  if (nodes_ == rows) row_of_node_.clear();
}

uint32_t RowMap::CountIn(const RowSet& filter) const {
  uint32_t count = 0;
  if (is_identity()) {
    // Bits from the filter's own size on are zero, those from rows_ on may not be.
    const size_t whole = std::min<size_t>(nodes_ / 64, filter.words().size());
    for (size_t word = 0; word < whole; ++word) {
      count += static_cast<uint32_t>(std::popcount(filter.words()[word]));
    }
    for (uint32_t node = static_cast<uint32_t>(whole * 64); node < nodes_; ++node) {
      count += filter.Contains(node) ? 1 : 0;
    }
    return count;
  }
  for (const RowId row : row_of_node_) count += filter.Contains(row) ? 1 : 0;
  return count;
}

}  // namespace mnemo

// Which row each node of a sealed segment is.
#pragma once

#include <span>
#include <vector>

#include "index/vector/vector_types.h"

namespace mnemo {

// Rising rows; nothing is stored where node i is row i. Immutable, thread-safe.
class RowMap {
 public:
  RowMap() = default;
  // Rows 0 to `rows` - 1 without those in `deleted`, which may be null.
  RowMap(uint32_t rows, const RowSet* deleted);
  // `row_of_node` rises and stays below `rows`.
  RowMap(uint32_t rows, std::vector<RowId> row_of_node);

  uint32_t rows() const { return rows_; }
  uint32_t nodes() const { return nodes_; }
  bool is_identity() const { return row_of_node_.empty(); }
  RowId RowOf(uint32_t node) const { return is_identity() ? node : row_of_node_[node]; }
  // Empty if is_identity().
  std::span<const RowId> row_of_node() const { return row_of_node_; }
  size_t memory_bytes() const { return row_of_node_.size() * sizeof(RowId); }

  // How many nodes' rows are in `filter`.
  uint32_t CountIn(const RowSet& filter) const;

 private:
  uint32_t rows_ = 0;
  uint32_t nodes_ = 0;
  std::vector<RowId> row_of_node_;
};

}  // namespace mnemo

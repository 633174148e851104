// The rows that a build is about, decoded batch by batch.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/query.h"
#include "index/vector/row_map.h"
#include "index/vector/vector_types.h"

namespace mnemo {

// Reads through a VectorReader, never more than a batch at once. Every method
// fails with kCancelled, with kInvalidArgument for a value that is not finite,
// naming its row, or with the reader's error. Not thread-safe.
class BuildInput {
 public:
  // All but `shape` are borrowed; `cancelled` may be null.
  BuildInput(const VectorShape& shape, const RowMap& map, const VectorReader& reader,
             const std::atomic<bool>* cancelled, const Kernels& kernels)
      : shape_(shape), map_(map), reader_(reader), cancelled_(cancelled), kernels_(kernels) {}

  // Called with a node and its values [dimension], which it may overwrite.
  using Visitor = std::function<void(uint32_t node, float* values)>;

  // Nodes `begin` to `end` - 1, in order.
  absl::Status ForEach(uint32_t begin, uint32_t end, const Visitor& visit) const;
  // `nodes`, in order.
  absl::Status ForEach(std::span<const uint32_t> nodes, const Visitor& visit) const;

  // The mean of up to 16,384 nodes spread over all; for kCosine of their
  // directions. [dimension].
  absl::StatusOr<std::vector<float>> Centre() const;

  // `count` nodes, or all, spread evenly.
  std::vector<uint32_t> Sample(uint32_t count) const;

  // Nodes as queries. A vector that cannot be one (zeros, with kCosine) is left
  // out. `rows`, which may be null, gets the row of each query.
  absl::StatusOr<std::vector<Query>> Queries(std::span<const uint32_t> nodes,
                                             std::vector<RowId>* rows) const;

 private:
  const VectorShape shape_;
  const RowMap& map_;
  const VectorReader& reader_;
  const std::atomic<bool>* cancelled_;
  const Kernels& kernels_;
};

// Makes `values` [count] a vector of norm 1; zeros stay.
void Normalize(float* values, size_t count);

}  // namespace mnemo

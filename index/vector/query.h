// A query vector, prepared once and good for every segment of its shape.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/vector_types.h"

namespace mnemo {

// Immutable, thread-safe.
class Query {
 public:
  // Errors: kInvalidArgument for a wrong number of values, one that is not
  // finite, or, with kCosine, a vector of zeros.
  static absl::StatusOr<Query> Prepare(const VectorShape& shape, std::span<const float> values);

  // Dimension and metric are those that segments are held against; the stored
  // type is theirs.
  const VectorShape& shape() const { return shape_; }
  // [dimension]; of norm 1 with kCosine.
  const float* values() const { return values_.data(); }

 private:
  VectorShape shape_;
  std::vector<float> values_;
};

}  // namespace mnemo

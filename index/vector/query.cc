#include "index/vector/query.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace mnemo {

absl::StatusOr<Query> Query::Prepare(const VectorShape& shape, std::span<const float> values) {
  MNEMO_RETURN_IF_ERROR(shape.Validate());
  if (values.size() != shape.dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("query of ", values.size(), " values, expected ", shape.dimension));
  }
  double norm = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return absl::InvalidArgumentError(absl::StrCat("query value ", i, " is not a finite number"));
    }
    norm += static_cast<double>(values[i]) * values[i];
  }
  Query query;
  query.shape_ = shape;
  query.values_.assign(values.begin(), values.end());
  if (shape.metric == Metric::kCosine) {
    if (norm == 0) {
      return absl::InvalidArgumentError("query of zeros has no direction, which cosine needs");
    }
    const double scale = 1 / std::sqrt(norm);
    for (float& value : query.values_) value = static_cast<float>(value * scale);
  }
  return query;
}

}  // namespace mnemo

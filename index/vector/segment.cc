#include "index/vector/segment.h"

#include "absl/strings/str_cat.h"

namespace mnemo {

absl::Status CheckSearch(const VectorShape& shape, const Query& query,
                         const SegmentSearch& options) {
  if (query.shape().dimension != shape.dimension) {
    return absl::InvalidArgumentError(absl::StrCat("query of dimension ", query.shape().dimension,
                                                   ", the segment has ", shape.dimension));
  }
  if (query.shape().metric != shape.metric) {
    return absl::InvalidArgumentError("query prepared for another metric than the segment's");
  }
  if (!(options.target_recall > 0 && options.target_recall <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("target_recall is ", options.target_recall, ", expected over 0 to 1"));
  }
  return absl::OkStatus();
}

}  // namespace mnemo

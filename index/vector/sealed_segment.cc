#include "index/vector/sealed_segment.h"

#include "absl/strings/str_cat.h"
#include "index/vector/hnsw_segment.h"
#include "index/vector/ivf_segment.h"
#include "index/vector/segment_file.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::Status CheckRange(std::string_view name, uint32_t value, uint32_t least, uint32_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(name), " is ", value, ", expected ", least, " to ", most));
}

}  // namespace

absl::Status BuildOptions::Validate() const {
  if (kind != SegmentKind::kHnsw && kind != SegmentKind::kIvf) {
    return absl::InvalidArgumentError(
        absl::StrCat("kind ", static_cast<int>(kind), " cannot be built"));
  }
  MNEMO_RETURN_IF_ERROR(
      CheckRange("hnsw.links", hnsw.links, HnswOptions::kMinLinks, HnswOptions::kMaxLinks));
  MNEMO_RETURN_IF_ERROR(CheckRange("hnsw.ef_construction", hnsw.ef_construction, 8, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange("ivf.lists", ivf.lists, 0, IvfOptions::kMaxLists));
  MNEMO_RETURN_IF_ERROR(CheckRange("ivf.iterations", ivf.iterations, 1, 100));
  return CheckRange("calibration_queries", calibration_queries, 0, 4096);
}

absl::StatusOr<std::unique_ptr<SealedSegment>> BuildSegment(const VectorShape& shape, uint32_t rows,
                                                            const VectorReader& reader,
                                                            const RowSet* deleted,
                                                            const BuildOptions& options,
                                                            const Kernels& kernels) {
  MNEMO_RETURN_IF_ERROR(shape.Validate());
  MNEMO_RETURN_IF_ERROR(options.Validate());
  MNEMO_RETURN_IF_ERROR(CheckRange("rows", rows, 1, kMaxSegmentRows));
  if (options.kind == SegmentKind::kIvf) {
    return IvfSegment::Build(shape, rows, reader, deleted, options, kernels);
  }
  return HnswSegment::Build(shape, rows, reader, deleted, options, kernels);
}

absl::StatusOr<std::unique_ptr<SealedSegment>> LoadSegment(ByteView bytes, uint64_t digest,
                                                           const Kernels& kernels) {
  if (SegmentDigest(bytes) != digest) return CorruptSegment("not the digest that was recorded");
  MNEMO_ASSIGN_OR_RETURN(const SegmentFileReader file, SegmentFileReader::Open(bytes));
  if (file.header().kind == SegmentKind::kIvf) return IvfSegment::Load(file, kernels);
  return HnswSegment::Load(file, kernels);
}

}  // namespace mnemo

// Sections of an IVF segment: docs/formats/vector-segment.md.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "index/vector/common_sections.h"
#include "index/vector/ivf_segment.h"
#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::StatusOr<std::vector<uint32_t>> ReadListSizes(const SegmentFileReader& file) {
  const ByteView bytes = file.Find(SegmentSection::kLists);
  if (bytes.empty() || bytes.size() % 4 != 0 || bytes.size() / 4 > IvfOptions::kMaxLists) {
    return CorruptSegment("number of lists");
  }
  std::vector<uint32_t> sizes(bytes.size() / 4);
  CopyInto(bytes, sizes.data());
  uint64_t sum = 0;
  for (const uint32_t size : sizes) sum += size;
  if (sum != file.header().nodes) return CorruptSegment("lists do not add up");
  return sizes;
}

bool AreFinite(ByteView bytes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
    if (!std::isfinite(LoadLittle<float>(bytes.data() + at))) return false;
  }
  return true;
}

// Every node once.
absl::Status CheckNodes(const AlignedArray<uint32_t>& nodes) {
  std::vector<bool> seen(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] >= nodes.size() || seen[nodes[i]]) {
      return CorruptSegment(absl::StrCat("node ", nodes[i], " in the lists"));
    }
    seen[nodes[i]] = true;
  }
  return absl::OkStatus();
}

}  // namespace

SealedSegment::Serialized IvfSegment::Serialize() const {
  SegmentHeader header;
  header.kind = SegmentKind::kIvf;
  header.shape = shape_;
  header.rows = map_.rows();
  header.nodes = map_.nodes();
  header.seed = seed_;
  std::string curve;
  {
    const MutexLock lock(calibration_);
    curve = EncodeCurve(curve_);
  }
  SegmentFileWriter writer(header);
  writer.Add(SegmentSection::kRows, BytesOf(map_.row_of_node()));
  writer.Add(SegmentSection::kCalibration, AsBytes(curve));
  writer.Add(SegmentSection::kLists, BytesOf(list_sizes_));
  writer.Add(SegmentSection::kCentroids, BytesOf(centroids_));
  writer.Add(SegmentSection::kListNodes, BytesOf(nodes_));
  writer.Add(SegmentSection::kListCodes, BytesOf(codes_.codes()));
  writer.Add(SegmentSection::kListFactors, BytesOf(codes_.factors()));
  Serialized serialized;
  serialized.bytes = writer.Finish();
  serialized.digest = SegmentDigest(AsBytes(serialized.bytes));
  return serialized;
}

absl::StatusOr<std::unique_ptr<SealedSegment>> IvfSegment::Load(const SegmentFileReader& file,
                                                                const Kernels& kernels) {
  const SegmentHeader& header = file.header();
  MNEMO_ASSIGN_OR_RETURN(RowMap map, ReadRows(file));
  MNEMO_ASSIGN_OR_RETURN(EffortCurve curve, ReadCurve(file));
  MNEMO_ASSIGN_OR_RETURN(std::vector<uint32_t> sizes, ReadListSizes(file));
  uint64_t blocks = 0;
  for (const uint32_t size : sizes) blocks += (size + kBlockCodes - 1) / kBlockCodes;
  // All sizes before memory is taken for any of them.
  const uint64_t dimension = header.shape.dimension;
  MNEMO_ASSIGN_OR_RETURN(
      const ByteView centroid_bytes,
      file.Get(SegmentSection::kCentroids, sizes.size() * dimension * sizeof(float)));
  MNEMO_ASSIGN_OR_RETURN(const ByteView nodes,
                         file.Get(SegmentSection::kListNodes, uint64_t{header.nodes} * 4));
  MNEMO_ASSIGN_OR_RETURN(
      const ByteView codes,
      file.Get(SegmentSection::kListCodes, blocks * BitCodes::BlockBytes(header.shape.dimension)));
  MNEMO_ASSIGN_OR_RETURN(
      const ByteView factors,
      file.Get(SegmentSection::kListFactors, blocks * kBlockCodes * sizeof(BitFactors)));
  if (!AreFinite(centroid_bytes)) return CorruptSegment("centroid is not finite");
  if (!AreFinite(factors)) return CorruptSegment("factors are not finite");

  std::vector<float> centroids(sizes.size() * dimension);
  CopyInto(centroid_bytes, centroids.data());
  std::unique_ptr<IvfSegment> segment(new IvfSegment(
      header.shape, std::move(map), header.seed, std::move(centroids), std::move(sizes), kernels));
  CopyInto(nodes, segment->nodes_.data());
  CopyInto(codes, segment->codes_.codes().data());
  CopyInto(factors, segment->codes_.factors().data());
  MNEMO_RETURN_IF_ERROR(CheckNodes(segment->nodes_));
  const MutexLock lock(segment->calibration_);
  segment->curve_ = std::move(curve);
  return segment;
}

}  // namespace mnemo

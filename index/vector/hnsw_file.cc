// Sections of an HNSW segment: docs/formats/vector-segment.md.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "index/vector/common_sections.h"
#include "index/vector/hnsw_segment.h"
#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kGraphBytes = 8;

// A list's links are nodes that are on `level`; nothing follows the first
// empty place.
absl::Status CheckList(const HnswGraph& graph, std::span<const uint32_t> list, uint8_t level) {
  bool ended = false;
  for (const uint32_t link : list) {
    if (link == kNoNode) {
      ended = true;
      continue;
    }
    if (ended || link >= graph.nodes() || graph.level_of(link) < level) {
      return CorruptSegment(absl::StrCat("link to ", link));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<HnswGraph> ReadGraph(const SegmentFileReader& file) {
  const uint32_t nodes = file.header().nodes;
  MNEMO_ASSIGN_OR_RETURN(const ByteView facts, file.Get(SegmentSection::kGraph, kGraphBytes));
  const auto links = LoadLittle<uint32_t>(facts.data());
  const auto entry = LoadLittle<uint32_t>(facts.data() + 4);
  if (links < HnswOptions::kMinLinks || links > HnswOptions::kMaxLinks) {
    return CorruptSegment(absl::StrCat(links, " links a node"));
  }
  MNEMO_ASSIGN_OR_RETURN(const ByteView level_bytes, file.Get(SegmentSection::kLevels, nodes));
  std::vector<uint8_t> levels(level_bytes.begin(), level_bytes.end());
  uint64_t upper_lists = 0;
  uint8_t top = 0;
  for (const uint8_t level : levels) {
    if (level > kMaxGraphLevel) return CorruptSegment(absl::StrCat("level ", level));
    upper_lists += level;
    top = std::max(top, level);
  }
  // Before the graph takes memory for them.
  MNEMO_ASSIGN_OR_RETURN(const ByteView ground,
                         file.Get(SegmentSection::kGroundLinks, uint64_t{nodes} * links * 8));
  MNEMO_ASSIGN_OR_RETURN(const ByteView upper,
                         file.Get(SegmentSection::kUpperLinks, upper_lists * links * 4));
  HnswGraph graph(links, std::move(levels));
  CopyInto(ground, graph.ground().data());
  CopyInto(upper, graph.upper().data());
  if (nodes == 0 ? entry != kNoNode : (entry >= nodes || graph.level_of(entry) != top)) {
    return CorruptSegment(absl::StrCat("entry ", entry));
  }
  graph.set_entry(entry);
  const HnswGraph& filled = graph;
  for (uint32_t node = 0; node < nodes; ++node) {
    for (int level = filled.level_of(node); level >= 0; --level) {
      const auto on = static_cast<uint8_t>(level);
      MNEMO_RETURN_IF_ERROR(CheckList(filled, filled.List(node, on), on));
    }
  }
  return graph;
}

}  // namespace

SealedSegment::Serialized HnswSegment::Serialize() const {
  SegmentHeader header;
  header.kind = SegmentKind::kHnsw;
  header.shape = shape_;
  header.rows = map_.rows();
  header.nodes = map_.nodes();
  header.seed = seed_;
  std::string facts;
  AppendLittle<uint32_t>(facts, graph_.links());
  AppendLittle<uint32_t>(facts, graph_.entry());
  std::string curve;
  {
    const MutexLock lock(calibration_);
    curve = EncodeCurve(curve_);
  }
  SegmentFileWriter writer(header);
  writer.Add(SegmentSection::kCentre, BytesOf(codes_.centre()));
  writer.Add(SegmentSection::kRows, BytesOf(map_.row_of_node()));
  writer.Add(SegmentSection::kCalibration, AsBytes(curve));
  writer.Add(SegmentSection::kCodes, BytesOf(codes_.codes()));
  writer.Add(SegmentSection::kFactors, BytesOf(codes_.factors()));
  writer.Add(SegmentSection::kGraph, AsBytes(facts));
  writer.Add(SegmentSection::kLevels, BytesOf(graph_.levels()));
  writer.Add(SegmentSection::kGroundLinks, BytesOf(graph_.ground()));
  writer.Add(SegmentSection::kUpperLinks, BytesOf(graph_.upper()));
  Serialized serialized;
  serialized.bytes = writer.Finish();
  serialized.digest = SegmentDigest(AsBytes(serialized.bytes));
  return serialized;
}

absl::StatusOr<std::unique_ptr<SealedSegment>> HnswSegment::Load(const SegmentFileReader& file,
                                                                 const Kernels& kernels) {
  const SegmentHeader& header = file.header();
  MNEMO_ASSIGN_OR_RETURN(RowMap map, ReadRows(file));
  MNEMO_ASSIGN_OR_RETURN(std::vector<float> centre, ReadCentre(file));
  MNEMO_ASSIGN_OR_RETURN(EffortCurve curve, ReadCurve(file));
  MNEMO_ASSIGN_OR_RETURN(HnswGraph graph, ReadGraph(file));
  const uint64_t padded = Rotation::Padded(header.shape.dimension);
  MNEMO_ASSIGN_OR_RETURN(const ByteView codes,
                         file.Get(SegmentSection::kCodes, header.nodes * padded));
  MNEMO_ASSIGN_OR_RETURN(const ByteView factors,
                         file.Get(SegmentSection::kFactors, header.nodes * sizeof(RowFactors)));
  std::unique_ptr<HnswSegment> segment(new HnswSegment(
      header.shape, std::move(map), header.seed, std::move(centre), std::move(graph), kernels));
  CopyInto(codes, segment->codes_.codes().data());
  CopyInto(factors, segment->codes_.factors().data());
  // -128 would make dot products leave int32.
  if (std::find(codes.begin(), codes.end(), uint8_t{0x80}) != codes.end()) {
    return CorruptSegment("code of -128");
  }
  for (uint32_t node = 0; node < header.nodes; ++node) {
    const RowFactors& row = segment->codes_.factors()[node];
    if (!std::isfinite(row.scale) || !std::isfinite(row.offset)) {
      return CorruptSegment(absl::StrCat("factors of node ", node));
    }
  }
  const MutexLock lock(segment->calibration_);
  segment->curve_ = std::move(curve);
  return segment;
}

}  // namespace mnemo

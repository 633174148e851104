#include "index/vector/common_sections.h"

#include <cmath>

#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kMaxPoints = 64;
constexpr size_t kPointBytes = 12;

}  // namespace

std::string EncodeCurve(const EffortCurve& curve) {
  std::string bytes;
  AppendLittle<uint32_t>(bytes, curve.k());
  for (const EffortPoint& point : curve.points()) {
    AppendLittle<uint32_t>(bytes, point.effort);
    AppendLittle<float>(bytes, point.recall);
    AppendLittle<float>(bytes, point.variance);
  }
  return bytes;
}

absl::StatusOr<EffortCurve> ReadCurve(const SegmentFileReader& file) {
  const ByteView bytes = file.Find(SegmentSection::kCalibration);
  if (bytes.size() < 4 || (bytes.size() - 4) % kPointBytes != 0 ||
      bytes.size() > 4 + kMaxPoints * kPointBytes) {
    return CorruptSegment("size of the calibration");
  }
  ByteReader reader(bytes);
  const auto k = reader.Little<uint32_t>();
  std::vector<EffortPoint> points((bytes.size() - 4) / kPointBytes);
  uint32_t before = 0;
  for (EffortPoint& point : points) {
    point.effort = reader.Little<uint32_t>();
    point.recall = reader.Little<float>();
    point.variance = reader.Little<float>();
    const bool is_recall = point.recall >= 0 && point.recall <= 1;
    const bool is_variance = point.variance >= 0 && std::isfinite(point.variance);
    if (point.effort <= before || point.effort > kMaxSegmentRows || !is_recall || !is_variance) {
      return CorruptSegment("a point of the calibration");
    }
    before = point.effort;
  }
  return EffortCurve(k, std::move(points));
}

absl::StatusOr<RowMap> ReadRows(const SegmentFileReader& file) {
  const uint32_t rows = file.header().rows;
  const uint32_t nodes = file.header().nodes;
  if (nodes == rows) return RowMap(rows, nullptr);
  MNEMO_ASSIGN_OR_RETURN(const ByteView bytes,
                         file.Get(SegmentSection::kRows, uint64_t{nodes} * sizeof(RowId)));
  std::vector<RowId> row_of_node(nodes);
  CopyInto(bytes, row_of_node.data());
  for (uint32_t node = 0; node < nodes; ++node) {
    if (row_of_node[node] >= rows || (node > 0 && row_of_node[node] <= row_of_node[node - 1])) {
      return CorruptSegment("rows that do not rise");
    }
  }
  return RowMap(rows, std::move(row_of_node));
}

absl::StatusOr<std::vector<float>> ReadCentre(const SegmentFileReader& file) {
  const uint32_t dimension = file.header().shape.dimension;
  MNEMO_ASSIGN_OR_RETURN(const ByteView bytes,
                         file.Get(SegmentSection::kCentre, uint64_t{dimension} * sizeof(float)));
  std::vector<float> centre(dimension);
  CopyInto(bytes, centre.data());
  for (const float value : centre) {
    if (!std::isfinite(value)) return CorruptSegment("centre is not finite");
  }
  return centre;
}

}  // namespace mnemo

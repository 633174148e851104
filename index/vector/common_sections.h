// Sections that segment files of every kind have.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/effort_curve.h"
#include "index/vector/row_map.h"
#include "index/vector/segment_file.h"

namespace mnemo {

// The bytes of an array of plain values, which is how they lie in a file.
template <typename Array>
ByteView BytesOf(const Array& array) {
  return {reinterpret_cast<const uint8_t*>(array.data()), array.size() * sizeof(*array.data())};
}

std::string EncodeCurve(const EffortCurve& curve);

// Each fails with kDataLoss.
absl::StatusOr<EffortCurve> ReadCurve(const SegmentFileReader& file);
absl::StatusOr<RowMap> ReadRows(const SegmentFileReader& file);
absl::StatusOr<std::vector<float>> ReadCentre(const SegmentFileReader& file);

}  // namespace mnemo

#include "storage/context/summary.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/context/embedding.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;

// 1 / |row|, or 0 for a row of zeros, which has no direction.
float InverseNorm(const float* row, size_t dimension) {
  const float square = Dot(row, row, dimension);
  return square > 0 ? 1 / std::sqrt(square) : 0;
}

}  // namespace

ContextSummary SummarizeValues(const ContextSpec& spec, uint8_t level, uint64_t first_position,
                               std::span<const float> values, int64_t now_unix_us) {
  const size_t dimension = spec.dimension;
  const size_t count = values.size() / dimension;
  MNEMO_CHECK(count == TreeNodeTokens(level));
  const bool directions = spec.metric == Metric::kCosine;
  std::vector<float> mean(dimension, 0), centre(dimension, 0), scales(count, 1);
  for (size_t i = 0; i < count; ++i) {
    const float* const row = values.data() + i * dimension;
    if (directions) scales[i] = InverseNorm(row, dimension);
    for (size_t j = 0; j < dimension; ++j) {
      mean[j] += row[j];
      centre[j] += row[j] * scales[i];
    }
  }
  for (size_t j = 0; j < dimension; ++j) {
    mean[j] /= static_cast<float>(count);
    centre[j] /= static_cast<float>(count);
  }
  // The nearest to the centre: |x - c|^2 is |x|^2 - 2 x.c and a constant.
  size_t medoid = 0;
  float least = 0;
  for (size_t i = 0; i < count; ++i) {
    const float* const row = values.data() + i * dimension;
    const float product = Dot(row, centre.data(), dimension);
    const float distance =
        directions ? -product * scales[i] : Dot(row, row, dimension) - 2 * product;
    if (i == 0 || distance < least) {
      medoid = i;
      least = distance;
    }
  }
  ContextSummary summary{.level = level,
                         .first_position = first_position,
                         .medoid_position = first_position + medoid,
                         .made_unix_us = now_unix_us};
  EncodeRows(ElementType::kFloat32,
             {reinterpret_cast<const uint8_t*>(mean.data()), dimension * sizeof(float)}, 1,
             dimension, spec.searched(), summary.row);
  return summary;
}

std::string EncodeSummary(const ContextSpec& spec, const ContextSummary& summary, uint64_t seed) {
  MNEMO_CHECK(summary.row.size() == RowBytes(spec.searched(), spec.dimension));
  std::string out(1, static_cast<char>(kVersion));
  out.push_back(static_cast<char>(summary.level));
  out.push_back(static_cast<char>(spec.searched()));
  out.push_back(0);
  AppendLittle<uint64_t>(out, summary.first_position);
  AppendLittle<uint64_t>(out, summary.medoid_position);
  AppendLittle<int64_t>(out, summary.made_unix_us);
  out.append(summary.row);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ContextSummary> DecodeSummary(const ContextSpec& spec, ByteView value,
                                             uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "summary"));
  ContextSummary summary;
  summary.level = reader.Little<uint8_t>();
  const auto type = reader.Little<uint8_t>();
  const auto zero = reader.Little<uint8_t>();
  summary.first_position = reader.Little<uint64_t>();
  summary.medoid_position = reader.Little<uint64_t>();
  summary.made_unix_us = reader.Little<int64_t>();
  summary.row = AsText(reader.Take(reader.remaining()));
  if (!reader.ok() || zero != 0 || summary.level >= kSummaryLevels ||
      type != static_cast<uint8_t>(spec.searched()) ||
      summary.row.size() != RowBytes(spec.searched(), spec.dimension) ||
      summary.first_position >= kMaxPosition || summary.first_position % summary.count() != 0 ||
      summary.medoid_position - summary.first_position >= summary.count()) {
    return absl::DataLossError("summary: a field out of range");
  }
  return summary;
}

}  // namespace mnemo

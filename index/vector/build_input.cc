#include "index/vector/build_input.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kBatch = 256;
constexpr uint32_t kCentreSample = 16384;

}  // namespace

void Normalize(float* values, size_t count) {
  double norm = 0;
  for (size_t i = 0; i < count; ++i) norm += double{values[i]} * values[i];
  const double scale = norm > 0 ? 1 / std::sqrt(norm) : 0;
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(values[i] * scale);
}

absl::Status BuildInput::ForEach(std::span<const uint32_t> nodes, const Visitor& visit) const {
  const DecodeRowFn decode = kernels_.DecodeRow(shape_.type);
  std::vector<float> values(shape_.dimension);
  std::array<RowId, kBatch> rows;
  std::array<const uint8_t*, kBatch> pointers;
  ReadScratch scratch;
  for (size_t begin = 0; begin < nodes.size(); begin += kBatch) {
    if (cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed)) {
      return absl::CancelledError("build cancelled");
    }
    const size_t count = std::min(kBatch, nodes.size() - begin);
    for (size_t i = 0; i < count; ++i) rows[i] = map_.RowOf(nodes[begin + i]);
    MNEMO_RETURN_IF_ERROR(reader_.Read({rows.data(), count}, scratch, {pointers.data(), count}));
    for (size_t i = 0; i < count; ++i) {
      decode(pointers[i], shape_.dimension, values.data());
      for (const float value : values) {
        if (!std::isfinite(value)) {
          return absl::InvalidArgumentError(
              absl::StrCat("row ", rows[i], " has a value that is not a finite number"));
        }
      }
      visit(nodes[begin + i], values.data());
    }
    scratch.Release();
  }
  return absl::OkStatus();
}

absl::Status BuildInput::ForEach(uint32_t begin, uint32_t end, const Visitor& visit) const {
  std::array<uint32_t, kBatch> nodes;
  while (begin < end) {
    const auto count = std::min<uint32_t>(kBatch, end - begin);
    for (uint32_t i = 0; i < count; ++i) nodes[i] = begin + i;
    MNEMO_RETURN_IF_ERROR(ForEach({nodes.data(), count}, visit));
    begin += count;
  }
  return absl::OkStatus();
}

std::vector<uint32_t> BuildInput::Sample(uint32_t count) const {
  count = std::min(count, map_.nodes());
  std::vector<uint32_t> nodes(count);
  for (uint32_t i = 0; i < count; ++i) {
    nodes[i] = static_cast<uint32_t>(uint64_t{i} * map_.nodes() / count);
  }
  return nodes;
}

absl::StatusOr<std::vector<float>> BuildInput::Centre() const {
  std::vector<double> sum(shape_.dimension);
  const std::vector<uint32_t> sample = Sample(kCentreSample);
  MNEMO_RETURN_IF_ERROR(ForEach(sample, [&](uint32_t, float* values) {
    if (shape_.metric == Metric::kCosine) Normalize(values, shape_.dimension);
    for (uint32_t i = 0; i < shape_.dimension; ++i) sum[i] += values[i];
  }));
  std::vector<float> centre(shape_.dimension);
  for (uint32_t i = 0; i < shape_.dimension && !sample.empty(); ++i) {
    centre[i] = static_cast<float>(sum[i] / static_cast<double>(sample.size()));
  }
  return centre;
}

absl::StatusOr<std::vector<Query>> BuildInput::Queries(std::span<const uint32_t> nodes,
                                                       std::vector<RowId>* rows) const {
  std::vector<Query> queries;
  MNEMO_RETURN_IF_ERROR(ForEach(nodes, [&](uint32_t node, float* values) {
    auto query = Query::Prepare(shape_, {values, shape_.dimension});
    if (!query.ok()) return;
    queries.push_back(*std::move(query));
    if (rows != nullptr) rows->push_back(map_.RowOf(node));
  }));
  return queries;
}

}  // namespace mnemo

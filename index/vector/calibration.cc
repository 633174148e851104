#include "index/vector/calibration.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kBatch = 256;
constexpr size_t kMaxResults = 1024;

bool IsCancelled(const std::atomic<bool>* cancelled) {
  return cancelled != nullptr && cancelled->load(std::memory_order_relaxed);
}

// The true nearest of every query, as sorted ids.
absl::StatusOr<std::vector<std::vector<uint64_t>>> FindTruth(const VectorShape& shape,
                                                             const Kernels& kernels,
                                                             const CalibrationTask& task,
                                                             const VectorReader& reader) {
  const ScoreRowsFn score = kernels.ScoreRows(shape.metric, shape.type);
  std::vector<TopK> best(task.queries.size(), TopK(task.k));
  std::array<RowId, kBatch> rows;
  std::array<const uint8_t*, kBatch> pointers;
  std::array<float, kBatch> scores;
  ReadScratch scratch;
  size_t count = 0;
  for (uint32_t node = 0; node < task.map->nodes(); ++node) {
    const RowId row = task.map->RowOf(node);
    if (task.left_out == nullptr || !task.left_out->Contains(row)) rows[count++] = row;
    if (count < kBatch && node + 1 < task.map->nodes()) continue;
    if (IsCancelled(task.cancelled)) return absl::CancelledError("calibration cancelled");
    MNEMO_RETURN_IF_ERROR(reader.Read({rows.data(), count}, scratch, {pointers.data(), count}));
    for (size_t q = 0; q < task.queries.size(); ++q) {
      score(task.queries[q].values(), pointers.data(), count, shape.dimension, scores.data());
      for (size_t i = 0; i < count; ++i) {
        if (!task.self.empty() && task.self[q] == rows[i]) continue;
        if (scores[i] >= best[q].bound()) best[q].Push(rows[i], scores[i]);
      }
    }
    scratch.Release();
    count = 0;
  }
  std::vector<std::vector<uint64_t>> truth;
  for (TopK& one : best) {
    std::vector<uint64_t>& ids = truth.emplace_back();
    for (const Hit& hit : one.Take()) ids.push_back(hit.id);
    std::sort(ids.begin(), ids.end());
  }
  return truth;
}

}  // namespace

absl::StatusOr<EffortCurve> MeasureEfforts(const VectorShape& shape, const Kernels& kernels,
                                           const CalibrationTask& task, const VectorReader& reader,
                                           const EffortSearch& search) {
  if (task.k < 1 || task.k > kMaxResults) {
    return absl::InvalidArgumentError(
        absl::StrCat("k is ", task.k, ", expected 1 to ", kMaxResults));
  }
  for (const Query& query : task.queries) {
    MNEMO_RETURN_IF_ERROR(CheckSearch(shape, query, {}));
  }
  MNEMO_ASSIGN_OR_RETURN(const auto truth, FindTruth(shape, kernels, task, reader));
  std::vector<EffortPoint> points;
  for (const uint32_t effort : task.efforts) {
    RecallMean mean;
    for (size_t q = 0; q < task.queries.size(); ++q) {
      if (truth[q].empty()) continue;
      if (IsCancelled(task.cancelled)) return absl::CancelledError("calibration cancelled");
      // The query itself takes a place among the results.
      TopK found(task.k + (task.self.empty() ? 0 : 1));
      MNEMO_RETURN_IF_ERROR(search(task.queries[q], effort, found));
      size_t right = 0;
      for (const Hit& hit : found.Take()) {
        right += std::binary_search(truth[q].begin(), truth[q].end(), hit.id) ? 1 : 0;
      }
      mean.Add(static_cast<double>(right) / static_cast<double>(truth[q].size()));
    }
    points.push_back(mean.Point(effort));
    if (points.back().recall >= 1) break;
  }
  return EffortCurve(static_cast<uint32_t>(task.k), std::move(points));
}

}  // namespace mnemo

#include "index/vector/rerank.h"

#include <algorithm>
#include <array>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Rows a call to the reader: enough to spread its fixed cost, few enough to
// stay in the cache until they are scored.
constexpr size_t kBatch = 256;

}  // namespace

absl::Status Rerank(const VectorShape& shape, const Kernels& kernels, const Query& query,
                    std::span<const RowId> rows, uint64_t first_id, const VectorReader& reader,
                    ReadScratch& scratch, TopK& best, SearchCounters* counters) {
  const ScoreRowsFn score = kernels.ScoreRows(shape.metric, shape.type);
  std::array<const uint8_t*, kBatch> pointers;
  std::array<float, kBatch> scores;
  for (size_t begin = 0; begin < rows.size(); begin += kBatch) {
    const std::span<const RowId> batch = rows.subspan(begin, std::min(kBatch, rows.size() - begin));
    MNEMO_RETURN_IF_ERROR(reader.Read(batch, scratch, {pointers.data(), batch.size()}));
    score(query.values(), pointers.data(), batch.size(), shape.dimension, scores.data());
    for (size_t i = 0; i < batch.size(); ++i) {
      if (scores[i] >= best.bound()) best.Push(first_id + batch[i], scores[i]);
    }
    scratch.Release();
  }
  if (counters != nullptr) counters->reranked += rows.size();
  return absl::OkStatus();
}

absl::Status ScanRows(const VectorShape& shape, const Kernels& kernels, const Query& query,
                      const SegmentSearch& options, uint32_t rows, const VectorReader& reader,
                      TopK& best, SearchCounters* counters) {
  MNEMO_RETURN_IF_ERROR(CheckSearch(shape, query, options));
  const uint32_t end = options.filter != nullptr ? std::min(rows, options.filter->size()) : rows;
  ReadScratch scratch;
  std::array<RowId, kBatch> batch;
  size_t count = 0;
  for (RowId row = 0; row < end; ++row) {
    if (options.filter == nullptr || options.filter->Contains(row)) batch[count++] = row;
    if (count < kBatch && row + 1 < end) continue;
    if (options.cancelled != nullptr && options.cancelled->load(std::memory_order_relaxed)) {
      return absl::CancelledError("search cancelled");
    }
    MNEMO_RETURN_IF_ERROR(Rerank(shape, kernels, query, {batch.data(), count}, options.first_id,
                                 reader, scratch, best, counters));
    count = 0;
  }
  return absl::OkStatus();
}

}  // namespace mnemo

#include "storage/context/consolidator.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

constexpr uint64_t kBlockChunks = TreeNodeTokens(kSummaryLevels - 1) / kChunkTokens;

// Embeddings of [first, end), which are complete chunks, as fp32.
absl::StatusOr<std::vector<float>> ReadValues(const ContextReader& reader,
                                              const ContextRecord& context, uint64_t first,
                                              uint64_t end) {
  const size_t dimension = context.spec.dimension;
  std::vector<float> values((end - first) * dimension);
  size_t at = 0;
  const auto decode = [&](ChunkPiece& piece) {
    DecodeRows(context.spec.stored, piece.rows->row(0), piece.columns.count, dimension,
               values.data() + at);
    at += piece.columns.count * dimension;
    return true;
  };
  MNEMO_RETURN_IF_ERROR(reader.ScanChunks(context, first, end, /*with_rows=*/true, decode));
  if (at == values.size()) return values;
  return absl::DataLossError(fmt::format("context '{}': tokens {} to {} are not complete",
                                         context.spec.name, first, end - 1));
}

}  // namespace

absl::StatusOr<Consolidator::Progress> Consolidator::Step(const ContextRecord& context) {
  MNEMO_ASSIGN_OR_RETURN(const uint64_t done,
                         contexts_.reader().summaries().ConsolidatedTokens(context));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(context));
  const uint64_t complete = head.next_position / kChunkTokens;
  const uint64_t begin = done / kChunkTokens;
  if (begin >= complete) return Progress{};
  // From the begin of the block, so that its larger summaries see all of it.
  const uint64_t block = begin / kBlockChunks * kBlockChunks;
  const uint64_t end = std::min(complete, block + kBlockChunks);
  MNEMO_ASSIGN_OR_RETURN(
      const std::vector<float> values,
      ReadValues(contexts_.reader(), context, block * kChunkTokens, end * kChunkTokens));
  const int64_t now = clock_.Wall().nanos / 1000;
  Progress progress{.bytes_read = (end - block) * kChunkTokens * context.spec.row_bytes(),
                    .more = end < complete};
  StoreBatch batch;
  for (uint64_t chunk = begin; chunk < end; ++chunk) {
    for (uint8_t level = 0; level < kSummaryLevels; ++level) {
      const uint64_t tokens = TreeNodeTokens(level);
      const uint64_t behind = (chunk + 1) * kChunkTokens;
      if (behind % tokens != 0) break;
      const uint64_t first = behind - tokens;
      const std::span<const float> part = std::span(values).subspan(
          (first - block * kChunkTokens) * context.spec.dimension, tokens * context.spec.dimension);
      const StoredKey key = SummaryKey(context.scope, level, first / tokens);
      batch.Put(key,
                EncodeSummary(context.spec, SummarizeValues(context.spec, level, first, part, now),
                              SeedOf(key)));
      ++progress.summaries;
    }
  }
  const StoredKey key = ConsolidatedKey(context.scope);
  batch.Put(key, EncodeConsolidated(end * kChunkTokens, SeedOf(key)));
  // One block lies in one range, and so in one shard beside the home.
  const StoredKey first = SummaryKey(context.scope, 0, begin);
  for (const uint16_t shard : std::set<uint16_t>{first.shard(), key.shard()}) {
    batch.Log({.shard = shard, .kind = OperationKind::kPutSummaries, .key = first.bytes()});
  }
  MNEMO_RETURN_IF_ERROR(contexts_.ChangeIfThere(
      context, [&] { return contexts_.stores().Of(context).Apply(batch, /*sync=*/false); }));
  return progress;
}

}  // namespace mnemo

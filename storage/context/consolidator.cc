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

// Embeddings of neighbouring chunks as fp32.
struct BlockValues {
  std::vector<float> values;
  std::vector<absl::Status> chunks;  // not OK: damaged, and its values are 0
};

absl::Status ReadValues(const ContextReader& reader, const ContextRecord& context, uint64_t first,
                        uint64_t end, float* out) {
  const size_t dimension = context.spec.dimension;
  uint64_t next = first;
  const auto decode = [&](ChunkPiece& piece) {
    DecodeRows(context.spec.stored, piece.rows->row(0), piece.columns.count, dimension,
               out + (next - first) * dimension);
    next += piece.columns.count;
    return true;
  };
  MNEMO_RETURN_IF_ERROR(reader.ScanChunks(context, first, end, /*with_rows=*/true, decode));
  if (next == end) return absl::OkStatus();
  return absl::DataLossError(fmt::format("context '{}': tokens {} to {} are not complete",
                                         context.spec.name, first, end - 1));
}

// Chunks [first, end), which are complete.
absl::StatusOr<BlockValues> ReadBlock(const ContextReader& reader, const ContextRecord& context,
                                      uint64_t first, uint64_t end) {
  const size_t chunk_values = kChunkTokens * context.spec.dimension;
  BlockValues block{.values = std::vector<float>((end - first) * chunk_values),
                    .chunks = std::vector<absl::Status>(end - first)};
  const absl::Status all =
      ReadValues(reader, context, first * kChunkTokens, end * kChunkTokens, block.values.data());
  if (!absl::IsDataLoss(all)) {
    MNEMO_RETURN_IF_ERROR(all);
    return block;
  }
  // One by one, to know which.
  for (uint64_t chunk = first; chunk < end; ++chunk) {
    absl::Status& status = block.chunks[chunk - first];
    status = ReadValues(reader, context, chunk * kChunkTokens, (chunk + 1) * kChunkTokens,
                        block.values.data() + (chunk - first) * chunk_values);
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
  }
  return block;
}

}  // namespace

absl::StatusOr<Consolidator::Progress> Consolidator::Step(const ContextRecord& context) {
  MNEMO_ASSIGN_OR_RETURN(Consolidation made, contexts_.reader().summaries().Progress(context));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(context));
  const uint64_t complete = head.next_position / kChunkTokens;
  const uint64_t begin = made.tokens / kChunkTokens;
  if (begin >= complete) return Progress{};
  // From the begin of the block, so that its larger summaries see all of it.
  const uint64_t block = begin / kBlockChunks * kBlockChunks;
  const uint64_t end = std::min(complete, block + kBlockChunks);
  MNEMO_ASSIGN_OR_RETURN(const BlockValues read,
                         ReadBlock(contexts_.reader(), context, block, end));
  // Whether all of [first, behind) can be read.
  const auto sound = [&](uint64_t first, uint64_t behind) {
    return std::all_of(read.chunks.begin() + static_cast<ptrdiff_t>(first - block),
                       read.chunks.begin() + static_cast<ptrdiff_t>(behind - block),
                       [](const absl::Status& status) { return status.ok(); });
  };
  const int64_t now = clock_.Wall().nanos / 1000;
  Progress progress{.bytes_read = (end - block) * kChunkTokens * context.spec.row_bytes(),
                    .more = end < complete};
  StoreBatch batch;
  for (uint64_t chunk = begin; chunk < end; ++chunk) {
    if (!read.chunks[chunk - block].ok()) {
      progress.damage.Update(read.chunks[chunk - block]);
      ++progress.damaged_chunks;
    }
    for (uint8_t level = 0; level < kSummaryLevels; ++level) {
      const uint64_t tokens = TreeNodeTokens(level);
      const uint64_t behind = (chunk + 1) * kChunkTokens;
      if (behind % tokens != 0) break;
      const uint64_t first = behind - tokens;
      if (!sound(first / kChunkTokens, chunk + 1)) {
        ++made.left_out[level];
        continue;
      }
      const std::span<const float> part =
          std::span(read.values)
              .subspan((first - block * kChunkTokens) * context.spec.dimension,
                       tokens * context.spec.dimension);
      const StoredKey key = SummaryKey(context.scope, level, first / tokens);
      batch.Put(key,
                EncodeSummary(context.spec, SummarizeValues(context.spec, level, first, part, now),
                              SeedOf(key)));
      ++progress.summaries;
    }
  }
  const StoredKey key = ConsolidatedKey(context.scope);
  made.tokens = end * kChunkTokens;
  batch.Put(key, EncodeConsolidation(made, SeedOf(key)));
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

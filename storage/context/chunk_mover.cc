#include "storage/context/chunk_mover.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint64_t kRunChunks = kRunTokens / kChunkTokens;

// The embeddings of a run as they lie in `store`, verified.
absl::StatusOr<ChunkValues> ReadRun(const Store& store, const ContextRecord& context,
                                    uint64_t run) {
  MNEMO_ASSIGN_OR_RETURN(ChunkValues values,
                         ReadRowValues(store, context.scope, run / kRunsPerRange, run * kRunChunks,
                                       (run + 1) * kRunChunks));
  // Nothing that is damaged is copied, and nothing good deleted for it.
  uint64_t next = run * kRunTokens;
  for (const auto& [key, value] : values) {
    MNEMO_ASSIGN_OR_RETURN(const ChunkRows rows, ChunkRows::Decode(value, SeedOf(key)));
    if (rows.first_position() != next) break;
    next = rows.end_position();
  }
  if (next == (run + 1) * kRunTokens) return values;
  return absl::DataLossError(
      fmt::format("context '{}': embeddings of token {} are missing", context.spec.name, next));
}

Operation MoveOperation(const StoredKey& placement, uint64_t run, Level level) {
  std::string payload;
  AppendLittle<uint64_t>(payload, run * kRunChunks);
  AppendLittle<uint32_t>(payload, static_cast<uint32_t>(kRunChunks));
  payload.push_back(static_cast<char>(level));
  return {.shard = placement.shard(),
          .kind = OperationKind::kMoveChunks,
          .key = placement.bytes(),
          .payload = std::move(payload)};
}

}  // namespace

absl::Status ChunkMover::Demote(const ContextRecord& context, uint64_t run) {
  MNEMO_RETURN_IF_ERROR(Move(context, run, /*to_archive=*/true));
  contexts_.uses().Forget(context.scope, run);
  return absl::OkStatus();
}

absl::Status ChunkMover::Promote(const ContextRecord& context, uint64_t run) {
  return Move(context, run, /*to_archive=*/false);
}

absl::Status ChunkMover::Move(const ContextRecord& context, uint64_t run, bool to_archive) {
  Store* const archive = contexts_.stores().ArchiveOf(context.spec.durability);
  if (archive == nullptr) return absl::FailedPreconditionError("this node has no archive");
  Store& near = contexts_.stores().Of(context);
  const StoredKey placement = PlacementKey(context.scope, run / kRunsPerRange);
  const uint64_t bit = uint64_t{1} << (run % kRunsPerRange);
  // All of it under the context's lock: a deletion comes before, and there is
  // nothing to move, or after, and finds both copies.
  return contexts_.ChangeIfThere(context, [&]() -> absl::Status {
    MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(context));
    if ((run + 1) * kRunTokens > head.next_position) {
      return absl::OutOfRangeError(
          fmt::format("run {} is not complete (0 to {})", run, head.next_position / kRunTokens));
    }
    MNEMO_ASSIGN_OR_RETURN(const uint64_t archived,
                           contexts_.reader().ArchivedRuns(context, run / kRunsPerRange));
    if (((archived & bit) != 0) == to_archive) return absl::OkStatus();
    MNEMO_ASSIGN_OR_RETURN(ChunkValues values, ReadRun(to_archive ? near : *archive, context, run));
    const Operation operation =
        MoveOperation(placement, run, to_archive ? Level::kDisk : Level::kL3);
    StoreBatch far;
    StoreBatch here;
    far.Log(operation);
    here.Log(operation);
    here.Put(placement, EncodePlacement(archived ^ bit, SeedOf(placement)));
    for (auto& [key, value] : values) {
      if (to_archive) {
        here.Put(key, EncodeMovedMark(SeedOf(key)));
        far.Put(key, std::move(value));
      } else {
        here.Put(key, std::move(value));
        far.Delete(key);
      }
    }
    // The copy is on stable storage before the original goes.
    if (to_archive) MNEMO_RETURN_IF_ERROR(archive->Apply(far, /*sync=*/true));
    MNEMO_RETURN_IF_ERROR(near.Apply(here, /*sync=*/true));
    return to_archive ? absl::OkStatus() : archive->Apply(far, /*sync=*/false);
  });
}

}  // namespace mnemo

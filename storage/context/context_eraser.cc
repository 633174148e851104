#include "storage/context/context_eraser.h"

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"

namespace mnemo {
namespace {

constexpr KeyKind kKinds[] = {KeyKind::kContextHead, KeyKind::kChunk,    KeyKind::kTreeNode,
                              KeyKind::kPayload,     KeyKind::kLink,     KeyKind::kSummary,
                              KeyKind::kSegment,     KeyKind::kPlacement};

std::set<uint16_t> ShardsOf(KeyScope scope, uint64_t tokens) {
  std::set<uint16_t> shards;
  for (uint64_t range = 0; range <= tokens / kRangeTokens && shards.size() < kShardCount; ++range) {
    shards.insert(ShardOfRange(scope, range));
  }
  return shards;
}

// Up to `limit` keys of a context in one shard of one store. Returns how many.
absl::StatusOr<size_t> EraseInShard(Store& store, uint16_t shard, KeyScope scope, size_t limit) {
  StoreBatch batch;
  for (const KeyKind kind : kKinds) {
    const StoredKey prefix(shard, kind, scope, "");
    MNEMO_RETURN_IF_ERROR(store.Scan(prefix.bytes(), PrefixEnd(prefix.bytes()),
                                     [&](const StoredKey& key, std::string_view) {
                                       if (batch.writes().size() == limit) return false;
                                       batch.Delete(key);
                                       return true;
                                     }));
  }
  const size_t erased = batch.writes().size();
  if (erased == 0) return 0;
  batch.Log({.shard = shard,
             .kind = OperationKind::kEraseContext,
             .key = StoredKey(shard, KeyKind::kErasedContext, scope, "").bytes()});
  MNEMO_RETURN_IF_ERROR(store.Apply(batch, /*sync=*/false));
  return erased;
}

}  // namespace

absl::StatusOr<size_t> ContextEraser::EraseSome(KeyScope scope, const ErasedContext& erased,
                                                size_t limit) {
  size_t done = 0;
  for (Store* const store :
       {&stores_.Of(erased.durability), stores_.ArchiveOf(erased.durability)}) {
    if (store == nullptr) continue;
    for (const uint16_t shard : ShardsOf(scope, erased.tokens)) {
      if (done == limit) return done;
      MNEMO_ASSIGN_OR_RETURN(const size_t more, EraseInShard(*store, shard, scope, limit - done));
      done += more;
    }
    // The note goes only after what it stands for is gone for good.
    if (done < limit) MNEMO_RETURN_IF_ERROR(store->Sync());
  }
  return done;
}

absl::StatusOr<bool> ContextEraser::Step() {
  const StoredKey first = ErasedKey({});
  const StoredKey prefix(first.shard(), KeyKind::kErasedContext, {}, "");
  std::optional<std::pair<StoredKey, std::string>> note;
  bool more = false;
  MNEMO_RETURN_IF_ERROR(stores_.sync->Scan(prefix.bytes(),
                                           PrefixEnd(std::string_view(prefix.bytes()).substr(0, 3)),
                                           [&](const StoredKey& key, std::string_view value) {
                                             more = note.has_value();
                                             if (!more) note.emplace(key, value);
                                             return !more;
                                           }));
  if (!note) return false;
  const auto& [key, value] = *note;
  MNEMO_ASSIGN_OR_RETURN(const ErasedContext erased, DecodeErased(AsBytes(value), SeedOf(key)));
  MNEMO_ASSIGN_OR_RETURN(const size_t keys, EraseSome(key.scope(), erased, kKeysPerStep));
  if (keys == kKeysPerStep) return true;
  StoreBatch batch;
  batch.Delete(key);
  batch.Log({.shard = key.shard(), .kind = OperationKind::kEraseContext, .key = key.bytes()});
  MNEMO_RETURN_IF_ERROR(stores_.sync->Apply(batch, /*sync=*/true));
  return more;
}

}  // namespace mnemo

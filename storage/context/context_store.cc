#include "storage/context/context_store.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"
#include "storage/context/append_plan.h"
#include "storage/context/context_keys.h"

namespace mnemo {
namespace {

Operation MakeOperation(const StoredKey& key, OperationKind kind, std::string payload = "") {
  return {.shard = key.shard(), .kind = kind, .key = key.bytes(), .payload = std::move(payload)};
}

std::string DescribeAppend(const ContextHead& head) {
  std::string payload;
  AppendLittle<uint64_t>(payload, head.last_first);
  AppendLittle<uint32_t>(payload, head.last_count);
  AppendLittle<uint64_t>(payload, head.writer);
  AppendLittle<uint64_t>(payload, head.claim);
  AppendLittle<uint64_t>(payload, head.last_digest);
  return payload;
}

absl::Status SealedError(const ContextRecord& context) {
  return absl::FailedPreconditionError(
      fmt::format("context '{}' is sealed: nothing can be appended", context.spec.name));
}

// Whether what is stored says the same as what is offered; a time that is not
// given is whatever it was.
bool SameColumns(const ChunkColumns& stored, const ChunkColumns& offered, uint32_t skip,
                 bool with_times) {
  for (uint32_t i = 0; i < stored.count; ++i) {
    if (stored.id(i) != offered.id(skip + i) || stored.kinds[i] != offered.kinds[skip + i] ||
        stored.importance(i) != offered.importance(skip + i) ||
        (with_times && stored.times_unix_us[i] != offered.times_unix_us[skip + i])) {
      return false;
    }
  }
  return true;
}

}  // namespace

ContextStore::ContextStore(const ContextStores& stores, const Clock& clock,
                           const ContextStoreOptions& options)
    : stores_(stores),
      clock_(clock),
      cache_(options.cache_bytes),
      columns_(options.columns_bytes),
      uses_(clock),
      registry_(*stores.sync, clock),
      reader_(stores_, cache_, columns_, uses_),
      eraser_(stores_) {}

Mutex& ContextStore::LockOf(const ContextRecord& context) {
  return locks_[HomeShard(context.scope)];
}

absl::StatusOr<ContextHead> ContextStore::HeadForChange(const ContextRecord& context) const {
  // Heads do not know of a deletion: records do.
  MNEMO_RETURN_IF_ERROR(registry_.ById(context.scope.tenant, context.scope.space).status());
  return reader_.Head(context);
}

void ContextStore::PutHead(const ContextRecord& context, const ContextHead& head,
                           StoreBatch& batch) const {
  const StoredKey key = HeadKey(context.scope);
  batch.Put(key, EncodeHead(head, SeedOf(key)));
}

absl::StatusOr<WriterClaim> ContextStore::Claim(const ContextRecord& context, uint64_t writer) {
  if (writer == 0) return absl::InvalidArgumentError("writer is 0 (1 to 2^64 - 1)");
  MutexLock lock(LockOf(context));
  MNEMO_ASSIGN_OR_RETURN(ContextHead head, HeadForChange(context));
  if (head.sealed) return SealedError(context);
  head.writer = writer;
  ++head.claim;
  std::string payload;
  AppendLittle<uint64_t>(payload, head.writer);
  AppendLittle<uint64_t>(payload, head.claim);
  StoreBatch batch;
  PutHead(context, head, batch);
  batch.Log(MakeOperation(HeadKey(context.scope), OperationKind::kClaimContext, payload));
  MNEMO_RETURN_IF_ERROR(stores_.Of(context).Apply(batch, /*sync=*/false));
  return WriterClaim{.writer = writer, .claim = head.claim, .next_position = head.next_position};
}

absl::StatusOr<AppendResult> ContextStore::Append(const ContextRecord& context,
                                                  const WriterClaim& claim,
                                                  const TokenColumns& tokens,
                                                  Durability durability) {
  MNEMO_RETURN_IF_ERROR(ValidateColumns(context.spec, tokens));
  const uint64_t digest = DigestOf(tokens);
  MutexLock lock(LockOf(context));
  MNEMO_ASSIGN_OR_RETURN(ContextHead head, HeadForChange(context));
  if (head.claim != claim.claim || head.writer != claim.writer) {
    return absl::AbortedError(fmt::format("context '{}' was claimed since by writer {:016x}",
                                          context.spec.name, head.writer));
  }
  if (tokens.first_position > head.next_position) {
    return absl::OutOfRangeError(fmt::format("first_position is {} (expected {})",
                                             tokens.first_position, head.next_position));
  }
  if (tokens.first_position < head.next_position) {
    MNEMO_ASSIGN_OR_RETURN(const AppendResult repeated, CheckRepeat(context, head, tokens, digest));
    // The first may have been refused, or been content with less.
    Store& store = stores_.Of(context);
    MNEMO_RETURN_IF_ERROR(durability == Durability::kSync ? store.Sync() : store.Writable());
    return repeated;
  }
  if (head.sealed) return SealedError(context);
  if (full_) {
    ++refused_appends_;
    return absl::ResourceExhaustedError(
        "disk.contexts is taken by embeddings, and the archive has no room for more");
  }
  head.last_first = tokens.first_position;
  head.last_count = tokens.count;
  head.last_digest = digest;
  MNEMO_RETURN_IF_ERROR(Write(context, tokens, head, durability == Durability::kSync));
  if (head.next_position / kChunkTokens != tokens.first_position / kChunkTokens) {
    changed_.Note(context.scope);
  }
  return AppendResult{.next_position = head.next_position};
}

absl::Status ContextStore::Write(const ContextRecord& context, const TokenColumns& tokens,
                                 ContextHead& head, bool sync) {
  StoreBatch batch;
  AppendPlan plan(context, stores_.Of(context), batch);
  const std::string rows = ToStoredRows(context.spec, tokens);
  MNEMO_RETURN_IF_ERROR(
      plan.AddTokens(ToColumns(tokens, clock_.Wall().nanos / 1000), AsBytes(rows)));
  std::set<uint16_t> shards = plan.shards();
  for (const PayloadView& payload : tokens.payloads) {
    const StoredKey key = PayloadKey(context.scope, payload.first_position + payload.count - 1);
    batch.Put(key, EncodePayload(payload, SeedOf(key)));
    shards.insert(key.shard());
    ++head.payloads;
    head.payload_bytes += payload.bytes.size();
  }
  head.next_position = tokens.first_position + tokens.count;
  PutHead(context, head, batch);
  shards.insert(HomeShard(context.scope));
  // One in each shard that changes, so that each shard's log tells all of it.
  for (const uint16_t shard : shards) {
    batch.Log(MakeOperation(StoredKey(shard, KeyKind::kContextHead, context.scope, ""),
                            OperationKind::kAppendTokens, DescribeAppend(head)));
  }
  return stores_.Of(context).Apply(batch, sync);
}

absl::StatusOr<AppendResult> ContextStore::CheckRepeat(const ContextRecord& context,
                                                       const ContextHead& head,
                                                       const TokenColumns& tokens,
                                                       uint64_t digest) const {
  const AppendResult repeated{.next_position = head.next_position, .repeated = true};
  if (tokens.first_position == head.last_first && tokens.count == head.last_count &&
      digest == head.last_digest) {
    return repeated;
  }
  const uint64_t end = tokens.first_position + tokens.count;
  if (end > head.next_position) {
    return absl::AlreadyExistsError(
        fmt::format("first_position is {}, of {} tokens {} are there already (expected {})",
                    tokens.first_position, tokens.count, head.next_position - tokens.first_position,
                    head.next_position));
  }
  MNEMO_ASSIGN_OR_RETURN(const bool same, SameTokens(context, tokens));
  if (same) return repeated;
  return absl::AlreadyExistsError(
      fmt::format("first_position is {}: other tokens are at {} to {} (expected {})",
                  tokens.first_position, tokens.first_position, end - 1, head.next_position));
}

absl::StatusOr<bool> ContextStore::SameTokens(const ContextRecord& context,
                                              const TokenColumns& tokens) const {
  const uint64_t first = tokens.first_position;
  const uint64_t end = first + tokens.count;
  const ChunkColumns offered = ToColumns(tokens, 0);
  const std::string rows = ToStoredRows(context.spec, tokens);
  const size_t row_bytes = context.spec.row_bytes();
  bool same = true;
  const auto compare = [&](ChunkPiece& piece) {
    const uint64_t begin = std::max(first, piece.columns.first_position);
    const auto skip = static_cast<uint32_t>(begin - piece.columns.first_position);
    const auto count = static_cast<uint32_t>(std::min(end, piece.columns.end_position()) - begin);
    const size_t at = begin - first;
    same = SameColumns(Slice(piece.columns, skip, count), offered, static_cast<uint32_t>(at),
                       !tokens.times_unix_us.empty()) &&
           AsText(piece.rows->rows().subspan(skip * row_bytes, count * row_bytes)) ==
               std::string_view(rows).substr(at * row_bytes, count * row_bytes);
    return same;
  };
  MNEMO_RETURN_IF_ERROR(reader_.ScanChunks(context, first, end, /*with_rows=*/true, compare));
  if (!same) return false;
  size_t matched = 0;
  const auto compare_payload = [&](StoredPayload& payload) {
    same = matched < tokens.payloads.size() &&
           payload.first_position == tokens.payloads[matched].first_position &&
           payload.count == tokens.payloads[matched].count &&
           payload.bytes == tokens.payloads[matched].bytes;
    ++matched;
    return same;
  };
  MNEMO_RETURN_IF_ERROR(reader_.ScanPayloads(context, first, end, compare_payload));
  return same && matched == tokens.payloads.size();
}

absl::StatusOr<uint64_t> ContextStore::Seal(const ContextRecord& context) {
  MutexLock lock(LockOf(context));
  MNEMO_ASSIGN_OR_RETURN(ContextHead head, HeadForChange(context));
  if (head.sealed) {
    MNEMO_RETURN_IF_ERROR(stores_.Of(context).Writable());
    return head.next_position;
  }
  head.sealed = true;
  std::string payload;
  AppendLittle<uint64_t>(payload, head.next_position);
  StoreBatch batch;
  PutHead(context, head, batch);
  batch.Log(MakeOperation(HeadKey(context.scope), OperationKind::kSealContext, payload));
  MNEMO_RETURN_IF_ERROR(stores_.Of(context).Apply(batch, /*sync=*/true));
  return head.next_position;
}

absl::Status ContextStore::PutLink(const ContextRecord& context, const ContextLink& link) {
  MNEMO_RETURN_IF_ERROR(link.Validate());
  MutexLock lock(LockOf(context));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, HeadForChange(context));
  if (link.end_position() > head.next_position) {
    return absl::OutOfRangeError(fmt::format("the link covers {} to {} (0 to {})",
                                             link.first_position, link.end_position(),
                                             head.next_position));
  }
  const StoredKey key =
      LinkKey(context.scope, link.end_position() - 1, link.first_position, link.space);
  StoreBatch batch;
  batch.Put(key, EncodeLink(link, SeedOf(key)));
  batch.Log(MakeOperation(key, OperationKind::kPutLink));
  return stores_.Of(context).Apply(batch, /*sync=*/false);
}

absl::Status ContextStore::ChangeIfThere(const ContextRecord& context,
                                         const std::function<absl::Status()>& change) {
  MutexLock lock(LockOf(context));
  MNEMO_RETURN_IF_ERROR(registry_.ById(context.scope.tenant, context.scope.space).status());
  return change();
}

absl::StatusOr<uint64_t> ContextStore::Delete(const ContextRecord& context) {
  MutexLock lock(LockOf(context));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, reader_.Head(context));
  MNEMO_ASSIGN_OR_RETURN(const bool removed, registry_.Remove(context, head.next_position));
  cache_.EraseContext(context.scope);
  columns_.EraseContext(context.scope);
  changed_.Note(context.scope);
  return removed ? head.next_position : 0;
}

}  // namespace mnemo

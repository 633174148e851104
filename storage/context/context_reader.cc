#include "storage/context/context_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

// Chunks that are read at once: 32 of dimension 4,096 in fp16 are 32 MiB, of
// dimension 256 they are 2.
constexpr uint64_t kWindowChunks = 32;
constexpr uint64_t kChunksPerRange = kRangeTokens / kChunkTokens;
constexpr uint64_t kMaxLinkTokens =
    uint64_t{ContextLink::kMaxTokensPerBlock} * ContextLink::kMaxKeys;

constexpr uint8_t kVersion = 1;
constexpr int kLooks = 4;         // for embeddings that are being moved
constexpr uint8_t kMoved = 0xff;  // where other values have their element type

absl::Status Missing(const ContextRecord& context, uint64_t first, uint64_t end) {
  return absl::DataLossError(
      fmt::format("context '{}': tokens {} to {} are missing", context.spec.name, first, end - 1));
}

absl::Status Located(const ContextRecord& context, uint64_t position, const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  return absl::DataLossError(fmt::format("context '{}', tokens from {}: {}", context.spec.name,
                                         position, std::string(status.message())));
}

absl::StatusOr<ChunkColumns> DecodeColumnsAt(const ContextRecord& context, const StoredKey& key,
                                             std::string_view value) {
  absl::StatusOr<ChunkColumns> decoded = DecodeColumns(AsBytes(value), SeedOf(key));
  if (decoded.ok() && decoded->first_position != PositionOfChunkKey(key)) {
    decoded = absl::DataLossError("columns of another position");
  }
  if (!decoded.ok()) return Located(context, PositionOfChunkKey(key), decoded.status());
  return decoded;
}

}  // namespace

absl::StatusOr<ChunkValues> ReadRowValues(const Store& store, KeyScope scope, uint64_t range,
                                          uint64_t first_chunk, uint64_t end_chunk,
                                          const StoreSnapshot* snapshot) {
  ChunkValues values;
  MNEMO_RETURN_IF_ERROR(store.Scan(
      ChunkBound(scope, ChunkPart::kRows, range, first_chunk).bytes(),
      ChunkBound(scope, ChunkPart::kRows, range, end_chunk).bytes(),
      [&](const StoredKey& key, std::string_view value) {
        values.emplace_back(key, value);
        return true;
      },
      snapshot));
  return values;
}

std::string EncodeMovedMark(uint64_t seed) {
  std::string value{static_cast<char>(kVersion), static_cast<char>(kMoved)};
  SealValue(value, seed);
  return value;
}

bool IsMovedMark(std::string_view value, uint64_t seed) {
  return value.size() == 2 + kSealBytes && static_cast<uint8_t>(value[1]) == kMoved &&
         OpenValue(AsBytes(value), seed, kVersion, "mark").ok();
}

std::string EncodePlacement(uint64_t archived, uint64_t seed) {
  std::string value(1, static_cast<char>(kVersion));
  AppendLittle<uint64_t>(value, archived);
  SealValue(value, seed);
  return value;
}

absl::StatusOr<uint64_t> ContextReader::ArchivedRuns(const ContextRecord& context,
                                                     uint64_t range) const {
  const StoredKey key = PlacementKey(context.scope, range);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  if (absl::IsNotFound(value.status())) return 0;
  if (!value.ok()) return value.status();
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader,
                         OpenValue(AsBytes(*value), SeedOf(key), kVersion, "placement"));
  const auto archived = reader.Little<uint64_t>();
  if (reader.ok() && reader.remaining() == 0) return archived;
  return absl::DataLossError("placement: another length than its fields say");
}

absl::StatusOr<Level> ContextReader::LevelOf(const ContextRecord& context,
                                             uint64_t position) const {
  if (cache_.Contains(context.scope, position / context.spec.group_tokens())) return Level::kL1;
  MNEMO_ASSIGN_OR_RETURN(const uint64_t archived, ArchivedRuns(context, position / kRangeTokens));
  const bool moved = ((archived >> (position / kRunTokens % kRunsPerRange)) & 1) != 0;
  return moved ? Level::kDisk : Level::kL3;
}

absl::StatusOr<ContextHead> ContextReader::Head(const ContextRecord& context) const {
  const StoredKey key = HeadKey(context.scope);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  // It is written with the first claim.
  if (absl::IsNotFound(value.status())) return ContextHead{};
  if (!value.ok()) return value.status();
  return DecodeHead(AsBytes(*value), SeedOf(key));
}

absl::StatusOr<std::string> ContextReader::ReadMoved(const ContextRecord& context,
                                                     const StoredKey& key, Level& level) const {
  const Store* const archive = stores_.ArchiveOf(context.spec.durability);
  if (archive == nullptr) {
    return absl::FailedPreconditionError("embeddings lie in an archive that is not open");
  }
  // They may come back between two looks, and leave again before the next.
  for (int look = 0; look < kLooks; ++look) {
    level = Level::kDisk;
    absl::StatusOr<std::string> value = archive->Get(key);
    if (!absl::IsNotFound(value.status())) return value;
    level = Level::kL3;
    value = stores_.Of(context).Get(key);
    if (absl::IsNotFound(value.status())) break;
    if (!value.ok() || !IsMovedMark(*value, SeedOf(key))) return value;
  }
  const uint64_t position = PositionOfChunkKey(key);
  return Missing(context, position, position + context.spec.group_tokens());
}

absl::StatusOr<ChunkCache::RowsPtr> ContextReader::DecodeRows(const ContextRecord& context,
                                                              const StoredKey& key,
                                                              std::string value,
                                                              Level& level) const {
  const uint64_t seed = SeedOf(key);
  level = Level::kL3;
  if (IsMovedMark(value, seed)) {
    MNEMO_ASSIGN_OR_RETURN(value, ReadMoved(context, key, level));
  }
  absl::StatusOr<ChunkRows> rows = ChunkRows::Decode(std::move(value), seed);
  if (!rows.ok()) return Located(context, PositionOfChunkKey(key), rows.status());
  if (rows->first_position() != PositionOfChunkKey(key) ||
      rows->dimension() != context.spec.dimension || rows->type() != context.spec.stored) {
    return Located(context, PositionOfChunkKey(key),
                   absl::DataLossError("embeddings of another shape"));
  }
  return std::make_shared<const ChunkRows>(*std::move(rows));
}

absl::StatusOr<ChunkPiece> ContextReader::ReadCompleteChunk(const ContextRecord& context,
                                                            uint64_t first, uint64_t end,
                                                            bool with_rows) const {
  const uint64_t chunk = first / kChunkTokens;
  const StoredKey key = ChunkKey(context.scope, ChunkPart::kColumns, chunk, 0);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  if (absl::IsNotFound(value.status())) return Missing(context, first, end);
  if (!value.ok()) return value.status();
  MNEMO_ASSIGN_OR_RETURN(ChunkColumns columns, DecodeColumnsAt(context, key, *value));
  if (columns.count != kChunkTokens) return Missing(context, columns.end_position(), end);
  if (!with_rows) return ChunkPiece{.columns = std::move(columns)};
  // Only the groups that are asked for.
  const uint32_t group = context.spec.group_tokens();
  first = first / group * group;
  const auto count = static_cast<uint32_t>((end - first + group - 1) / group * group);
  ChunkPiece piece{.columns = Slice(columns, static_cast<uint32_t>(first % kChunkTokens), count),
                   .rows = nullptr,
                   .level = Level::kL1};
  std::vector<ChunkCache::RowsPtr> parts;
  for (uint64_t next = first; next < first + count; next += group) {
    if (!parts.empty() && parts.back()->end_position() > next) continue;
    if (ChunkCache::RowsPtr cached = cache_.Find(context.scope, next / group)) {
      parts.push_back(std::move(cached));
      continue;
    }
    Level level = Level::kL3;
    MNEMO_ASSIGN_OR_RETURN(const auto read, ReadStoredRows(context, next, level));
    parts.insert(parts.end(), read.begin(), read.end());
    piece.level = std::max(piece.level, level);
  }
  piece.rows = ChunkRows::Join(parts, first, count);
  if (piece.rows == nullptr) return Missing(context, first, first + count);
  return piece;
}

absl::Status ContextReader::ReadWindow(const ContextRecord& context, uint64_t range,
                                       uint64_t first_chunk, uint64_t end_chunk, bool with_rows,
                                       std::vector<ChunkPiece>& pieces) const {
  const Store& store = stores_.Of(context);
  // Both parts as of one moment: an append may replace fragments by a chunk.
  const std::unique_ptr<StoreSnapshot> snapshot = with_rows ? store.Snapshot() : nullptr;
  absl::Status damage;
  const auto columns = [&](const StoredKey& key, std::string_view value) {
    absl::StatusOr<ChunkColumns> decoded = DecodeColumnsAt(context, key, value);
    if (!decoded.ok()) {
      damage = decoded.status();
      return false;
    }
    pieces.push_back({.columns = *std::move(decoded)});
    return true;
  };
  const auto bound = [&](uint64_t chunk) {
    return ChunkBound(context.scope, ChunkPart::kColumns, range, chunk);
  };
  MNEMO_RETURN_IF_ERROR(
      store.Scan(bound(first_chunk).bytes(), bound(end_chunk).bytes(), columns, snapshot.get()));
  MNEMO_RETURN_IF_ERROR(damage);
  if (!with_rows) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(ChunkValues values, ReadRowValues(store, context.scope, range, first_chunk,
                                                           end_chunk, snapshot.get()));
  // A fragment of columns has one of rows, a complete chunk has groups of them.
  auto value = values.begin();
  for (ChunkPiece& piece : pieces) {
    const uint64_t first = piece.columns.first_position;
    std::vector<ChunkCache::RowsPtr> parts;
    piece.level = Level::kL1;
    for (; value != values.end() && PositionOfChunkKey(value->first) < piece.columns.end_position();
         ++value) {
      Level level = Level::kL3;
      MNEMO_ASSIGN_OR_RETURN(parts.emplace_back(),
                             DecodeRows(context, value->first, std::move(value->second), level));
      const uint64_t group = parts.back()->first_position() / context.spec.group_tokens();
      if (!cache_.Contains(context.scope, group)) piece.level = std::max(piece.level, level);
    }
    piece.rows = ChunkRows::Join(parts, first, piece.columns.count);
    if (piece.rows == nullptr) return Missing(context, first, piece.columns.end_position());
  }
  return absl::OkStatus();
}

absl::Status ContextReader::ScanChunks(const ContextRecord& context, uint64_t first, uint64_t end,
                                       bool with_rows,
                                       const std::function<bool(ChunkPiece&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, Head(context));
  end = std::min(end, head.next_position);
  uint64_t next = first / kChunkTokens * kChunkTokens;
  while (next < end) {
    const uint64_t chunk = next / kChunkTokens;
    const uint64_t range = chunk / kChunksPerRange;
    const uint64_t end_chunk = std::min({chunk + kWindowChunks, (range + 1) * kChunksPerRange,
                                         (end + kChunkTokens - 1) / kChunkTokens});
    std::vector<ChunkPiece> pieces;
    // What a complete chunk has lies under keys that are known. A scan would read
    // a block of every sorted run to find it.
    if (end_chunk == chunk + 1 && end_chunk * kChunkTokens <= head.next_position) {
      MNEMO_ASSIGN_OR_RETURN(pieces.emplace_back(),
                             ReadCompleteChunk(context, std::max(first, next),
                                               std::min(end, next + kChunkTokens), with_rows));
      next = pieces.front().columns.first_position;
    } else {
      MNEMO_RETURN_IF_ERROR(ReadWindow(context, range, chunk, end_chunk, with_rows, pieces));
    }
    for (ChunkPiece& piece : pieces) {
      if (piece.columns.first_position != next) {
        return Missing(context, next, piece.columns.first_position);
      }
      next = piece.columns.end_position();
      if (next <= first || piece.columns.first_position >= end) continue;
      if (!visit(piece)) return absl::OkStatus();
    }
    const uint64_t expected = std::min(end, end_chunk * kChunkTokens);
    if (next < expected) return Missing(context, next, expected);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ChunkCache::RowsPtr>> ContextReader::ReadStoredRows(
    const ContextRecord& context, uint64_t position, Level& level) const {
  std::vector<ChunkCache::RowsPtr> parts;
  const Store& store = stores_.Of(context);
  const uint64_t chunk = position / kChunkTokens;
  const uint32_t group = context.spec.group_tokens();
  // Nearly all lie in a group: one look-up instead of an iterator.
  const StoredKey key = ChunkKeyOf(context.scope, ChunkPart::kRows, position / group * group);
  absl::StatusOr<std::string> value = store.Get(key);
  if (!value.ok() && !absl::IsNotFound(value.status())) return value.status();
  if (value.ok()) {
    MNEMO_ASSIGN_OR_RETURN(auto rows, DecodeRows(context, key, *std::move(value), level));
    if (rows->count() == group) {
      parts.push_back(std::move(rows));
      return parts;
    }
  }
  // Fragments, or all of the chunk as one value.
  MNEMO_ASSIGN_OR_RETURN(
      ChunkValues values,
      ReadRowValues(store, context.scope, chunk / kChunksPerRange, chunk, chunk + 1));
  for (auto& [key, value] : values) {
    MNEMO_ASSIGN_OR_RETURN(parts.emplace_back(), DecodeRows(context, key, std::move(value), level));
  }
  return parts;
}

absl::StatusOr<std::vector<ChunkCache::RowsPtr>> ContextReader::ReadRows(
    const ContextRecord& context, uint64_t position, Level* level) const {
  Level found = Level::kL1;
  std::vector<ChunkCache::RowsPtr> parts;
  const uint32_t tokens = context.spec.group_tokens();
  const uint64_t group = position / tokens;
  if (ChunkCache::RowsPtr cached = cache_.Find(context.scope, group)) {
    parts.push_back(std::move(cached));
  } else {
    MNEMO_ASSIGN_OR_RETURN(parts, ReadStoredRows(context, position, found));
    if (auto rows = ChunkRows::Join(parts, group * tokens, tokens)) {
      cache_.Insert(context.scope, group, std::move(rows));
    }
  }
  if (level != nullptr) *level = found;
  return parts;
}

absl::StatusOr<std::vector<RunColumnsCache::Ptr>> ContextReader::ReadColumns(
    const ContextRecord& context, uint64_t first_run, uint64_t end_run) const {
  std::vector<RunColumnsCache::Ptr> found;
  for (uint64_t run = first_run; run < end_run; ++run) {
    found.push_back(columns_.Find(context.scope, run));
  }
  for (size_t begin = 0; begin < found.size();) {
    if (found[begin] != nullptr) {
      ++begin;
      continue;
    }
    // Neighbours that are not there are read together.
    size_t end = begin;
    while (end < found.size() && found[end] == nullptr) ++end;
    RunColumns columns;
    absl::Status status;
    MNEMO_RETURN_IF_ERROR(
        ScanChunks(context, (first_run + begin) * kRunTokens, (first_run + end) * kRunTokens,
                   /*with_rows=*/false, [&](ChunkPiece& piece) {
                     columns.Add(piece.columns);
                     if (piece.columns.end_position() % kRunTokens != 0) return true;
                     status = columns.Finish();
                     found[begin] = std::make_shared<const RunColumns>(std::exchange(columns, {}));
                     if (status.ok())
                       columns_.Insert(context.scope, first_run + begin, found[begin]);
                     ++begin;
                     return status.ok();
                   }));
    if (!status.ok()) return Located(context, (first_run + begin - 1) * kRunTokens, status);
    if (begin != end) {
      return Missing(context, (first_run + begin) * kRunTokens, (first_run + end) * kRunTokens);
    }
  }
  return found;
}

absl::StatusOr<TreeNode> ContextReader::ReadNode(const ContextRecord& context, uint8_t level,
                                                 uint64_t index) const {
  const StoredKey key = TreeNodeKey(context.scope, level, index);
  const uint64_t first = index * TreeNodeTokens(level);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  if (absl::IsNotFound(value.status())) {
    return Missing(context, first, first + TreeNodeTokens(level));
  }
  if (!value.ok()) return value.status();
  absl::StatusOr<TreeNode> node = DecodeTreeNode(AsBytes(*value), SeedOf(key));
  if (!node.ok()) return Located(context, first, node.status());
  if (node->count != TreeNodeTokens(level) || node->sum.size() != context.spec.dimension) {
    return Located(context, first, absl::DataLossError("a node of another shape"));
  }
  return node;
}

absl::StatusOr<TreeNode> ContextReader::SummarizePart(const ContextRecord& context, uint64_t first,
                                                      uint64_t end) const {
  TreeNode sum;
  const auto add = [&](ChunkPiece& piece) {
    const uint64_t begin = std::max(first, piece.columns.first_position);
    const auto skip = static_cast<uint32_t>(begin - piece.columns.first_position);
    const auto count = static_cast<uint32_t>(std::min(end, piece.columns.end_position()) - begin);
    Combine(sum, SummarizeTokens(Slice(piece.columns, skip, count), context.spec.stored,
                                 context.spec.dimension, piece.rows->row(skip)));
    return true;
  };
  MNEMO_RETURN_IF_ERROR(ScanChunks(context, first, end, /*with_rows=*/true, add));
  return sum;
}

absl::StatusOr<TreeNode> ContextReader::Summarize(const ContextRecord& context, uint64_t first,
                                                  uint64_t end) const {
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, Head(context));
  end = std::min(end, head.next_position);
  TreeNode sum;
  for (uint64_t next = first; next < end;) {
    uint64_t step_end = std::min(end, (next / kChunkTokens + 1) * kChunkTokens);
    if (next % kChunkTokens != 0 || step_end - next < kChunkTokens) {
      MNEMO_ASSIGN_OR_RETURN(const TreeNode part, SummarizePart(context, next, step_end));
      Combine(sum, part);
    } else {
      // The largest node that begins here and ends before `end`: it is complete,
      // so it is stored.
      uint8_t level = 0;
      while (level < kMaxTreeLevel && next % TreeNodeTokens(level + 1) == 0 &&
             end - next >= TreeNodeTokens(level + 1)) {
        ++level;
      }
      MNEMO_ASSIGN_OR_RETURN(const TreeNode node,
                             ReadNode(context, level, next / TreeNodeTokens(level)));
      Combine(sum, node);
      step_end = next + TreeNodeTokens(level);
    }
    next = step_end;
  }
  return sum;
}

absl::StatusOr<std::optional<StoredPayload>> ContextReader::PayloadAt(const ContextRecord& context,
                                                                      uint64_t position) const {
  std::optional<StoredPayload> found;
  MNEMO_RETURN_IF_ERROR(ScanPayloads(context, position, position + 1, [&](StoredPayload& payload) {
    found = std::move(payload);
    return false;
  }));
  return found;
}

absl::Status ContextReader::ScanPayloads(const ContextRecord& context, uint64_t first, uint64_t end,
                                         const std::function<bool(StoredPayload&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, Head(context));
  end = std::min(end, head.next_position);
  absl::Status damage;
  bool done = false;
  const auto offer = [&](const StoredKey& key, std::string_view value) {
    absl::StatusOr<StoredPayload> payload = DecodePayload(AsBytes(value), SeedOf(key));
    if (!payload.ok()) {
      damage = Located(context, LoadBig<uint64_t>(key.suffix().data()), payload.status());
      return false;
    }
    done = payload->first_position >= end || !visit(*payload);
    return !done;
  };
  // A payload may reach into the range behind the one that it begins in.
  const uint64_t last_range = (end + kMaxTokensPerAppend) / kRangeTokens;
  for (uint64_t range = first / kRangeTokens; first < end && range <= last_range && !done;
       ++range) {
    const StoredKey begin = PayloadKey(context.scope, std::max(first, range * kRangeTokens));
    // Other ranges may lie in the same shard: up to where this one ends.
    std::string bound;
    AppendBig<uint64_t>(bound, (range + 1) * kRangeTokens);
    const StoredKey behind(begin.shard(), KeyKind::kPayload, context.scope, bound);
    MNEMO_RETURN_IF_ERROR(stores_.Of(context).Scan(begin.bytes(), behind.bytes(), offer));
    MNEMO_RETURN_IF_ERROR(damage);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ContextLink>> ContextReader::Links(const ContextRecord& context,
                                                              uint64_t first, uint64_t end) const {
  std::vector<ContextLink> links;
  absl::Status damage;
  const StoredKey all(HomeShard(context.scope), KeyKind::kLink, context.scope, "");
  const auto offer = [&](const StoredKey& key, std::string_view value) {
    absl::StatusOr<ContextLink> link = DecodeLink(AsBytes(value), SeedOf(key));
    if (!link.ok()) {
      damage = Located(context, first, link.status());
      return false;
    }
    // What ends so far behind `end` cannot begin before it.
    if (link->end_position() >= end && link->end_position() - end > kMaxLinkTokens) return false;
    if (link->first_position < end) links.push_back(*std::move(link));
    return true;
  };
  MNEMO_RETURN_IF_ERROR(stores_.Of(context).Scan(LinkKey(context.scope, first, 0, 0).bytes(),
                                                 PrefixEnd(all.bytes()), offer));
  MNEMO_RETURN_IF_ERROR(damage);
  return links;
}

}  // namespace mnemo

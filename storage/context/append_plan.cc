#include "storage/context/append_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/bytes.h"
#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

template <typename T>
std::vector<T> ColumnOf(ByteView bytes) {
  std::vector<T> column(bytes.size() / sizeof(T));
  CopyInto(bytes, column.data());
  return column;
}

void Hash(StreamingChecksum64& checksum, ByteView column) {
  const uint64_t size = column.size();
  checksum.Update({reinterpret_cast<const uint8_t*>(&size), sizeof(size)});
  checksum.Update(column);
}

}  // namespace

ChunkColumns ToColumns(const TokenColumns& tokens, int64_t now_unix_us) {
  ChunkColumns columns{.first_position = tokens.first_position,
                       .count = tokens.count,
                       .ids = ColumnOf<uint32_t>(tokens.ids),
                       .kinds = ColumnOf<uint8_t>(tokens.kinds),
                       .importances = ColumnOf<float>(tokens.importances),
                       .times_unix_us = ColumnOf<int64_t>(tokens.times_unix_us)};
  if (columns.kinds.empty()) columns.kinds.assign(tokens.count, static_cast<uint8_t>(tokens.kind));
  if (columns.times_unix_us.empty()) columns.times_unix_us.assign(tokens.count, now_unix_us);
  for (const PayloadView& payload : tokens.payloads) {
    const uint64_t first = payload.first_position - tokens.first_position;
    for (uint64_t i = first; i < first + payload.count; ++i) columns.kinds[i] |= kPayloadBit;
  }
  return columns;
}

std::string ToStoredRows(const ContextSpec& spec, const TokenColumns& tokens) {
  std::string rows;
  EncodeRows(tokens.embedding_type, tokens.embeddings, tokens.count, spec.dimension, spec.stored,
             rows);
  return rows;
}

uint64_t DigestOf(const TokenColumns& tokens) {
  StreamingChecksum64 checksum(tokens.first_position);
  std::string fixed;
  AppendLittle<uint32_t>(fixed, tokens.count);
  fixed.push_back(static_cast<char>(tokens.kind));
  fixed.push_back(static_cast<char>(tokens.embedding_type));
  Hash(checksum, AsBytes(fixed));
  Hash(checksum, tokens.ids);
  Hash(checksum, tokens.kinds);
  Hash(checksum, tokens.embeddings);
  Hash(checksum, tokens.importances);
  Hash(checksum, tokens.times_unix_us);
  for (const PayloadView& payload : tokens.payloads) {
    std::string range;
    AppendLittle<uint64_t>(range, payload.first_position);
    AppendLittle<uint64_t>(range, payload.count);
    Hash(checksum, AsBytes(range));
    Hash(checksum, AsBytes(payload.bytes));
  }
  return checksum.Digest();
}

absl::Status AppendPlan::AddTokens(const ChunkColumns& columns, ByteView rows) {
  const size_t row_bytes = context_.spec.row_bytes();
  for (uint32_t done = 0; done < columns.count;) {
    const uint64_t position = columns.first_position + done;
    const auto room = static_cast<uint32_t>(kChunkTokens - position % kChunkTokens);
    const uint32_t count = std::min(room, columns.count - done);
    const ChunkColumns piece = Slice(columns, done, count);
    const ByteView piece_rows = rows.subspan(done * row_bytes, count * row_bytes);
    if (count < room) {
      PutColumns(piece);
      PutRows(position, count, piece_rows);
    } else {
      MNEMO_RETURN_IF_ERROR(Complete(piece, piece_rows));
    }
    done += count;
  }
  return absl::OkStatus();
}

void AppendPlan::PutColumns(const ChunkColumns& columns) {
  const StoredKey key = ChunkKeyOf(context_.scope, ChunkPart::kColumns, columns.first_position);
  shards_.insert(key.shard());
  batch_.Put(key, EncodeColumns(columns, SeedOf(key)));
}

void AppendPlan::PutRows(uint64_t first_position, uint32_t count, ByteView rows) {
  const StoredKey key = ChunkKeyOf(context_.scope, ChunkPart::kRows, first_position);
  batch_.Put(key, EncodeChunkRows(first_position, count, context_.spec.stored,
                                  context_.spec.dimension, rows, SeedOf(key)));
}

void AppendPlan::PutChunk(const ChunkColumns& columns, ByteView rows) {
  PutColumns(columns);
  const uint32_t group = context_.spec.group_tokens();
  const size_t group_bytes = group * context_.spec.row_bytes();
  for (uint32_t i = 0; i < columns.count; i += group) {
    PutRows(columns.first_position + i, group, rows.subspan(i / group * group_bytes, group_bytes));
  }
}

absl::Status AppendPlan::Complete(const ChunkColumns& columns, ByteView rows) {
  const uint64_t chunk = columns.first_position / kChunkTokens;
  TreeNode leaf;
  if (columns.count == kChunkTokens) {
    PutChunk(columns, rows);
    leaf = SummarizeTokens(columns, context_.spec.stored, context_.spec.dimension, rows.data());
  } else {
    ChunkColumns whole{.first_position = chunk * kChunkTokens};
    std::string whole_rows;
    MNEMO_RETURN_IF_ERROR(TakeFragments(chunk, whole, whole_rows));
    if (whole.end_position() != columns.first_position) {
      return absl::DataLossError(fmt::format("context '{}': tokens {} to {} are missing",
                                             context_.spec.name, whole.end_position(),
                                             columns.first_position - 1));
    }
    Extend(whole, columns);
    whole_rows.append(AsText(rows));
    PutChunk(whole, AsBytes(whole_rows));
    leaf = SummarizeTokens(whole, context_.spec.stored, context_.spec.dimension,
                           AsBytes(whole_rows).data());
  }
  return AddNode(0, chunk, std::move(leaf));
}

// Reads the fragments of a chunk, and deletes all that the whole will not
// overwrite.
absl::Status AppendPlan::TakeFragments(uint64_t chunk, ChunkColumns& columns, std::string& rows) {
  absl::Status damage;
  const auto take_columns = [&](const StoredKey& key, std::string_view value) {
    absl::StatusOr<ChunkColumns> piece = DecodeColumns(AsBytes(value), SeedOf(key));
    if (piece.ok() && piece->first_position != columns.end_position()) {
      piece = absl::DataLossError("chunk columns: a fragment is missing");
    }
    if (!piece.ok()) {
      damage = piece.status();
      return false;
    }
    Extend(columns, *piece);
    if (key.suffix().back() != 0) batch_.Delete(key);
    return true;
  };
  uint64_t next = columns.first_position;
  const auto take_rows = [&](const StoredKey& key, std::string_view value) {
    const absl::StatusOr<ChunkRows> piece = ChunkRows::Decode(std::string(value), SeedOf(key));
    if (!piece.ok() || piece->first_position() != next ||
        piece->row_bytes() != context_.spec.row_bytes()) {
      damage = piece.ok() ? absl::DataLossError("chunk embeddings: a fragment is missing")
                          : piece.status();
      return false;
    }
    rows.append(AsText(piece->rows()));
    next = piece->end_position();
    if (PositionOfChunkKey(key) % context_.spec.group_tokens() != 0) batch_.Delete(key);
    return true;
  };
  const auto scan = [&](ChunkPart part, const auto& visit) {
    const std::string begin = ChunkKey(context_.scope, part, chunk, 0).bytes();
    // All offsets of the chunk.
    return store_.Scan(begin, PrefixEnd(std::string_view(begin).substr(0, begin.size() - 1)),
                       visit);
  };
  MNEMO_RETURN_IF_ERROR(scan(ChunkPart::kColumns, take_columns));
  MNEMO_RETURN_IF_ERROR(damage);
  MNEMO_RETURN_IF_ERROR(scan(ChunkPart::kRows, take_rows));
  MNEMO_RETURN_IF_ERROR(damage);
  if (next == columns.end_position()) return absl::OkStatus();
  return absl::DataLossError("chunk: columns and embeddings end apart");
}

absl::Status AppendPlan::AddNode(uint8_t level, uint64_t index, TreeNode node) {
  // Each turn is a level further up.
  for (;; ++level, index /= kTreeFanOut) {
    const StoredKey key = TreeNodeKey(context_.scope, level, index);
    shards_.insert(key.shard());
    batch_.Put(key, EncodeTreeNode(node, SeedOf(key)));
    if (level == kMaxTreeLevel || index % kTreeFanOut != kTreeFanOut - 1) {
      made_[{level, index}] = std::move(node);
      return absl::OkStatus();
    }
    TreeNode parent;
    for (uint64_t child = index - (kTreeFanOut - 1); child < index; ++child) {
      MNEMO_ASSIGN_OR_RETURN(const TreeNode older, Child(level, child));
      Combine(parent, older);
    }
    Combine(parent, node);
    node = std::move(parent);
  }
}

absl::StatusOr<TreeNode> AppendPlan::Child(uint8_t level, uint64_t index) const {
  const auto made = made_.find({level, index});
  if (made != made_.end()) return made->second;
  const StoredKey key = TreeNodeKey(context_.scope, level, index);
  const absl::StatusOr<std::string> value = store_.Get(key);
  if (absl::IsNotFound(value.status())) {
    return absl::DataLossError(fmt::format("context '{}': summary {} of level {} is missing",
                                           context_.spec.name, index, level));
  }
  if (!value.ok()) return value.status();
  MNEMO_ASSIGN_OR_RETURN(TreeNode node, DecodeTreeNode(AsBytes(*value), SeedOf(key)));
  if (node.sum.size() == context_.spec.dimension) return node;
  return absl::DataLossError("tree node: of another dimension");
}

}  // namespace mnemo

#include "storage/context/chunk.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "storage/base/bytes.h"
#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/codec/packed_integers.h"
#include "storage/codec/rotated_rows.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kPackedVersion = 2;  // of columns
constexpr uint8_t kHasIds = 1;
constexpr uint8_t kHasImportances = 2;
constexpr uint8_t kHasTimes = 4;  // otherwise one time for all
// In kPackedVersion: the column is packed.
constexpr uint8_t kPackedIds = 8;
constexpr uint8_t kPackedKinds = 16;
constexpr uint8_t kPackedImportances = 32;
constexpr uint8_t kPackedTimes = 64;
constexpr size_t kRowsHeader = 16;

template <typename T>
void AppendColumn(std::string& out, const std::vector<T>& column) {
  out.append(reinterpret_cast<const char*>(column.data()), column.size() * sizeof(T));
}

// Appends `column` packed, if that is smaller, and says so in `flags`; otherwise as it is.
template <typename T>
void AppendPacked(std::string& out, const std::vector<T>& column, uint8_t flag, uint8_t& flags) {
  const ByteView exact{reinterpret_cast<const uint8_t*>(column.data()), column.size() * sizeof(T)};
  uint8_t packed[kChunkTokens * sizeof(T)];
  // With its size in front.
  const size_t room = exact.size() > sizeof(uint16_t) ? exact.size() - sizeof(uint16_t) : 0;
  const size_t size = codec::PackIntegers(exact, sizeof(T), {packed, room});
  if (size == 0) {
    out.append(AsText(exact));
    return;
  }
  flags |= flag;
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(size));
  out.append(AsText(ByteView(packed, size)));
}

template <typename T>
absl::Status TakePacked(ByteReader& reader, size_t count, std::vector<T>& out) {
  const ByteView packed = reader.Take(reader.Little<uint16_t>());
  if (!reader.ok()) return absl::OkStatus();  // the caller looks
  out.resize(count);
  return codec::UnpackIntegers(packed, sizeof(T),
                               {reinterpret_cast<uint8_t*>(out.data()), count * sizeof(T)});
}

template <typename T>
void TakeColumn(ByteReader& reader, size_t count, std::vector<T>& out) {
  const ByteView bytes = reader.Take(count * sizeof(T));
  if (!reader.ok()) return;
  out.resize(count);
  CopyInto(bytes, out.data());
}

// A chunk does not reach beyond its 128 tokens, nor beyond the last position.
bool FitsChunk(uint64_t first, uint32_t count) {
  return first < kMaxPosition && count >= 1 && first % kChunkTokens + count <= kChunkTokens;
}

bool SameTimes(const std::vector<int64_t>& times) {
  for (const int64_t time : times) {
    if (time != times.front()) return false;
  }
  return true;
}

template <typename T>
void ExtendColumn(std::vector<T>& column, size_t count, const std::vector<T>& more,
                  size_t more_count) {
  if (column.empty() && more.empty()) return;
  column.resize(count);
  if (more.empty()) {
    column.resize(count + more_count);
  } else {
    column.insert(column.end(), more.begin(), more.end());
  }
}

template <typename T>
std::vector<T> SliceColumn(const std::vector<T>& column, uint32_t first, uint32_t count) {
  if (column.empty()) return {};
  return {column.begin() + first, column.begin() + first + count};
}

}  // namespace

std::string EncodeColumns(const ChunkColumns& columns, uint64_t seed) {
  constexpr size_t kFlagsAt = 1;
  const bool one_time = SameTimes(columns.times_unix_us);
  uint8_t flags = (columns.ids.empty() ? 0 : kHasIds) |
                  (columns.importances.empty() ? 0 : kHasImportances) | (one_time ? 0 : kHasTimes);
  const uint8_t unpacked = flags;
  std::string out(2, '\0');
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(columns.count));
  AppendLittle<uint64_t>(out, columns.first_position);
  AppendPacked(out, columns.ids, kPackedIds, flags);
  AppendPacked(out, columns.kinds, kPackedKinds, flags);
  AppendPacked(out, columns.importances, kPackedImportances, flags);
  int64_t earliest = 0;
  if (one_time) {
    AppendLittle<int64_t>(out, columns.times_unix_us.front());
  } else if (const auto later = LaterThanEarliest(columns.times_unix_us, earliest)) {
    const size_t begin = out.size();
    AppendLittle<int64_t>(out, earliest);
    AppendPacked(out, *later, kPackedTimes, flags);
    if ((flags & kPackedTimes) == 0) {
      out.resize(begin);
      AppendColumn(out, columns.times_unix_us);
    }
  } else {
    AppendColumn(out, columns.times_unix_us);
  }
  out.front() = static_cast<char>(flags == unpacked ? kVersion : kPackedVersion);
  out[kFlagsAt] = static_cast<char>(flags);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ChunkColumns> DecodeColumns(ByteView value, uint64_t seed) {
  const bool packed = !value.empty() && value[0] == kPackedVersion;
  MNEMO_ASSIGN_OR_RETURN(
      ByteReader reader,
      OpenValue(value, seed, packed ? kPackedVersion : kVersion, "chunk columns"));
  ChunkColumns columns;
  const auto flags = reader.Little<uint8_t>();
  columns.count = reader.Little<uint16_t>();
  columns.first_position = reader.Little<uint64_t>();
  constexpr uint8_t kPlainFlags = kHasIds | kHasImportances | kHasTimes;
  constexpr uint8_t kPackedFlags = kPackedIds | kPackedKinds | kPackedImportances | kPackedTimes;
  if (!FitsChunk(columns.first_position, columns.count) ||
      (flags & ~(kPlainFlags | (packed ? kPackedFlags : 0))) != 0) {
    return absl::DataLossError("chunk columns: a field out of range");
  }
  const auto take = [&](uint8_t packed_flag, auto& column) -> absl::Status {
    if ((flags & packed_flag) != 0) return TakePacked(reader, columns.count, column);
    TakeColumn(reader, columns.count, column);
    return absl::OkStatus();
  };
  if ((flags & kHasIds) != 0) MNEMO_RETURN_IF_ERROR(take(kPackedIds, columns.ids));
  MNEMO_RETURN_IF_ERROR(take(kPackedKinds, columns.kinds));
  if ((flags & kHasImportances) != 0) {
    MNEMO_RETURN_IF_ERROR(take(kPackedImportances, columns.importances));
  }
  if ((flags & kHasTimes) == 0) {
    columns.times_unix_us.assign(columns.count, reader.Little<int64_t>());
  } else if ((flags & kPackedTimes) != 0) {
    const auto earliest = reader.Little<uint64_t>();
    std::vector<uint32_t> later;
    MNEMO_RETURN_IF_ERROR(TakePacked(reader, columns.count, later));
    // Wraps around where the value is damaged.
    for (const uint32_t each : later) {
      columns.times_unix_us.push_back(static_cast<int64_t>(earliest + each));
    }
  } else {
    TakeColumn(reader, columns.count, columns.times_unix_us);
  }
  if (!reader.ok() || reader.remaining() != 0) {
    return absl::DataLossError("chunk columns: another length than its fields say");
  }
  for (const uint8_t kind : columns.kinds) {
    if ((kind & ~kPayloadBit) >= kTokenKinds) return absl::DataLossError("chunk columns: a kind");
  }
  return columns;
}

std::optional<std::vector<uint32_t>> LaterThanEarliest(const std::vector<int64_t>& times,
                                                       int64_t& earliest) {
  const auto [first, last] = std::minmax_element(times.begin(), times.end());
  earliest = *first;
  // As unsigned: the difference of any two times fits.
  const uint64_t span = static_cast<uint64_t>(*last) - static_cast<uint64_t>(*first);
  if (span > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  std::vector<uint32_t> later;
  later.reserve(times.size());
  for (const int64_t time : times) later.push_back(static_cast<uint32_t>(time - earliest));
  return later;
}

void Extend(ChunkColumns& columns, const ChunkColumns& more) {
  MNEMO_CHECK(columns.end_position() == more.first_position);
  ExtendColumn(columns.ids, columns.count, more.ids, more.count);
  ExtendColumn(columns.kinds, columns.count, more.kinds, more.count);
  ExtendColumn(columns.importances, columns.count, more.importances, more.count);
  ExtendColumn(columns.times_unix_us, columns.count, more.times_unix_us, more.count);
  columns.count += more.count;
}

ChunkColumns Slice(const ChunkColumns& columns, uint32_t first, uint32_t count) {
  MNEMO_CHECK(first + count <= columns.count);
  return {.first_position = columns.first_position + first,
          .count = count,
          .ids = SliceColumn(columns.ids, first, count),
          .kinds = SliceColumn(columns.kinds, first, count),
          .importances = SliceColumn(columns.importances, first, count),
          .times_unix_us = SliceColumn(columns.times_unix_us, first, count)};
}

absl::StatusOr<ChunkRows> ChunkRows::Decode(std::string value, uint64_t seed) {
  ChunkRows rows;
  rows.value_ = std::move(value);
  rows.begin_ = kRowsHeader;
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader,
                         OpenValue(AsBytes(rows.value_), seed, kVersion, "chunk embeddings"));
  const auto type = reader.Little<uint8_t>();
  rows.dimension_ = reader.Little<uint16_t>();
  rows.count_ = reader.Little<uint32_t>();
  rows.first_position_ = reader.Little<uint64_t>();
  if (!reader.ok() || type >= kElementTypes || rows.dimension_ == 0 ||
      rows.dimension_ > kMaxContextDimension || !FitsChunk(rows.first_position_, rows.count_)) {
    return absl::DataLossError("chunk embeddings: a field out of range");
  }
  rows.type_ = static_cast<ElementType>(type);
  if (reader.remaining() != rows.count_ * rows.row_bytes()) {
    return absl::DataLossError("chunk embeddings: another length than its fields say");
  }
  for (uint32_t i = 0; i < rows.count_ && rows.type_ == ElementType::kRotated4; ++i) {
    if (!RotatedRows::HasGain(rows.row(i))) {
      return absl::DataLossError("chunk embeddings: a gain that is no number");
    }
  }
  return rows;
}

ChunkRows::Ptr ChunkRows::Join(std::span<const Ptr> parts, uint64_t first, uint32_t count) {
  ChunkRows joined;
  joined.first_position_ = first;
  joined.count_ = count;
  uint64_t next = first;
  for (const Ptr& part : parts) {
    if (part->first_position() == first && part->count() == count) return part;
    if (part->end_position() <= next) continue;
    if (part->first_position() > next || next == first + count) break;
    if (next == first) {
      joined.type_ = part->type();
      joined.dimension_ = part->dimension();
      joined.value_.reserve(count * part->row_bytes());
    }
    MNEMO_CHECK(part->type() == joined.type_ && part->dimension() == joined.dimension_);
    const uint64_t end = std::min(part->end_position(), first + count);
    joined.value_.append(AsText(part->rows().subspan(
        (next - part->first_position()) * part->row_bytes(), (end - next) * part->row_bytes())));
    next = end;
  }
  if (next != first + count) return nullptr;
  return std::make_shared<const ChunkRows>(std::move(joined));
}

std::string EncodeChunkRows(uint64_t first_position, uint32_t count, ElementType type,
                            uint32_t dimension, ByteView rows, uint64_t seed) {
  MNEMO_CHECK(rows.size() == count * RowBytes(type, dimension));
  std::string out;
  out.reserve(kRowsHeader + rows.size() + kSealBytes);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(type));
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(dimension));
  AppendLittle<uint32_t>(out, count);
  AppendLittle<uint64_t>(out, first_position);
  out.append(AsText(rows));
  SealValue(out, seed);
  return out;
}

}  // namespace mnemo

#include "storage/context/context_segments.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
// More than a range ever has: eight runs of 16,384 tokens.
constexpr uint32_t kMaxSegments = 64;

uint64_t PartsOf(const StoredSegment& segment) {
  return (segment.bytes + ContextSegments::kPartBytes - 1) / ContextSegments::kPartBytes;
}

bool Names(const SegmentRecord& record, uint64_t number) {
  return std::any_of(record.segments.begin(), record.segments.end(),
                     [&](const StoredSegment& segment) { return segment.number == number; });
}

// Whether the fields can be those of one segment that begins at `first_row`.
bool IsPossible(const StoredSegment& segment, uint64_t first_row, uint64_t next_number) {
  return segment.number < next_number && segment.first_row == first_row && segment.rows > 0 &&
         first_row + segment.rows <= kRangeTokens && segment.bytes > 0;
}

absl::StatusOr<SegmentRecord> ReadRecord(const Store& store, KeyScope scope, uint64_t range,
                                         const StoreSnapshot* snapshot) {
  const StoredKey key = SegmentsKey(scope, range);
  const absl::StatusOr<std::string> value = store.Get(key, snapshot);
  if (absl::IsNotFound(value.status())) return SegmentRecord{};
  if (!value.ok()) return value.status();
  return DecodeSegments(AsBytes(*value), SeedOf(key));
}

}  // namespace

std::string EncodeSegments(const SegmentRecord& record, uint64_t seed) {
  std::string value(1, static_cast<char>(kVersion));
  AppendLittle<uint64_t>(value, record.next_number);
  AppendLittle<uint32_t>(value, static_cast<uint32_t>(record.segments.size()));
  for (const StoredSegment& segment : record.segments) {
    AppendLittle<uint64_t>(value, segment.number);
    AppendLittle<uint32_t>(value, segment.first_row);
    AppendLittle<uint32_t>(value, segment.rows);
    AppendLittle<uint8_t>(value, segment.kind);
    AppendLittle<uint64_t>(value, segment.bytes);
    AppendLittle<uint64_t>(value, segment.digest);
  }
  SealValue(value, seed);
  return value;
}

absl::StatusOr<SegmentRecord> DecodeSegments(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "segments"));
  SegmentRecord record{.next_number = reader.Little<uint64_t>()};
  const auto count = reader.Little<uint32_t>();
  bool possible = count <= kMaxSegments;
  for (uint32_t i = 0; i < count && possible && reader.ok(); ++i) {
    StoredSegment segment;
    segment.number = reader.Little<uint64_t>();
    segment.first_row = reader.Little<uint32_t>();
    segment.rows = reader.Little<uint32_t>();
    segment.kind = reader.Little<uint8_t>();
    segment.bytes = reader.Little<uint64_t>();
    segment.digest = reader.Little<uint64_t>();
    possible =
        IsPossible(segment, record.rows(), record.next_number) && !Names(record, segment.number);
    record.segments.push_back(segment);
  }
  if (possible && reader.ok() && reader.remaining() == 0) return record;
  return absl::DataLossError("segments: a field out of range");
}

absl::StatusOr<SegmentRecord> ContextSegments::Read(const ContextRecord& context,
                                                    uint64_t range) const {
  return ReadRecord(contexts_.stores().Of(context), context.scope, range, nullptr);
}

absl::StatusOr<SegmentRecord> ContextSegments::View::Read() const {
  return ReadRecord(store_, scope_, range_, snapshot_.get());
}

absl::StatusOr<std::string> ContextSegments::View::Load(const StoredSegment& segment) const {
  std::string bytes;
  for (uint32_t part = 0; part < PartsOf(segment); ++part) {
    const StoredKey key = SegmentPartKey(scope_, range_, segment.number, part);
    const absl::StatusOr<std::string> value = store_.Get(key, snapshot_.get());
    if (absl::IsNotFound(value.status())) {
      return absl::DataLossError(
          fmt::format("segment {}: part {} is missing", segment.number, part));
    }
    if (!value.ok()) return value.status();
    MNEMO_ASSIGN_OR_RETURN(ByteReader reader,
                           OpenValue(AsBytes(*value), SeedOf(key), kVersion, "segment part"));
    // Not before the first part was seen: the record may lie about the size.
    if (part == 0) bytes.reserve(std::min<uint64_t>(segment.bytes, 1ull << 30));
    bytes += AsText(reader.Take(reader.remaining()));
  }
  if (bytes.size() == segment.bytes) return bytes;
  return absl::DataLossError(
      fmt::format("segment {} has {} bytes, not {}", segment.number, bytes.size(), segment.bytes));
}

absl::Status ContextSegments::Apply(const ContextRecord& context, uint64_t range,
                                    StoreBatch& batch) {
  const StoredKey key = SegmentsKey(context.scope, range);
  batch.Log({.shard = key.shard(), .kind = OperationKind::kPutSegment, .key = key.bytes()});
  return contexts_.ChangeIfThere(
      context, [&] { return contexts_.stores().Of(context).Apply(batch, /*sync=*/false); });
}

absl::Status ContextSegments::Clear(const ContextRecord& context, uint64_t range,
                                    const SegmentRecord& record) {
  const Store& store = contexts_.stores().Of(context);
  const StoredKey all = SegmentsKey(context.scope, range);
  StoreBatch batch;
  std::string next = SegmentPartKey(context.scope, range, 0, 0).bytes();
  while (true) {
    std::optional<uint64_t> named;
    MNEMO_RETURN_IF_ERROR(
        store.Scan(next, PrefixEnd(all.bytes()), [&](const StoredKey& key, std::string_view) {
          const auto number = LoadBig<uint64_t>(key.suffix().data() + sizeof(uint64_t));
          if (Names(record, number)) {
            named = number;
          } else {
            batch.Delete(key);
          }
          return !named;
        }));
    if (!named) break;
    // Past the parts of what is named, without reading them.
    next = SegmentPartKey(context.scope, range, *named + 1, 0).bytes();
  }
  return batch.writes().empty() ? absl::OkStatus() : Apply(context, range, batch);
}

absl::StatusOr<SegmentRecord> ContextSegments::Replace(const ContextRecord& context, uint64_t range,
                                                       const SegmentRecord& before,
                                                       std::vector<StoredSegment> kept,
                                                       StoredSegment added, ByteView bytes,
                                                       const std::atomic<bool>& cancelled) {
  MNEMO_RETURN_IF_ERROR(Clear(context, range, before));
  added.number = before.next_number;
  added.bytes = bytes.size();
  for (uint32_t part = 0; part < PartsOf(added); ++part) {
    if (cancelled) return absl::CancelledError("storing a segment was cancelled");
    const size_t begin = size_t{part} * kPartBytes;
    const StoredKey key = SegmentPartKey(context.scope, range, added.number, part);
    std::string value(1, static_cast<char>(kVersion));
    value += AsText(bytes.subspan(begin, std::min(kPartBytes, bytes.size() - begin)));
    SealValue(value, SeedOf(key));
    StoreBatch batch;
    batch.Put(key, std::move(value));
    MNEMO_RETURN_IF_ERROR(Apply(context, range, batch));
  }
  SegmentRecord record{.next_number = added.number + 1, .segments = std::move(kept)};
  record.segments.push_back(added);
  std::sort(
      record.segments.begin(), record.segments.end(),
      [](const StoredSegment& a, const StoredSegment& b) { return a.first_row < b.first_row; });
  StoreBatch batch;
  for (const StoredSegment& old : before.segments) {
    if (Names(record, old.number)) continue;
    for (uint32_t part = 0; part < PartsOf(old); ++part) {
      batch.Delete(SegmentPartKey(context.scope, range, old.number, part));
    }
  }
  const StoredKey key = SegmentsKey(context.scope, range);
  batch.Put(key, EncodeSegments(record, SeedOf(key)));
  MNEMO_RETURN_IF_ERROR(Apply(context, range, batch));
  return record;
}

}  // namespace mnemo

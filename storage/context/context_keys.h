// Under which keys a context lies in the ordered stores; docs/formats/context.md.
#pragma once

#include <string>
#include <string_view>

#include "storage/base/checksum.h"
#include "storage/context/context_types.h"
#include "storage/context/tree_node.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// What a chunk's value holds. On disk.
enum class ChunkPart : uint8_t { kColumns = 0, kRows = 1 };

// The shard of a range: a long context lies on many.
uint16_t ShardOfRange(KeyScope scope, uint64_t range);
// Where everything lies that belongs to no range: that of the first.
inline uint16_t HomeShard(KeyScope scope) { return ShardOfRange(scope, 0); }
// Where a tenant's names and labels lie.
uint16_t ShardOfNames(uint64_t tenant);

StoredKey RecordKey(KeyScope scope);
StoredKey HeadKey(KeyScope scope);
StoredKey NameKey(uint64_t tenant, std::string_view name);
StoredKey LabelKey(uint64_t tenant, std::string_view key, std::string_view value,
                   std::string_view name);
// `offset` is that of the first token within the chunk.
StoredKey ChunkKey(KeyScope scope, ChunkPart part, uint64_t chunk, uint8_t offset);
// Of the value that begins with the token at `position`.
inline StoredKey ChunkKeyOf(KeyScope scope, ChunkPart part, uint64_t position) {
  return ChunkKey(scope, part, position / kChunkTokens,
                  static_cast<uint8_t>(position % kChunkTokens));
}
// The first key of a part of `chunk` in the shard of `range`, so that the end of
// a range can be named as a bound.
StoredKey ChunkBound(KeyScope scope, ChunkPart part, uint64_t range, uint64_t chunk);
StoredKey TreeNodeKey(KeyScope scope, uint8_t level, uint64_t index);
// By the last position, so that what covers a position is the first key that is
// not before it.
StoredKey PayloadKey(KeyScope scope, uint64_t last_position);
StoredKey LinkKey(KeyScope scope, uint64_t last_position, uint64_t first_position, uint64_t space);
StoredKey ErasedKey(KeyScope scope);
StoredKey SummaryKey(KeyScope scope, uint8_t level, uint64_t index);
// How far summaries are made.
StoredKey ConsolidatedKey(KeyScope scope);
StoredKey PlacementKey(KeyScope scope, uint64_t range);
// Which index segments a range has, and the parts of one.
StoredKey SegmentsKey(KeyScope scope, uint64_t range);
StoredKey SegmentPartKey(KeyScope scope, uint64_t range, uint64_t number, uint32_t part);

// The first position of what a key of kChunk is about.
uint64_t PositionOfChunkKey(const StoredKey& key);

// What values are sealed with.
inline uint64_t SeedOf(const StoredKey& key) { return Checksum64(AsBytes(key.bytes())); }

}  // namespace mnemo

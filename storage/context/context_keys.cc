#include "storage/context/context_keys.h"

namespace mnemo {
namespace {

std::string BigSuffix(uint64_t value) {
  std::string suffix;
  AppendBig<uint64_t>(suffix, value);
  return suffix;
}

}  // namespace

uint16_t ShardOfRange(KeyScope scope, uint64_t range) {
  std::string name;
  AppendBig<uint64_t>(name, scope.tenant);
  AppendBig<uint64_t>(name, scope.space);
  AppendBig<uint64_t>(name, range);
  return static_cast<uint16_t>(Checksum64(AsBytes(name)) % kShardCount);
}

uint16_t ShardOfNames(uint64_t tenant) {
  return static_cast<uint16_t>(Checksum64(AsBytes(BigSuffix(tenant))) % kShardCount);
}

StoredKey RecordKey(KeyScope scope) {
  return StoredKey(HomeShard(scope), KeyKind::kContext, scope, "");
}

StoredKey HeadKey(KeyScope scope) {
  return StoredKey(HomeShard(scope), KeyKind::kContextHead, scope, "");
}

StoredKey NameKey(uint64_t tenant, std::string_view name) {
  return StoredKey(ShardOfNames(tenant), KeyKind::kContextName, {.tenant = tenant, .space = 0},
                   name);
}

StoredKey LabelKey(uint64_t tenant, std::string_view key, std::string_view value,
                   std::string_view name) {
  // The whole label stands before the name, so that those who share a hash stay
  // apart; 0 occurs in neither.
  std::string suffix(key);
  suffix.push_back('\0');
  suffix.append(value);
  suffix.push_back('\0');
  suffix.append(name);
  return StoredKey(ShardOfNames(tenant), KeyKind::kContextLabel, {.tenant = tenant, .space = 0},
                   suffix);
}

StoredKey ChunkKey(KeyScope scope, ChunkPart part, uint64_t chunk, uint8_t offset) {
  std::string suffix(1, static_cast<char>(part));
  AppendBig<uint64_t>(suffix, chunk);
  suffix.push_back(static_cast<char>(offset));
  return StoredKey(ShardOfRange(scope, chunk * kChunkTokens / kRangeTokens), KeyKind::kChunk, scope,
                   suffix);
}

StoredKey ChunkBound(KeyScope scope, ChunkPart part, uint64_t range, uint64_t chunk) {
  const StoredKey key = ChunkKey(scope, part, chunk, 0);
  return StoredKey(ShardOfRange(scope, range), KeyKind::kChunk, scope, key.suffix());
}

StoredKey TreeNodeKey(KeyScope scope, uint8_t level, uint64_t index) {
  std::string suffix(1, static_cast<char>(level));
  AppendBig<uint64_t>(suffix, index);
  // What is above ranges belongs to none of them.
  const uint16_t shard = level > kRangeLevel
                             ? HomeShard(scope)
                             : ShardOfRange(scope, index * TreeNodeTokens(level) / kRangeTokens);
  return StoredKey(shard, KeyKind::kTreeNode, scope, suffix);
}

StoredKey PayloadKey(KeyScope scope, uint64_t last_position) {
  return StoredKey(ShardOfRange(scope, last_position / kRangeTokens), KeyKind::kPayload, scope,
                   BigSuffix(last_position));
}

StoredKey LinkKey(KeyScope scope, uint64_t last_position, uint64_t first_position, uint64_t space) {
  return StoredKey(HomeShard(scope), KeyKind::kLink, scope,
                   BigSuffix(last_position) + BigSuffix(first_position) + BigSuffix(space));
}

StoredKey ErasedKey(KeyScope scope) {
  return StoredKey(ShardOfNames(0), KeyKind::kErasedContext, scope, "");
}

StoredKey SummaryKey(KeyScope scope, uint8_t level, uint64_t index) {
  return StoredKey(ShardOfRange(scope, index * TreeNodeTokens(level) / kRangeTokens),
                   KeyKind::kSummary, scope,
                   std::string(1, static_cast<char>(level)) + BigSuffix(index));
}

StoredKey ConsolidatedKey(KeyScope scope) {
  // Behind all levels.
  return StoredKey(HomeShard(scope), KeyKind::kSummary, scope, "\xff");
}

StoredKey PlacementKey(KeyScope scope, uint64_t range) {
  return StoredKey(ShardOfRange(scope, range), KeyKind::kPlacement, scope, BigSuffix(range));
}

StoredKey SegmentsKey(KeyScope scope, uint64_t range) {
  return StoredKey(ShardOfRange(scope, range), KeyKind::kSegment, scope, BigSuffix(range));
}

StoredKey SegmentPartKey(KeyScope scope, uint64_t range, uint64_t number, uint32_t part) {
  std::string suffix = BigSuffix(range) + BigSuffix(number);
  AppendBig<uint32_t>(suffix, part);
  return StoredKey(ShardOfRange(scope, range), KeyKind::kSegment, scope, suffix);
}

uint64_t PositionOfChunkKey(const StoredKey& key) {
  const std::string_view suffix = key.suffix();
  return LoadBig<uint64_t>(suffix.data() + 1) * kChunkTokens + static_cast<uint8_t>(suffix[9]);
}

}  // namespace mnemo

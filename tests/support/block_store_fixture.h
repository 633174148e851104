// A block store in a folder of its own, with parts whose bytes follow from
// their names, for tests of every kind.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/base/units.h"
#include "storage/block/block_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {

inline constexpr KeyScope kTestScope{.tenant = 7, .space = 9};

// 36 bytes, as many engines' keys.
inline BlockKey TestBlockKey(uint64_t chain, uint32_t depth) {
  std::string name(36, 'k');
  StoreLittle<uint64_t>(name.data(), Checksum64({}, chain * 1'000'003 + depth));
  StoreLittle<uint64_t>(name.data() + 8, chain);
  StoreLittle<uint32_t>(name.data() + 16, depth);
  auto key = BlockKey::From(name);
  MNEMO_CHECK(key.ok());
  return *key;
}

inline PartKey TestPart(uint64_t chain, uint32_t depth = 0, KeyScope scope = kTestScope) {
  PartKey part{.scope = scope, .key = TestBlockKey(chain, depth)};
  part.shard = ShardOf(scope, part.salt, part.key.view());
  return part;
}

// Bytes that nothing compresses.
inline std::string TestPayload(const PartKey& key, uint64_t version, uint64_t size) {
  std::string payload(size + 8, '\0');
  uint64_t state = Checksum64(AsBytes(key.key.view()), version) | 1;
  for (uint64_t i = 0; i < size; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    StoreLittle<uint64_t>(payload.data() + i, state);
  }
  payload.resize(size);
  return payload;
}

// Bytes of 16-bit values whose high halves hardly differ, as bf16 does.
inline std::string SmoothPayload(const PartKey& key, uint64_t size) {
  std::string payload = TestPayload(key, 0, size);
  for (uint64_t i = 1; i < size; i += 2) payload[i] = static_cast<char>(0x3f + (i / 4096) % 2);
  return payload;
}

inline WriteSpec TestSpec(uint64_t size, uint32_t depth = 0,
                          Durability durability = Durability::kCache) {
  WriteSpec spec;
  spec.payload_bytes = size;
  const uint64_t half = size / 2;
  spec.layout.sizes = half == 0 ? std::vector<uint64_t>{size} : std::vector<uint64_t>{half, size - half};
  spec.layout.dtype_bytes = 2;
  spec.depth = depth;
  spec.tokens = 16;
  spec.durability = durability;
  return spec;
}

inline BlockStoreOptions SmallStore(const std::string& directory) {
  BlockStoreOptions options;
  options.directory = directory;
  options.l1_bytes = 64 * kMiB;
  options.l2_bytes = 16 * kMiB;
  options.disk_cache_bytes = 64 * kMiB;
  options.l3_bytes = 256 * kMiB;
  options.archive_bytes = 256 * kMiB;
  options.wal_interval = std::chrono::milliseconds(20);
  return options;
}

inline absl::Status WriteBytes(PartWriter& writer, std::string_view payload) {
  // In pieces that agree with no boundary of a section.
  constexpr size_t kPiece = 100'003;
  for (size_t at = 0; at < payload.size(); at += kPiece) {
    MNEMO_RETURN_IF_ERROR(writer.Append(AsBytes(payload.substr(at, kPiece))));
  }
  return absl::OkStatus();
}

inline absl::Status PutPart(BlockStore& store, const PartKey& key, std::string_view payload,
                            const WriteSpec& spec) {
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<PartWriter> writer, store.BeginWrite(key, spec));
  MNEMO_RETURN_IF_ERROR(WriteBytes(*writer, payload));
  return writer->Commit().status();
}

// The part `depth` of a chain, its parent named.
inline absl::Status PutChained(BlockStore& store, uint64_t chain, uint32_t depth, uint64_t size,
                               Durability durability = Durability::kCache, uint64_t version = 0) {
  const PartKey key = TestPart(chain, depth);
  WriteSpec spec = TestSpec(size, depth, durability);
  if (depth > 0) spec.parent = TestBlockKey(chain, depth - 1);
  return PutPart(store, key, TestPayload(key, version, size), spec);
}

inline absl::StatusOr<std::string> ReadAll(BlockStore& store, const PartKey& key) {
  MNEMO_ASSIGN_OR_RETURN(const PartRead read, store.Read(key, 0, 0));
  return read.bytes.ToString();
}

// Steps until nothing more is to do, at most `limit` times.
inline int MoveAll(BlockStore& store, int limit = 10'000) {
  int steps = 0;
  while (steps < limit && store.MoveStep()) ++steps;
  return steps;
}

}  // namespace mnemo

// What tests of durable instances need around them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/tier/instance.h"
#include "tests/support/status_matchers.h"

namespace mnemo {

inline std::unique_ptr<TierResources> MakeTestResources() {
  auto resources = TierResources::Create({.memory_bytes = 64ull << 20,
                                          .write_buffer_bytes = 32ull << 20});
  MNEMO_CHECK(resources.ok());
  return *std::move(resources);
}

// Small buffers and files, so that little data reaches every part.
inline InstanceOptions SmallInstance(std::string path, Durability durability) {
  return {.path = std::move(path),
          .durability = durability,
          .interval_sync_period = std::chrono::milliseconds(5),
          .reserve_bytes = 0,
          .write_buffer_bytes = 1ull << 20,
          .blob_file_bytes = 1ull << 20,
          .max_open_files = 64};
}

inline StoredKey TestKey(uint64_t number, uint16_t shard_count = kShardCount) {
  std::string suffix;
  AppendBig<uint64_t>(suffix, number);
  return StoredKey(static_cast<uint16_t>(number * 37 % shard_count), KeyKind::kBlock,
                   {.tenant = 7, .space = 9}, suffix);
}

// `size` bytes that nothing compresses, the first eight a checksum over key
// and rest: what an envelope is to the levels. At least 8 bytes.
inline std::string TestValue(const StoredKey& key, uint64_t version, size_t size) {
  std::string value(size, '\0');
  uint64_t state = version * 0x9e3779b97f4a7c15 + Checksum64(AsBytes(key.bytes()));
  for (size_t i = 8; i < size; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    value[i] = static_cast<char>(state >> 56);
  }
  const uint64_t sum =
      Checksum64(AsBytes(std::string_view(value).substr(8)), Checksum64(AsBytes(key.bytes())));
  StoreLittle(value.data(), sum);
  return value;
}

// What the owner of the envelope checks above a level.
inline bool TestValueIsWhole(const StoredKey& key, std::string_view value) {
  return value.size() >= 8 &&
         LoadLittle<uint64_t>(value.data()) ==
             Checksum64(AsBytes(value.substr(8)), Checksum64(AsBytes(key.bytes())));
}

inline BlockMetadata TestMetadata(uint64_t number) {
  return {.digest = {.low = number, .high = ~number},
          .payload_bytes = number,
          .depth = static_cast<uint32_t>(number),
          .tokens = 16,
          .durability = Durability::kCache,
          .created = {.nanos = 1},
          .parent = "parent"};
}

inline absl::Status PutTestBlock(BlockLevel& level, uint64_t number, size_t size,
                                 uint64_t version = 0) {
  const StoredKey key = TestKey(number);
  const std::string value = TestValue(key, version, size);
  const ByteView bytes = AsBytes(value);
  // Three pieces, as an envelope has a header, a table and sections.
  return level
      .Put(key, TestMetadata(number), {bytes.first(4), bytes.subspan(4, 4), bytes.subspan(8)})
      .status();
}

}  // namespace mnemo

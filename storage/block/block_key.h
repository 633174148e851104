// Names of blocks and their parts.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// The engine's own key of a block: 1 to 64 bytes, any. A value of 65 bytes
// without heap. The default is empty and stands for "none"; it names no block.
class BlockKey {
 public:
  static constexpr size_t kMaxSize = 64;

  BlockKey() = default;
  // Errors: kInvalidArgument (empty, or over 64 bytes).
  static absl::StatusOr<BlockKey> From(std::string_view bytes);

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  std::string_view view() const { return {bytes_.data(), size_}; }
  uint64_t Hash(uint64_t seed = 0) const;

  friend bool operator==(const BlockKey& a, const BlockKey& b) { return a.view() == b.view(); }
  friend std::strong_ordering operator<=>(const BlockKey& a, const BlockKey& b) {
    return a.view() <=> b.view();
  }
  template <typename H>
  friend H AbslHashValue(H h, const BlockKey& key) {
    return H::combine(std::move(h), key.view());
  }

 private:
  uint8_t size_ = 0;
  std::array<char, kMaxSize> bytes_{};
};

// What one worker stores of a block; the space says which are required.
struct PartId {
  uint8_t group = 0;
  uint16_t tp_rank = 0;  // tensor-parallel
  uint16_t pp_rank = 0;  // pipeline-parallel
  friend auto operator<=>(const PartId&, const PartId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const PartId& part) {
    return H::combine(std::move(h), part.group, part.tp_rank, part.pp_rank);
  }
};

// SecureDigest16 of the engine's salt; zeros for none.
using SaltDigest = std::array<uint8_t, 16>;
// At most 128 bytes. Errors: kInvalidArgument.
absl::StatusOr<SaltDigest> DigestOfSalt(std::string_view salt);

// The virtual shard of a block: a hash of all of (tenant, space, salt, key), so
// that a common system prompt makes no hot shard, and the same for all parts.
// Where the space keeps stretches of a chain together, the stretch's name
// stands for the key.
uint16_t ShardOf(KeyScope scope, const SaltDigest& salt, std::string_view key_or_stretch);

// ShardOf for many blocks of one space and salt.
class ShardPlacer {
 public:
  ShardPlacer(KeyScope scope, const SaltDigest& salt);
  uint16_t Of(std::string_view key_or_stretch) const;

 private:
  uint64_t seed_;
};

// The same parts of many blocks of one space and salt, by views of their keys. Named
// are all parts of the first key, then all of the second, and so on.
struct BlockParts {
  KeyScope scope;
  SaltDigest salt{};
  std::span<const std::string_view> keys;  // each of 1 to 64 bytes
  // Where the space keeps stretches together: as many as keys; otherwise empty.
  std::span<const std::string_view> stretches;
  std::span<const PartId> parts;

  size_t size() const { return keys.size() * parts.size(); }
};

// Names one part of one block.
struct PartKey {
  KeyScope scope;
  SaltDigest salt{};
  BlockKey key;
  PartId part;
  uint16_t shard = 0;  // ShardOf(scope, salt, key or stretch)

  // Requires a key that is not empty and a shard below kShardCount.
  StoredKey Stored() const;
  // Errors: kDataLoss (not the stored key of a block part).
  static absl::StatusOr<PartKey> FromStored(const StoredKey& stored);

  friend bool operator==(const PartKey&, const PartKey&) = default;
};

// What all stored keys of a space, or of one salt of it, in `shard` start with.
std::string BlockPrefix(uint16_t shard, KeyScope scope);
std::string BlockPrefix(uint16_t shard, KeyScope scope, const SaltDigest& salt);

}  // namespace mnemo

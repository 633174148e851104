// The keys of everything stored, in RAM and on disk.
//
//   shard u16 | kind u8 | tenant u64 | space or context u64 | suffix
//
// Integers are big-endian: all of one shard lies together, within it all of
// one kind, tenant and space. The suffix belongs to the kind. For a block part
// (storage/block/block_key.h) it is
//
//   salt digest (16) | key length u8 | key (1..64) | group u8 | tp rank u16 | pp rank u16
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/base/bytes.h"

namespace mnemo {

inline constexpr uint16_t kShardCount = 256;

// On disk: never renumber.
enum class KeyKind : uint8_t {
  kBlock = 1,
  kSpace = 2,
  kTenant = 3,
  kPin = 4,
  kContext = 5,
  kChunk = 6,
  kNode = 7,  // state of this node itself
  // Of contexts; docs/formats/context.md.
  kContextHead = 8,
  kContextName = 9,
  kContextLabel = 10,
  kTreeNode = 11,
  kPayload = 12,
  kLink = 13,
  kSummary = 14,
  kSegment = 15,        // of a vector index
  kErasedContext = 16,  // what is left of it is still to be erased
  kPlacement = 17,      // where chunks lie
  kCalibration = 18,    // of a group of a space; docs/formats/calibration.md
};

struct KeyScope {
  uint64_t tenant = 0;
  uint64_t space = 0;
  friend auto operator<=>(const KeyScope&, const KeyScope&) = default;
};

// An immutable value type around the encoded bytes; ordered as its bytes.
class StoredKey {
 public:
  static constexpr size_t kPrefixSize = 2 + 1 + 8 + 8;

  StoredKey() = default;
  StoredKey(uint16_t shard, KeyKind kind, KeyScope scope, std::string_view suffix);
  // Takes encoded bytes as they are; check valid() when they come from disk.
  static StoredKey FromBytes(std::string bytes);

  // At least kPrefixSize long, a shard below kShardCount, a known kind.
  bool valid() const;

  uint16_t shard() const { return LoadBig<uint16_t>(bytes_.data()); }
  KeyKind kind() const { return static_cast<KeyKind>(bytes_[2]); }
  KeyScope scope() const {
    return {LoadBig<uint64_t>(bytes_.data() + 3), LoadBig<uint64_t>(bytes_.data() + 11)};
  }
  std::string_view suffix() const { return std::string_view(bytes_).substr(kPrefixSize); }
  const std::string& bytes() const { return bytes_; }

  friend auto operator<=>(const StoredKey&, const StoredKey&) = default;

 private:
  std::string bytes_;
};

// The first key after all keys that start with `prefix`; empty if there is none.
std::string PrefixEnd(std::string_view prefix);

}  // namespace mnemo

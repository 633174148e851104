// The words of the mnemo contract as plain C++ values.
//
// They mirror proto/mnemo/v1, which holds units, ranges and defaults; here
// only what differs is said. Reading or making them needs no gRPC.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"

namespace mnemo::client {

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;
// Keys of a request: views that must live until the call (or, for an
// asynchronous one, the function that starts it) returns.
using Keys = std::span<const std::string_view>;

// Views of `strings`, which must outlive them.
std::vector<std::string_view> ViewsOf(std::span<const std::string> strings);

enum class Durability { kDefault = 0, kCache = 1, kInterval = 2, kSync = 3 };
enum class Level { kNone = 0, kL1 = 1, kL2 = 2, kL3 = 3, kDisk = 4 };
enum class GroupKind {
  kUnspecified = 0,
  kFull = 1,
  kWindow = 2,
  kState = 3,
  kLatent = 4,
  kOpaque = 5
};
enum class DType {
  kUnspecified = 0,
  kF32 = 1,
  kF16 = 2,
  kBf16 = 3,
  kFp8E4m3 = 4,
  kFp8E5m2 = 5,
  kInt8 = 6,
  kInt4 = 7
};
enum class Layout { kDefault = 0, kLayerMajor = 1, kKvMajor = 2, kTokenMajor = 3 };
enum class RopePairing { kUnknown = 0, kHalf = 1, kInterleaved = 2 };
enum class ReadOrder { kDefault = 0, kBlockMajor = 1, kLayerMajor = 2 };
enum class Verdict { kUnspecified = 0, kWant = 1, kPresent = 2, kPending = 3, kRefused = 4 };

// A space, by the id that Open answered or by its name.
struct SpaceRef {
  SpaceRef(uint64_t id) : ref(id) {}                      // NOLINT: meant to convert
  SpaceRef(std::string name) : ref(std::move(name)) {}    // NOLINT: meant to convert
  SpaceRef(const char* name) : ref(std::string(name)) {}  // NOLINT: meant to convert

  std::variant<uint64_t, std::string> ref;
};

// What one worker stores of a block.
struct PartId {
  uint32_t group = 0;
  uint32_t tp_rank = 0;
  uint32_t pp_rank = 0;
  friend auto operator<=>(const PartId&, const PartId&) = default;
};

// 128-bit XXH3 of a part's exact bytes.
struct Digest {
  uint64_t high = 0;
  uint64_t low = 0;
  friend auto operator<=>(const Digest&, const Digest&) = default;
};
Digest DigestOf(Bytes bytes);

struct Rope {
  double theta = 0;
  uint32_t rotary_dimensions = 0;
  RopePairing pairing = RopePairing::kUnknown;
  std::string scaling_kind;
  double scaling_factor = 0;
  friend bool operator==(const Rope&, const Rope&) = default;
};

struct Scales {
  uint32_t bytes_per_run = 0;
  std::string description;
  friend bool operator==(const Scales&, const Scales&) = default;
};

struct Group {
  std::string name;
  GroupKind kind = GroupKind::kUnspecified;
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t k_dimension = 0;
  uint32_t v_dimension = 0;
  DType dtype = DType::kUnspecified;
  Layout layout = Layout::kDefault;
  uint32_t window_tokens = 0;
  uint32_t fixed_bytes = 0;
  uint32_t tensor_parallel_size = 0;
  std::vector<uint32_t> pipeline_layers;
  bool optional = false;
  std::optional<Scales> scales;
  std::optional<Rope> rope;
  friend bool operator==(const Group&, const Group&) = default;
};

struct Fingerprint {
  std::string weights_digest;
  std::string quantization;
  std::string adapter;
  std::string rope_override;
  std::string kv_cache_dtype;
  std::string state_format;
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

// Bits of a code that levels keep where that is more than the floor, 0 for exact; none:
// the floor.
struct LevelBits {
  std::optional<uint32_t> l2;
  std::optional<uint32_t> l3;
  std::optional<uint32_t> archive;
  friend bool operator==(const LevelBits&, const LevelBits&) = default;
};

struct SpacePolicy {
  Durability durability = Durability::kDefault;
  uint64_t time_to_live_seconds = 0;
  // 0: exact. None: exact of a new space; an update leaves it as it is.
  std::optional<uint32_t> floor_bits_per_value;
  // None: the floor everywhere in a new space; an update leaves them as they are.
  std::optional<LevelBits> level_bits;
  friend bool operator==(const SpacePolicy&, const SpacePolicy&) = default;
};

struct Space {
  uint64_t id = 0;  // given by the server
  std::string name;
  Fingerprint fingerprint;
  uint32_t tokens_per_block = 0;
  std::vector<Group> groups;
  bool salt_required = false;
  bool chain_affinity = false;
  SpacePolicy policy;
  int64_t created_unix_us = 0;       // given by the server
  std::vector<uint64_t> part_bytes;  // given by the server
};

// How far the parts of a space have been looked through since its policy changed.
struct Reencoding {
  uint64_t looked_at = 0;
  uint64_t parts = 0;
};
struct SpaceUsage {
  uint64_t parts = 0;
  uint64_t bytes = 0;
  uint64_t tokens = 0;
  std::vector<uint64_t> level_bytes;
  std::optional<Reencoding> reencoding;  // none: all is in the form that is asked for
};

struct SpaceAndUsage {
  Space space;
  SpaceUsage usage;
};

struct OpenedSpace {
  Space space;
  bool created = false;
};

}  // namespace mnemo::client

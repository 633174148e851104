// A space: one model's KV geometry within a tenant, as a value.
//
// Field meanings, units and ranges are those of proto/mnemo/v1/space.proto.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/dtype.h"
#include "storage/block/block_key.h"
#include "storage/block/block_store.h"
#include "storage/codec/codec.h"

namespace mnemo {

// The enumerations are on disk and on the wire with the same numbers.
enum class GroupKind : uint8_t { kFull = 1, kWindow = 2, kState = 3, kLatent = 4, kOpaque = 5 };
enum class Layout : uint8_t { kLayerMajor = 1, kKvMajor = 2, kTokenMajor = 3 };
enum class RopePairing : uint8_t { kUnknown = 0, kHalf = 1, kInterleaved = 2 };

struct RopeFacts {
  double theta = 0;
  uint32_t rotary_dimensions = 0;
  RopePairing pairing = RopePairing::kUnknown;
  std::string scaling_kind;
  double scaling_factor = 0;
  friend bool operator==(const RopeFacts&, const RopeFacts&) = default;
};

struct Group {
  std::string name;
  GroupKind kind = GroupKind::kFull;
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t k_dimension = 0;
  uint32_t v_dimension = 0;
  DType dtype = DType::kBytes;
  Layout layout = Layout::kLayerMajor;
  uint32_t window_tokens = 0;
  uint32_t fixed_bytes = 0;
  uint32_t tensor_parallel_size = 1;
  std::vector<uint32_t> pipeline_layers;
  bool optional = false;
  uint32_t scale_bytes_per_run = 0;
  std::string scale_description;
  std::optional<RopeFacts> rope;

  uint32_t pipeline_size() const {
    return pipeline_layers.empty() ? 1 : static_cast<uint32_t>(pipeline_layers.size());
  }
  uint32_t LayersOf(uint32_t pp_rank) const {
    return pipeline_layers.empty() ? layers : pipeline_layers[pp_rank];
  }
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

// Bits of a code by level, for those that do not keep what the floor says. As the floor's;
// each at least the floor, and no deeper level has more than one above it.
struct LevelBits {
  std::optional<uint32_t> l2;
  std::optional<uint32_t> l3;
  std::optional<uint32_t> archive;
  friend bool operator==(const LevelBits&, const LevelBits&) = default;
};

struct SpacePolicy {
  Durability durability = Durability::kCache;
  uint64_t time_to_live_seconds = 0;
  uint32_t floor_bits_per_value = 0;  // 0: exact; 2, 3, 4, 5 or 8
  LevelBits level_bits;
  friend bool operator==(const SpacePolicy&, const SpacePolicy&) = default;
};

struct SpaceSpec {
  std::string name;
  Fingerprint fingerprint;
  uint32_t tokens_per_block = 0;
  std::vector<Group> groups;
  bool salt_required = false;
  bool chain_affinity = false;
  SpacePolicy policy;
  friend bool operator==(const SpaceSpec&, const SpaceSpec&) = default;
};

struct Space {
  KeyScope scope;
  WallTime created;
  SpaceSpec spec;
};

// Errors: kInvalidArgument, naming the field and its range.
absl::Status ValidateSpace(const SpaceSpec& spec);
absl::Status ValidatePolicy(const SpacePolicy& policy);

// In which form parts of a space of this policy are kept at `level`: kLossless stands for
// exact, in whatever form pays. L1 keeps what it gets. Where levels keep different bits
// the form is progressive, so that going down drops planes and encodes nothing again.
StoredForm FormAt(const SpacePolicy& policy, Level level);
// The form of as many bits that takes a calibration with axes, and qualifies beside FormAt. None:
// there is no such, or levels keep different bits.
std::optional<StoredForm> FormWithAxesAt(const SpacePolicy& policy, Level level);
// Whether a part in `form`, a StoredForm, goes to `level`, or stays there, in fewer bits.
bool MayBeCut(uint8_t form, const SpacePolicy& policy, Level level);
// Whether codes of `bits`, which have lost something, are less than the owner asks for.
bool IsBelowFloor(const SpacePolicy& policy, uint32_t bits);
// Whether the group's parts are tensors, and not bytes only: STATE and OPAQUE
// groups, integer dtypes, and TOKEN_MAJOR with scales, whose place nobody defined.
bool HasTensors(const Group& group);

// The first field in which two specs differ, with both values:
// "groups[1].window_tokens is 512, not 1024". Empty if they agree.
std::string FirstDifference(const SpaceSpec& present, const SpaceSpec& asked);

// How the bytes of a part are divided.
struct PartGeometry {
  uint64_t bytes = 0;  // 0: any size up to kMaxPartBytes
  SectionLayout sections;
  // Layer l of a readable part is the runs [l * k, (l + 1) * k) (kLayerMajor) or
  // section l and layers + l (kKvMajor).
  uint32_t layers = 0;
  bool layers_readable = false;
  bool has_v = false;
  Layout layout = Layout::kLayerMajor;
};
// The geometry of a part. Errors: kInvalidArgument (a group or rank that the
// space does not have, with the range).
absl::StatusOr<PartGeometry> GeometryOf(const SpaceSpec& spec, const PartId& part);

// Every part that a block of the space has, by group, tp rank, pp rank. At most
// kMaxPartsPerBlock, which ValidateSpace sees to.
inline constexpr size_t kMaxPartsPerBlock = 4096;
std::vector<PartId> AllParts(const SpaceSpec& spec);

// Blocks that a match needs of a window group: ceil(window / tokens per block).
uint32_t WindowBlocks(const Group& group, uint32_t tokens_per_block);

// Encoding for the state store; docs/formats/space.md.
std::string EncodeSpace(const Space& space);
// Errors: kDataLoss.
absl::StatusOr<Space> DecodeSpace(ByteView bytes);

}  // namespace mnemo

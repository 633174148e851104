#include "storage/block/space.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <string_view>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr uint64_t kMaxTimeToLiveSeconds = uint64_t{10} * 366 * 24 * 3600;

absl::Status OutOfRange(std::string_view field, std::string_view value, std::string_view range) {
  return absl::InvalidArgumentError(fmt::format("{} is {}; it must be {}", field, value, range));
}

absl::Status CheckRange(std::string_view field, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return OutOfRange(field, fmt::to_string(value), fmt::format("{} to {}", low, high));
}

absl::Status CheckName(std::string_view field, std::string_view text, size_t max_bytes) {
  MNEMO_RETURN_IF_ERROR(CheckRange(fmt::format("{} length", field), text.size(), 1, max_bytes));
  const bool clean = std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<uint8_t>(c) < 0x20 || static_cast<uint8_t>(c) == 0x7f;
  });
  if (!clean) return OutOfRange(field, "with control characters", "printable UTF-8");
  return absl::OkStatus();
}

bool HasHeads(GroupKind kind) { return kind != GroupKind::kState && kind != GroupKind::kOpaque; }

absl::Status ValidateHeads(const Group& group, std::string_view at) {
  const auto field = [&](std::string_view name) { return fmt::format("{}.{}", at, name); };
  MNEMO_RETURN_IF_ERROR(CheckRange(field("kv_heads"), group.kv_heads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("k_dimension"), group.k_dimension, 1, 16384));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("v_dimension"), group.v_dimension, 0,
                                   group.kind == GroupKind::kLatent ? 0 : 16384));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("dtype"), static_cast<uint8_t>(group.dtype), 1, 7));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("layout"), static_cast<uint8_t>(group.layout), 1, 3));
  // Latent state is shared by all heads, so ranks store the same or nothing:
  // only real heads are split.
  if (group.kv_heads % group.tensor_parallel_size != 0) {
    return OutOfRange(
        field("kv_heads"), fmt::to_string(group.kv_heads),
        fmt::format("a multiple of tensor_parallel_size, {}", group.tensor_parallel_size));
  }
  if (group.dtype == DType::kInt4 && (group.k_dimension % 2 != 0 || group.v_dimension % 2 != 0)) {
    return OutOfRange(field("k_dimension"), fmt::to_string(group.k_dimension), "even for INT4");
  }
  return absl::OkStatus();
}

absl::Status ValidateKindFields(const Group& group, std::string_view at) {
  const auto field = [&](std::string_view name) { return fmt::format("{}.{}", at, name); };
  const bool window = group.kind == GroupKind::kWindow;
  MNEMO_RETURN_IF_ERROR(CheckRange(field("window_tokens"), group.window_tokens, window ? 1 : 0,
                                   window ? (uint64_t{1} << 31) - 1 : 0));
  uint64_t fixed_low = 0;
  uint64_t fixed_high = 0;
  if (group.kind == GroupKind::kState) fixed_low = 1;
  if (!HasHeads(group.kind)) fixed_high = kMaxPartBytes;
  MNEMO_RETURN_IF_ERROR(CheckRange(field("fixed_bytes"), group.fixed_bytes, fixed_low, fixed_high));
  if (HasHeads(group.kind)) return ValidateHeads(group, at);
  MNEMO_RETURN_IF_ERROR(CheckRange(field("kv_heads"), group.kv_heads, 0, 0));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("k_dimension"), group.k_dimension, 0, 0));
  return CheckRange(field("v_dimension"), group.v_dimension, 0, 0);
}

absl::Status ValidateRope(const RopeFacts& rope, const Group& group, std::string_view at) {
  if (!std::isfinite(rope.theta) || rope.theta <= 0) {
    return OutOfRange(fmt::format("{}.rope.theta", at), fmt::to_string(rope.theta), "above 0");
  }
  if (!std::isfinite(rope.scaling_factor) || rope.scaling_factor < 0) {
    return OutOfRange(fmt::format("{}.rope.scaling_factor", at),
                      fmt::to_string(rope.scaling_factor), "0 or more");
  }
  MNEMO_RETURN_IF_ERROR(
      CheckRange(fmt::format("{}.rope.scaling_kind length", at), rope.scaling_kind.size(), 0, 64));
  return CheckRange(fmt::format("{}.rope.rotary_dimensions", at), rope.rotary_dimensions, 1,
                    std::max<uint32_t>(1, group.k_dimension));
}

absl::Status ValidatePipeline(const Group& group, std::string_view at) {
  MNEMO_RETURN_IF_ERROR(
      CheckRange(fmt::format("{}.pipeline_layers size", at), group.pipeline_layers.size(), 0, 64));
  if (group.pipeline_layers.empty()) return absl::OkStatus();
  uint64_t sum = 0;
  for (const uint32_t layers : group.pipeline_layers) {
    MNEMO_RETURN_IF_ERROR(
        CheckRange(fmt::format("{}.pipeline_layers", at), layers, 1, group.layers));
    sum += layers;
  }
  return CheckRange(fmt::format("{}.pipeline_layers in all", at), sum, group.layers, group.layers);
}

absl::Status ValidateGroup(const Group& group, std::string_view at) {
  const auto field = [&](std::string_view name) { return fmt::format("{}.{}", at, name); };
  MNEMO_RETURN_IF_ERROR(CheckName(field("name"), group.name, 64));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("kind"), static_cast<uint8_t>(group.kind), 1, 5));
  MNEMO_RETURN_IF_ERROR(CheckRange(field("layers"), group.layers, 1, 1024));
  MNEMO_RETURN_IF_ERROR(
      CheckRange(field("tensor_parallel_size"), group.tensor_parallel_size, 1, 1024));
  MNEMO_RETURN_IF_ERROR(
      CheckRange(field("scales.bytes_per_run"), group.scale_bytes_per_run, 0, 16 * kMiB));
  MNEMO_RETURN_IF_ERROR(
      CheckRange(field("scales.description length"), group.scale_description.size(), 0, 256));
  MNEMO_RETURN_IF_ERROR(ValidatePipeline(group, at));
  MNEMO_RETURN_IF_ERROR(ValidateKindFields(group, at));
  if (group.rope) MNEMO_RETURN_IF_ERROR(ValidateRope(*group.rope, group, at));
  return absl::OkStatus();
}

absl::Status ValidateFingerprint(const SpaceSpec& spec) {
  const Fingerprint& print = spec.fingerprint;
  const bool opaque = std::all_of(spec.groups.begin(), spec.groups.end(), [](const Group& group) {
    return group.kind == GroupKind::kOpaque;
  });
  MNEMO_RETURN_IF_ERROR(CheckRange("fingerprint.weights_digest length", print.weights_digest.size(),
                                   opaque ? 0 : 1, 256));
  const std::pair<std::string_view, const std::string&> fields[] = {
      {"quantization", print.quantization},
      {"adapter", print.adapter},
      {"rope_override", print.rope_override},
      {"kv_cache_dtype", print.kv_cache_dtype},
      {"state_format", print.state_format}};
  for (const auto& [name, value] : fields) {
    MNEMO_RETURN_IF_ERROR(
        CheckRange(fmt::format("fingerprint.{} length", name), value.size(), 0, 256));
  }
  return absl::OkStatus();
}

bool IsFidelity(uint32_t bits) {
  return bits == 0 || FormOf(CodecId::kProgressive, bits).has_value();
}

// Bits of codes at the levels below L1, from L2 down; 0: exact.
std::array<uint32_t, 3> BitsByLevel(const SpacePolicy& policy) {
  const uint32_t floor = policy.floor_bits_per_value;
  return {policy.level_bits.l2.value_or(floor), policy.level_bits.l3.value_or(floor),
          policy.level_bits.archive.value_or(floor)};
}

// Whether `a` keeps less than `b`.
bool IsFewer(uint32_t a, uint32_t b) { return a != 0 && (b == 0 || a < b); }

std::string FidelityText(uint32_t bits) { return bits == 0 ? "0 (exact)" : fmt::to_string(bits); }

absl::Status ValidateLevels(const SpacePolicy& policy) {
  constexpr std::array<std::string_view, 3> kNames = {"l2", "l3", "archive"};
  const std::array<uint32_t, 3> bits = BitsByLevel(policy);
  for (size_t i = 0; i < bits.size(); ++i) {
    const std::string field = fmt::format("policy.levels.{}.bits_per_value", kNames[i]);
    if (!IsFidelity(bits[i])) {
      return OutOfRange(field, fmt::to_string(bits[i]), "0 (exact), 2, 3, 4, 5 or 8");
    }
    if (IsFewer(bits[i], policy.floor_bits_per_value)) {
      return OutOfRange(
          field, FidelityText(bits[i]),
          fmt::format("at least the floor, {}", FidelityText(policy.floor_bits_per_value)));
    }
    if (i > 0 && IsFewer(bits[i - 1], bits[i])) {
      return OutOfRange(
          field, FidelityText(bits[i]),
          fmt::format("at most that of {}, {}", kNames[i - 1], FidelityText(bits[i - 1])));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidatePolicy(const SpacePolicy& policy) {
  MNEMO_RETURN_IF_ERROR(
      CheckRange("policy.durability", static_cast<uint8_t>(policy.durability), 1, 3));
  MNEMO_RETURN_IF_ERROR(CheckRange("policy.time_to_live_seconds", policy.time_to_live_seconds, 0,
                                   kMaxTimeToLiveSeconds));
  if (!IsFidelity(policy.floor_bits_per_value)) {
    return OutOfRange("policy.floor.bits_per_value", fmt::to_string(policy.floor_bits_per_value),
                      "0 (exact), 2, 3, 4, 5 or 8");
  }
  return ValidateLevels(policy);
}

StoredForm FormAt(const SpacePolicy& policy, Level level) {
  if (level == Level::kL1) return StoredForm::kLossless;
  const std::array<uint32_t, 3> all = BitsByLevel(policy);
  const uint32_t bits = all[static_cast<size_t>(level) - static_cast<size_t>(Level::kL2)];
  if (bits == 0) return StoredForm::kLossless;
  // At equal bits the rotated form errs less than the progressive one, which alone
  // has 8 (docs/codecs.md), and can be cut.
  const bool is_cut = std::any_of(all.begin(), all.end(),
                                  [bits](uint32_t other) { return other != 0 && other != bits; });
  const std::optional<StoredForm> rotated = FormOf(CodecId::kRotated, bits);
  return rotated && !is_cut ? *rotated : *FormOf(CodecId::kProgressive, bits);
}

std::optional<StoredForm> FormWithAxesAt(const SpacePolicy& policy, Level level) {
  const StoredForm form = FormAt(policy, level);
  if (CodecOf(form) != CodecId::kRotated) return std::nullopt;
  return FormOf(CodecId::kTransform, BitsOf(form));
}

bool MayBeCut(uint8_t form, const SpacePolicy& policy, Level level) {
  if (!IsLossyForm(form)) return false;
  const auto lossy = static_cast<StoredForm>(form);
  const StoredForm wanted = FormAt(policy, level);
  return CodecOf(lossy) == CodecId::kProgressive && IsLossy(wanted) &&
         BitsOf(lossy) > BitsOf(wanted);
}

bool IsBelowFloor(const SpacePolicy& policy, uint32_t bits) {
  return policy.floor_bits_per_value == 0 || bits < policy.floor_bits_per_value;
}

bool HasTensors(const Group& group) {
  if (group.kind == GroupKind::kState || group.kind == GroupKind::kOpaque) return false;
  return IsFloat(group.dtype) &&
         (group.layout != Layout::kTokenMajor || group.scale_bytes_per_run == 0);
}

absl::Status ValidateSpace(const SpaceSpec& spec) {
  MNEMO_RETURN_IF_ERROR(CheckName("space.name", spec.name, 128));
  MNEMO_RETURN_IF_ERROR(CheckRange("tokens_per_block", spec.tokens_per_block, 1, 65535));
  MNEMO_RETURN_IF_ERROR(CheckRange("groups size", spec.groups.size(), 1, 32));
  std::set<std::string_view> names;
  for (size_t i = 0; i < spec.groups.size(); ++i) {
    const std::string at = fmt::format("groups[{}]", i);
    MNEMO_RETURN_IF_ERROR(ValidateGroup(spec.groups[i], at));
    if (!names.insert(spec.groups[i].name).second) {
      return OutOfRange(at + ".name", spec.groups[i].name, "unique in the space");
    }
  }
  MNEMO_RETURN_IF_ERROR(ValidateFingerprint(spec));
  MNEMO_RETURN_IF_ERROR(ValidatePolicy(spec.policy));
  if (spec.policy.floor_bits_per_value != 0 &&
      std::none_of(spec.groups.begin(), spec.groups.end(), HasTensors)) {
    return OutOfRange("policy.floor.bits_per_value",
                      fmt::to_string(spec.policy.floor_bits_per_value),
                      "0 (exact) in a space without a group of floating-point tensors");
  }
  uint64_t parts = 0;
  for (const Group& group : spec.groups) {
    parts += uint64_t{group.tensor_parallel_size} * group.pipeline_size();
  }
  MNEMO_RETURN_IF_ERROR(
      CheckRange("parts of a block, ranks of all groups,", parts, 1, kMaxPartsPerBlock));
  // Sizes last: they multiply fields that are in range by now.
  for (size_t i = 0; i < spec.groups.size(); ++i) {
    for (uint32_t rank = 0; rank < spec.groups[i].pipeline_size(); ++rank) {
      MNEMO_ASSIGN_OR_RETURN(const PartGeometry geometry,
                             GeometryOf(spec, {.group = static_cast<uint8_t>(i),
                                               .tp_rank = 0,
                                               .pp_rank = static_cast<uint16_t>(rank)}));
      MNEMO_RETURN_IF_ERROR(CheckRange(fmt::format("groups[{}] bytes of a part", i), geometry.bytes,
                                       0, kMaxPartBytes));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<PartGeometry> GeometryOf(const SpaceSpec& spec, const PartId& part) {
  if (spec.groups.empty() || part.group >= spec.groups.size()) {
    return OutOfRange("part.group", fmt::to_string(part.group),
                      fmt::format("below {}, as the space has groups", spec.groups.size()));
  }
  const Group& group = spec.groups[part.group];
  if (part.tp_rank >= group.tensor_parallel_size) {
    return OutOfRange("part.tp_rank", fmt::to_string(part.tp_rank),
                      fmt::format("below {}", group.tensor_parallel_size));
  }
  if (part.pp_rank >= group.pipeline_size()) {
    return OutOfRange("part.pp_rank", fmt::to_string(part.pp_rank),
                      fmt::format("below {}", group.pipeline_size()));
  }
  PartGeometry geometry;
  geometry.layers = group.LayersOf(part.pp_rank);
  geometry.layout = group.layout;
  if (group.kind == GroupKind::kOpaque) {
    geometry.bytes = group.fixed_bytes;
    geometry.sections.sizes = {group.fixed_bytes};
    return geometry;
  }
  if (group.kind == GroupKind::kState) {
    geometry.sections.sizes.assign(geometry.layers, group.fixed_bytes);
    geometry.bytes = uint64_t{group.fixed_bytes} * geometry.layers;
    return geometry;
  }
  const uint64_t values =
      uint64_t{spec.tokens_per_block} * (group.kv_heads / group.tensor_parallel_size);
  const auto run_bytes = [&](uint32_t dimension) {
    return values * dimension * BitsOf(group.dtype) / 8 + group.scale_bytes_per_run;
  };
  const uint64_t k_bytes = run_bytes(group.k_dimension);
  const uint64_t v_bytes = group.v_dimension == 0 ? 0 : run_bytes(group.v_dimension);
  geometry.has_v = v_bytes != 0;
  geometry.bytes = (k_bytes + v_bytes) * geometry.layers;
  geometry.layers_readable = group.layout != Layout::kTokenMajor;
  geometry.sections.dtype_bytes = static_cast<uint8_t>(std::max(1u, BitsOf(group.dtype) / 8));
  std::vector<uint64_t>& sizes = geometry.sections.sizes;
  switch (group.layout) {
    case Layout::kLayerMajor:
      for (uint32_t layer = 0; layer < geometry.layers; ++layer) {
        sizes.push_back(k_bytes);
        if (geometry.has_v) sizes.push_back(v_bytes);
      }
      break;
    case Layout::kKvMajor:
      sizes.assign(geometry.layers, k_bytes);
      if (geometry.has_v) sizes.insert(sizes.end(), geometry.layers, v_bytes);
      break;
    case Layout::kTokenMajor:
      sizes.push_back(k_bytes * geometry.layers);
      if (geometry.has_v) sizes.push_back(v_bytes * geometry.layers);
      break;
  }
  return geometry;
}

std::vector<PartId> AllParts(const SpaceSpec& spec) {
  std::vector<PartId> parts;
  for (size_t group = 0; group < spec.groups.size(); ++group) {
    for (uint32_t tp = 0; tp < spec.groups[group].tensor_parallel_size; ++tp) {
      for (uint32_t pp = 0; pp < spec.groups[group].pipeline_size(); ++pp) {
        parts.push_back({.group = static_cast<uint8_t>(group),
                         .tp_rank = static_cast<uint16_t>(tp),
                         .pp_rank = static_cast<uint16_t>(pp)});
      }
    }
  }
  return parts;
}

uint32_t WindowBlocks(const Group& group, uint32_t tokens_per_block) {
  return static_cast<uint32_t>((uint64_t{group.window_tokens} + tokens_per_block - 1) /
                               tokens_per_block);
}

// --- Encoding --------------------------------------------------------------

namespace {

using Json = nlohmann::ordered_json;

constexpr int kSpaceFormatVersion = 1;

Json ToJson(const Group& group) {
  Json json = {
      {"name", group.name},
      {"kind", static_cast<int>(group.kind)},
      {"layers", group.layers},
      {"kv_heads", group.kv_heads},
      {"k_dimension", group.k_dimension},
      {"v_dimension", group.v_dimension},
      {"dtype", static_cast<int>(group.dtype)},
      {"layout", static_cast<int>(group.layout)},
      {"window_tokens", group.window_tokens},
      {"fixed_bytes", group.fixed_bytes},
      {"tensor_parallel_size", group.tensor_parallel_size},
      {"pipeline_layers", group.pipeline_layers},
      {"optional", group.optional},
      {"scales",
       {{"bytes_per_run", group.scale_bytes_per_run}, {"description", group.scale_description}}}};
  if (group.rope) {
    json["rope"] = {{"theta", group.rope->theta},
                    {"rotary_dimensions", group.rope->rotary_dimensions},
                    {"pairing", static_cast<int>(group.rope->pairing)},
                    {"scaling_kind", group.rope->scaling_kind},
                    {"scaling_factor", group.rope->scaling_factor}};
  }
  return json;
}

Json ToJson(const SpaceSpec& spec) {
  Json groups = Json::array();
  for (const Group& group : spec.groups) groups.push_back(ToJson(group));
  const Fingerprint& print = spec.fingerprint;
  Json policy = {{"durability", static_cast<int>(spec.policy.durability)},
                 {"time_to_live_seconds", spec.policy.time_to_live_seconds},
                 {"floor", {{"bits_per_value", spec.policy.floor_bits_per_value}}}};
  const LevelBits& levels = spec.policy.level_bits;
  const auto add = [&](const char* level, const std::optional<uint32_t>& bits) {
    if (bits) policy["levels"][level] = {{"bits_per_value", *bits}};
  };
  add("l2", levels.l2);
  add("l3", levels.l3);
  add("archive", levels.archive);
  return {{"name", spec.name},
          {"fingerprint",
           {{"weights_digest", print.weights_digest},
            {"quantization", print.quantization},
            {"adapter", print.adapter},
            {"rope_override", print.rope_override},
            {"kv_cache_dtype", print.kv_cache_dtype},
            {"state_format", print.state_format}}},
          {"tokens_per_block", spec.tokens_per_block},
          {"groups", std::move(groups)},
          {"salt_required", spec.salt_required},
          {"chain_affinity", spec.chain_affinity},
          {"policy", std::move(policy)}};
}

// Throws nlohmann's exceptions on a missing or mistyped field; DecodeSpace
// turns them into a Status.
Group GroupFromJson(const Json& json) {
  Group group;
  json.at("name").get_to(group.name);
  group.kind = static_cast<GroupKind>(json.at("kind").get<int>());
  json.at("layers").get_to(group.layers);
  json.at("kv_heads").get_to(group.kv_heads);
  json.at("k_dimension").get_to(group.k_dimension);
  json.at("v_dimension").get_to(group.v_dimension);
  group.dtype = static_cast<DType>(json.at("dtype").get<int>());
  group.layout = static_cast<Layout>(json.at("layout").get<int>());
  json.at("window_tokens").get_to(group.window_tokens);
  json.at("fixed_bytes").get_to(group.fixed_bytes);
  json.at("tensor_parallel_size").get_to(group.tensor_parallel_size);
  json.at("pipeline_layers").get_to(group.pipeline_layers);
  json.at("optional").get_to(group.optional);
  json.at("scales").at("bytes_per_run").get_to(group.scale_bytes_per_run);
  json.at("scales").at("description").get_to(group.scale_description);
  if (const auto rope = json.find("rope"); rope != json.end()) {
    group.rope = RopeFacts{.theta = rope->at("theta").get<double>(),
                           .rotary_dimensions = rope->at("rotary_dimensions").get<uint32_t>(),
                           .pairing = static_cast<RopePairing>(rope->at("pairing").get<int>()),
                           .scaling_kind = rope->at("scaling_kind").get<std::string>(),
                           .scaling_factor = rope->at("scaling_factor").get<double>()};
  }
  return group;
}

SpaceSpec SpecFromJson(const Json& json) {
  SpaceSpec spec;
  json.at("name").get_to(spec.name);
  const Json& print = json.at("fingerprint");
  print.at("weights_digest").get_to(spec.fingerprint.weights_digest);
  print.at("quantization").get_to(spec.fingerprint.quantization);
  print.at("adapter").get_to(spec.fingerprint.adapter);
  print.at("rope_override").get_to(spec.fingerprint.rope_override);
  print.at("kv_cache_dtype").get_to(spec.fingerprint.kv_cache_dtype);
  print.at("state_format").get_to(spec.fingerprint.state_format);
  json.at("tokens_per_block").get_to(spec.tokens_per_block);
  for (const Json& group : json.at("groups")) spec.groups.push_back(GroupFromJson(group));
  json.at("salt_required").get_to(spec.salt_required);
  json.at("chain_affinity").get_to(spec.chain_affinity);
  const Json& policy = json.at("policy");
  spec.policy.durability = static_cast<Durability>(policy.at("durability").get<int>());
  policy.at("time_to_live_seconds").get_to(spec.policy.time_to_live_seconds);
  policy.at("floor").at("bits_per_value").get_to(spec.policy.floor_bits_per_value);
  if (const auto levels = policy.find("levels"); levels != policy.end()) {
    const auto take = [&](const char* level, std::optional<uint32_t>& bits) {
      const auto found = levels->find(level);
      if (found != levels->end()) bits = found->at("bits_per_value").get<uint32_t>();
    };
    take("l2", spec.policy.level_bits.l2);
    take("l3", spec.policy.level_bits.l3);
    take("archive", spec.policy.level_bits.archive);
  }
  return spec;
}

// Walks two values side by side; the path of the first leaf that differs.
std::string Difference(const Json& present, const Json& asked, const std::string& path) {
  if (present == asked) return "";
  const auto describe = [](const Json& value) {
    return value.is_null() ? std::string("absent") : value.dump();
  };
  if (present.is_object() && asked.is_object()) {
    for (const auto& [key, value] : present.items()) {
      const std::string below = path.empty() ? key : path + "." + key;
      const std::string found = Difference(value, asked.value(key, Json()), below);
      if (!found.empty()) return found;
    }
    for (const auto& [key, value] : asked.items()) {
      if (!present.contains(key)) return Difference(Json(), value, path + "." + key);
    }
  }
  if (present.is_array() && asked.is_array() && present.size() == asked.size()) {
    for (size_t i = 0; i < present.size(); ++i) {
      const std::string found = Difference(present[i], asked[i], fmt::format("{}[{}]", path, i));
      if (!found.empty()) return found;
    }
  }
  return fmt::format("{} is {}, not {}", path, describe(present), describe(asked));
}

}  // namespace

std::string FirstDifference(const SpaceSpec& present, const SpaceSpec& asked) {
  return Difference(ToJson(present), ToJson(asked), "");
}

std::string EncodeSpace(const Space& space) {
  const Json json = {{"version", kSpaceFormatVersion},
                     {"tenant", space.scope.tenant},
                     {"id", space.scope.space},
                     {"created_unix_ns", space.created.nanos},
                     {"spec", ToJson(space.spec)}};
  // Names are the client's bytes: what is not UTF-8 must not throw here.
  const std::string body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string record;
  AppendLittle<uint64_t>(record, Checksum64(AsBytes(body)));
  return record + body;
}

absl::StatusOr<Space> DecodeSpace(ByteView bytes) {
  ByteReader reader(bytes);
  const uint64_t checksum = reader.Little<uint64_t>();
  const ByteView body = reader.Take(reader.remaining());
  if (!reader.ok() || Checksum64(body) != checksum) {
    return absl::DataLossError("the record of a space fails its checksum");
  }
  try {
    const Json json = Json::parse(AsText(body));
    if (json.at("version").get<int>() != kSpaceFormatVersion) {
      return absl::DataLossError(fmt::format("the record of a space has version {}, not {}",
                                             json.at("version").dump(), kSpaceFormatVersion));
    }
    Space space{.scope = {json.at("tenant").get<uint64_t>(), json.at("id").get<uint64_t>()},
                .created = {json.at("created_unix_ns").get<int64_t>()},
                .spec = SpecFromJson(json.at("spec"))};
    MNEMO_RETURN_IF_ERROR(ValidateSpace(space.spec));
    return space;
  } catch (const Json::exception& error) {
    return absl::DataLossError(fmt::format("the record of a space: {}", error.what()));
  }
}

}  // namespace mnemo

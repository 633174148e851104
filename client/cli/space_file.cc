#include "client/cli/space_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "storage/base/file_system.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Bad(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", field, why));
}

// One map of the file: every field is taken once, and what is left over is an
// error. yaml-cpp throws on a value of another type; As turns that into Status.
class Fields {
 public:
  Fields(const YAML::Node& node, std::string at) : node_(node), at_(std::move(at)) {}

  absl::Status CheckMap() const {
    return node_.IsMap() ? absl::OkStatus() : Bad(at_.empty() ? "the file" : at_, "is not a map");
  }
  std::string NameOf(const std::string& field) const {
    return at_.empty() ? field : at_ + "." + field;
  }
  YAML::Node Child(const std::string& field) {
    known_.insert(field);
    return node_[field];
  }
  // Known, and not ours to set.
  void PassOver(std::initializer_list<const char*> fields) {
    known_.insert(fields.begin(), fields.end());
  }
  template <typename T>
  absl::Status Take(const std::string& field, T& out) {
    const YAML::Node child = Child(field);
    if (!child) return absl::OkStatus();
    if (!YAML::convert<T>::decode(child, out)) return Bad(NameOf(field), "has the wrong type");
    return absl::OkStatus();
  }
  template <typename E>
  absl::Status TakeEnum(const std::string& field, const std::map<std::string, E>& names, E& out) {
    std::string name;
    MNEMO_RETURN_IF_ERROR(Take(field, name));
    if (name.empty()) return absl::OkStatus();
    const auto found = names.find(name);
    if (found == names.end()) {
      std::string all;
      for (const auto& [known, value] : names) all += (all.empty() ? "" : ", ") + known;
      return Bad(NameOf(field), fmt::format("is '{}'; it must be one of {}", name, all));
    }
    out = found->second;
    return absl::OkStatus();
  }
  absl::Status CheckNothingLeft() const {
    for (const auto& entry : node_) {
      const std::string key = entry.first.Scalar();
      if (!known_.contains(key)) return Bad(NameOf(key), "is not a field of a space");
    }
    return absl::OkStatus();
  }

 private:
  const YAML::Node node_;
  const std::string at_;
  std::set<std::string> known_;
};

const std::map<std::string, client::GroupKind> kKinds = {{"full", client::GroupKind::kFull},
                                                         {"window", client::GroupKind::kWindow},
                                                         {"state", client::GroupKind::kState},
                                                         {"latent", client::GroupKind::kLatent},
                                                         {"opaque", client::GroupKind::kOpaque}};
const std::map<std::string, client::DType> kDTypes = {
    {"f32", client::DType::kF32},          {"f16", client::DType::kF16},
    {"bf16", client::DType::kBf16},        {"fp8_e4m3", client::DType::kFp8E4m3},
    {"fp8_e5m2", client::DType::kFp8E5m2}, {"int8", client::DType::kInt8},
    {"int4", client::DType::kInt4}};
const std::map<std::string, client::Layout> kLayouts = {
    {"layer_major", client::Layout::kLayerMajor},
    {"kv_major", client::Layout::kKvMajor},
    {"token_major", client::Layout::kTokenMajor}};
const std::map<std::string, client::RopePairing> kPairings = {
    {"half", client::RopePairing::kHalf}, {"interleaved", client::RopePairing::kInterleaved}};
const std::map<std::string, client::Durability> kDurabilities = {
    {"cache", client::Durability::kCache},
    {"interval", client::Durability::kInterval},
    {"sync", client::Durability::kSync}};

template <typename E>
std::string_view NameOf(const std::map<std::string, E>& names, E value) {
  for (const auto& [name, known] : names) {
    if (known == value) return name;
  }
  return "";
}

absl::StatusOr<client::Rope> ParseRope(const YAML::Node& node, const std::string& at) {
  Fields fields(node, at);
  MNEMO_RETURN_IF_ERROR(fields.CheckMap());
  client::Rope rope;
  MNEMO_RETURN_IF_ERROR(fields.Take("theta", rope.theta));
  MNEMO_RETURN_IF_ERROR(fields.Take("rotary_dimensions", rope.rotary_dimensions));
  MNEMO_RETURN_IF_ERROR(fields.TakeEnum("pairing", kPairings, rope.pairing));
  MNEMO_RETURN_IF_ERROR(fields.Take("scaling_kind", rope.scaling_kind));
  MNEMO_RETURN_IF_ERROR(fields.Take("scaling_factor", rope.scaling_factor));
  MNEMO_RETURN_IF_ERROR(fields.CheckNothingLeft());
  return rope;
}

absl::StatusOr<client::Group> ParseGroup(const YAML::Node& node, const std::string& at) {
  Fields fields(node, at);
  MNEMO_RETURN_IF_ERROR(fields.CheckMap());
  client::Group group;
  MNEMO_RETURN_IF_ERROR(fields.Take("name", group.name));
  MNEMO_RETURN_IF_ERROR(fields.TakeEnum("kind", kKinds, group.kind));
  MNEMO_RETURN_IF_ERROR(fields.Take("layers", group.layers));
  MNEMO_RETURN_IF_ERROR(fields.Take("kv_heads", group.kv_heads));
  MNEMO_RETURN_IF_ERROR(fields.Take("k_dimension", group.k_dimension));
  MNEMO_RETURN_IF_ERROR(fields.Take("v_dimension", group.v_dimension));
  MNEMO_RETURN_IF_ERROR(fields.TakeEnum("dtype", kDTypes, group.dtype));
  MNEMO_RETURN_IF_ERROR(fields.TakeEnum("layout", kLayouts, group.layout));
  MNEMO_RETURN_IF_ERROR(fields.Take("window_tokens", group.window_tokens));
  MNEMO_RETURN_IF_ERROR(fields.Take("fixed_bytes", group.fixed_bytes));
  MNEMO_RETURN_IF_ERROR(fields.Take("tensor_parallel_size", group.tensor_parallel_size));
  MNEMO_RETURN_IF_ERROR(fields.Take("pipeline_layers", group.pipeline_layers));
  MNEMO_RETURN_IF_ERROR(fields.Take("optional", group.optional));
  fields.PassOver({"part_bytes"});
  if (const YAML::Node rope = fields.Child("rope")) {
    MNEMO_ASSIGN_OR_RETURN(group.rope, ParseRope(rope, at + ".rope"));
  }
  if (const YAML::Node node_scales = fields.Child("scales")) {
    Fields scale_fields(node_scales, at + ".scales");
    MNEMO_RETURN_IF_ERROR(scale_fields.CheckMap());
    client::Scales scales;
    MNEMO_RETURN_IF_ERROR(scale_fields.Take("bytes_per_run", scales.bytes_per_run));
    MNEMO_RETURN_IF_ERROR(scale_fields.Take("description", scales.description));
    MNEMO_RETURN_IF_ERROR(scale_fields.CheckNothingLeft());
    group.scales = scales;
  }
  MNEMO_RETURN_IF_ERROR(fields.CheckNothingLeft());
  return group;
}

absl::Status ParseFingerprint(const YAML::Node& node, client::Fingerprint& print) {
  Fields fields(node, "fingerprint");
  MNEMO_RETURN_IF_ERROR(fields.CheckMap());
  MNEMO_RETURN_IF_ERROR(fields.Take("weights_digest", print.weights_digest));
  MNEMO_RETURN_IF_ERROR(fields.Take("quantization", print.quantization));
  MNEMO_RETURN_IF_ERROR(fields.Take("adapter", print.adapter));
  MNEMO_RETURN_IF_ERROR(fields.Take("rope_override", print.rope_override));
  MNEMO_RETURN_IF_ERROR(fields.Take("kv_cache_dtype", print.kv_cache_dtype));
  MNEMO_RETURN_IF_ERROR(fields.Take("state_format", print.state_format));
  return fields.CheckNothingLeft();
}

absl::StatusOr<client::LevelBits> ParseLevels(const YAML::Node& node) {
  Fields levels(node, "policy.levels");
  MNEMO_RETURN_IF_ERROR(levels.CheckMap());
  client::LevelBits bits;
  for (const auto& [name, into] : {std::pair("l2", &bits.l2), std::pair("l3", &bits.l3),
                                   std::pair("archive", &bits.archive)}) {
    const YAML::Node level_node = levels.Child(name);
    if (!level_node) continue;
    Fields level(level_node, std::string("policy.levels.") + name);
    MNEMO_RETURN_IF_ERROR(level.CheckMap());
    MNEMO_RETURN_IF_ERROR(level.Take("bits_per_value", into->emplace(0)));
    MNEMO_RETURN_IF_ERROR(level.CheckNothingLeft());
  }
  MNEMO_RETURN_IF_ERROR(levels.CheckNothingLeft());
  return bits;
}

absl::StatusOr<client::Space> ParseNode(const YAML::Node& node) {
  Fields fields(node, "");
  MNEMO_RETURN_IF_ERROR(fields.CheckMap());
  client::Space space;
  MNEMO_RETURN_IF_ERROR(fields.Take("name", space.name));
  MNEMO_RETURN_IF_ERROR(fields.Take("tokens_per_block", space.tokens_per_block));
  MNEMO_RETURN_IF_ERROR(fields.Take("salt_required", space.salt_required));
  MNEMO_RETURN_IF_ERROR(fields.Take("chain_affinity", space.chain_affinity));
  if (const YAML::Node print = fields.Child("fingerprint")) {
    MNEMO_RETURN_IF_ERROR(ParseFingerprint(print, space.fingerprint));
  }
  if (const YAML::Node groups = fields.Child("groups")) {
    if (!groups.IsSequence()) return Bad("groups", "is not a list");
    for (size_t i = 0; i < groups.size(); ++i) {
      MNEMO_ASSIGN_OR_RETURN(client::Group group,
                             ParseGroup(groups[i], fmt::format("groups[{}]", i)));
      space.groups.push_back(std::move(group));
    }
  }
  if (const YAML::Node policy_node = fields.Child("policy")) {
    Fields policy(policy_node, "policy");
    MNEMO_RETURN_IF_ERROR(policy.CheckMap());
    MNEMO_RETURN_IF_ERROR(policy.TakeEnum("durability", kDurabilities, space.policy.durability));
    MNEMO_RETURN_IF_ERROR(policy.Take("time_to_live_seconds", space.policy.time_to_live_seconds));
    if (const YAML::Node floor_node = policy.Child("floor")) {
      Fields floor(floor_node, "policy.floor");
      MNEMO_RETURN_IF_ERROR(floor.CheckMap());
      space.policy.floor_bits_per_value = 0;
      MNEMO_RETURN_IF_ERROR(floor.Take("bits_per_value", *space.policy.floor_bits_per_value));
      MNEMO_RETURN_IF_ERROR(floor.CheckNothingLeft());
    }
    if (const YAML::Node levels_node = policy.Child("levels")) {
      MNEMO_ASSIGN_OR_RETURN(space.policy.level_bits, ParseLevels(levels_node));
    }
    MNEMO_RETURN_IF_ERROR(policy.CheckNothingLeft());
  }
  fields.PassOver({"id", "created_unix_us", "usage"});
  MNEMO_RETURN_IF_ERROR(fields.CheckNothingLeft());
  return space;
}

Json LevelsToJson(const client::LevelBits& levels) {
  Json json = Json::object();
  const auto add = [&](const char* level, const std::optional<uint32_t>& bits) {
    if (bits) json[level] = {{"bits_per_value", *bits}};
  };
  add("l2", levels.l2);
  add("l3", levels.l3);
  add("archive", levels.archive);
  return json;
}

Json GroupToJson(const client::Group& group) {
  Json json = {{"name", group.name},
               {"kind", NameOf(kKinds, group.kind)},
               {"layers", group.layers},
               {"kv_heads", group.kv_heads},
               {"k_dimension", group.k_dimension},
               {"v_dimension", group.v_dimension},
               {"dtype", NameOf(kDTypes, group.dtype)},
               {"layout", NameOf(kLayouts, group.layout)},
               {"window_tokens", group.window_tokens},
               {"fixed_bytes", group.fixed_bytes},
               {"tensor_parallel_size", group.tensor_parallel_size},
               {"pipeline_layers", group.pipeline_layers},
               {"optional", group.optional}};
  if (group.scales) {
    json["scales"] = {{"bytes_per_run", group.scales->bytes_per_run},
                      {"description", group.scales->description}};
  }
  if (group.rope) {
    json["rope"] = {{"theta", group.rope->theta},
                    {"rotary_dimensions", group.rope->rotary_dimensions},
                    {"pairing", NameOf(kPairings, group.rope->pairing)},
                    {"scaling_kind", group.rope->scaling_kind},
                    {"scaling_factor", group.rope->scaling_factor}};
  }
  return json;
}

}  // namespace

Json ToJson(const client::SpaceAndUsage& listed) {
  const client::Space& space = listed.space;
  Json groups = Json::array();
  for (size_t i = 0; i < space.groups.size(); ++i) {
    groups.push_back(GroupToJson(space.groups[i]));
    if (i < space.part_bytes.size()) groups.back()["part_bytes"] = space.part_bytes[i];
  }
  const client::Fingerprint& print = space.fingerprint;
  Json reencoding;  // null unless it is under way
  if (listed.usage.reencoding) {
    reencoding = {{"looked_at", listed.usage.reencoding->looked_at},
                  {"parts", listed.usage.reencoding->parts}};
  }
  return {{"id", fmt::format("{:016x}", space.id)},
          {"name", space.name},
          {"tokens_per_block", space.tokens_per_block},
          {"fingerprint",
           {{"weights_digest", print.weights_digest},
            {"quantization", print.quantization},
            {"adapter", print.adapter},
            {"rope_override", print.rope_override},
            {"kv_cache_dtype", print.kv_cache_dtype},
            {"state_format", print.state_format}}},
          {"groups", groups},
          {"salt_required", space.salt_required},
          {"chain_affinity", space.chain_affinity},
          {"policy",
           {{"durability", DurabilityName(space.policy.durability)},
            {"time_to_live_seconds", space.policy.time_to_live_seconds},
            {"floor", {{"bits_per_value", space.policy.floor_bits_per_value.value_or(0)}}},
            {"levels", LevelsToJson(space.policy.level_bits.value_or(client::LevelBits()))}}},
          {"created_unix_us", space.created_unix_us},
          {"usage",
           {{"parts", listed.usage.parts},
            {"bytes", listed.usage.bytes},
            {"tokens", listed.usage.tokens},
            {"level_bytes", listed.usage.level_bytes},
            {"reencoding", reencoding}}}};
}

std::string_view KindName(client::GroupKind kind) { return NameOf(kKinds, kind); }

std::string_view DurabilityName(client::Durability durability) {
  return NameOf(kDurabilities, durability);
}

absl::StatusOr<client::Durability> ParseDurability(const std::string& name) {
  const auto found = kDurabilities.find(name);
  if (found != kDurabilities.end()) return found->second;
  return absl::InvalidArgumentError(
      fmt::format("durability is '{}'; it must be cache, interval or sync", name));
}

absl::StatusOr<client::Space> ParseSpaceText(const std::string& text) {
  try {
    return ParseNode(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(fmt::format("not YAML or JSON: {}", error.what()));
  }
}

absl::StatusOr<client::Space> ReadSpaceFile(const std::string& path) {
  const auto files = MakePosixFileSystem();
  MNEMO_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(*files, path, kMiB));
  return ParseSpaceText(text);
}

}  // namespace mnemo::cli

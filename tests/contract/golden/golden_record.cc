#include "tests/contract/golden/golden_record.h"

#include <absl/strings/escaping.h>
#include <fmt/format.h>

#include <cstdlib>
#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/block/directory.h"
#include "storage/codec/codec.h"

namespace mnemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSecondsSuffix = "_unix_seconds";
constexpr int64_t kNanosASecond = 1'000'000'000;

std::string Hex(std::string_view bytes) {
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

std::string DigestOf(std::string_view bytes) {
  const std::array<uint8_t, 16> digest = SecureDigest16(bytes);
  return Hex(AsText(ByteView(digest)));
}

Json Describe(const Group& group) {
  Json out = {{"name", group.name},
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
              {"scale_bytes_per_run", group.scale_bytes_per_run},
              {"scale_description", group.scale_description}};
  if (!group.rope) return out;
  out["rope"] = {{"theta", group.rope->theta},
                 {"rotary_dimensions", group.rope->rotary_dimensions},
                 {"pairing", static_cast<int>(group.rope->pairing)},
                 {"scaling_kind", group.rope->scaling_kind},
                 {"scaling_factor", group.rope->scaling_factor}};
  return out;
}

Json Describe(const Space& space) {
  const SpaceSpec& spec = space.spec;
  Json groups = Json::array();
  for (const Group& group : spec.groups) groups.push_back(Describe(group));
  return {{"tenant", space.scope.tenant},
          {"space", space.scope.space},
          {"created_unix_seconds", space.created.nanos / kNanosASecond},
          {"name", spec.name},
          {"fingerprint",
           {{"weights_digest", spec.fingerprint.weights_digest},
            {"quantization", spec.fingerprint.quantization},
            {"adapter", spec.fingerprint.adapter},
            {"rope_override", spec.fingerprint.rope_override},
            {"kv_cache_dtype", spec.fingerprint.kv_cache_dtype},
            {"state_format", spec.fingerprint.state_format}}},
          {"tokens_per_block", spec.tokens_per_block},
          {"groups", std::move(groups)},
          {"salt_required", spec.salt_required},
          {"chain_affinity", spec.chain_affinity},
          {"durability", static_cast<int>(spec.policy.durability)},
          {"time_to_live_seconds", spec.policy.time_to_live_seconds},
          {"floor_bits_per_value", spec.policy.floor_bits_per_value}};
}

// The number of a form on disk.
int FormNamed(const std::string& name) {
  for (uint8_t form = 0; form < kCodecSlots; ++form) {
    if (FormName(form) == name) return form;
  }
  return -1;
}

Json Describe(const PartKey& key, const std::optional<PartState>& state) {
  Json out = {{"name", NameOf(key)}, {"present", state.has_value()}};
  if (!state) return out;
  out["payload_bytes"] = state->payload_bytes;
  out["stored_bytes"] = state->stored_bytes;
  out["level"] = LevelLabel(state->level);
  out["codec"] = FormNamed(state->codec);
  out["depth"] = state->depth;
  out["tokens"] = state->tokens;
  out["parent"] = Hex(state->parent.view());
  out["durability"] = static_cast<int>(state->durability);
  out["pinned"] = state->pinned;
  out["created_unix_seconds"] = state->created.nanos / kNanosASecond;
  out["expires_unix_seconds"] = state->expires.nanos / kNanosASecond;
  return out;
}

absl::StatusOr<Json> DescribeLog(const Store& store, uint16_t shard) {
  Json operations = Json::array();
  MNEMO_RETURN_IF_ERROR(store.ReadLog(shard, 0, [&](const Operation& operation) {
    operations.push_back({{"sequence", operation.sequence},
                          {"epoch", operation.epoch},
                          {"kind", static_cast<int>(operation.kind)},
                          {"key", Hex(operation.key)},
                          {"payload", DigestOf(operation.payload)}});
    return true;
  }));
  return Json{
      {"shard", shard}, {"last", store.LastSequence(shard)}, {"operations", std::move(operations)}};
}

void Compare(const std::string& where, const Json& recorded, const Json& seen,
             std::vector<std::string>& lines) {
  if (recorded.is_object() && seen.is_object()) {
    for (const auto& [key, value] : recorded.items()) {
      const std::string inner = where.empty() ? key : where + "." + key;
      if (seen.contains(key)) {
        Compare(inner, value, seen[key], lines);
      } else {
        lines.push_back(fmt::format("{}: absent, recorded {}", inner, value.dump()));
      }
    }
    return;
  }
  if (recorded.is_array() && seen.is_array() && recorded.size() == seen.size()) {
    for (size_t i = 0; i < recorded.size(); ++i) {
      Compare(fmt::format("{}[{}]", where, i), recorded[i], seen[i], lines);
    }
    return;
  }
  const bool near = where.ends_with(kSecondsSuffix) && recorded.is_number_integer() &&
                    seen.is_number_integer() &&
                    std::abs(recorded.get<int64_t>() - seen.get<int64_t>()) <= 1;
  if (recorded == seen || near) return;
  lines.push_back(fmt::format("{}: {}, recorded {}", where, seen.dump(), recorded.dump()));
}

}  // namespace

Json NameOf(const PartKey& key) {
  return {{"tenant", key.scope.tenant},
          {"space", key.scope.space},
          {"salt", Hex(AsText(ByteView(key.salt)))},
          {"key", Hex(key.key.view())},
          {"group", key.part.group},
          {"tp_rank", key.part.tp_rank},
          {"pp_rank", key.part.pp_rank}};
}

absl::StatusOr<PartKey> PartNamed(const Json& name) {
  PartKey key;
  key.scope = {.tenant = name.at("tenant"), .space = name.at("space")};
  const std::string salt = absl::HexStringToBytes(name.at("salt").get<std::string>());
  if (salt.size() != key.salt.size()) return absl::InvalidArgumentError("salt: not 16 bytes");
  std::copy(salt.begin(), salt.end(), key.salt.begin());
  MNEMO_ASSIGN_OR_RETURN(key.key,
                         BlockKey::From(absl::HexStringToBytes(name.at("key").get<std::string>())));
  key.part = {
      .group = name.at("group"), .tp_rank = name.at("tp_rank"), .pp_rank = name.at("pp_rank")};
  key.shard = ShardOf(key.scope, key.salt, key.key.view());
  return key;
}

absl::StatusOr<Json> Observe(BlockStore& store, const SpaceRegistry& spaces,
                             const std::set<uint64_t>& tenants, std::span<const PartKey> parts) {
  Json out = {{"node_id", store.node_id()}, {"spaces", Json::array()}, {"parts", Json::array()}};
  for (const uint64_t tenant : tenants) {
    for (const SpaceRegistry::SpacePtr& space : spaces.List(tenant, "", SIZE_MAX)) {
      out["spaces"].push_back(Describe(*space));
    }
  }
  // All of them before the first read, which may bring a part nearer.
  for (const PartKey& key : parts) out["parts"].push_back(Describe(key, store.Describe(key)));
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!out["parts"][i]["present"]) continue;
    const absl::StatusOr<PartRead> read = store.Read(parts[i], 0, 0);
    out["parts"][i]["bytes"] =
        read.ok() ? DigestOf(read->bytes.ToString()) : read.status().ToString();
  }
  out["parts_in_all"] = store.parts();
  out["log"] = Json::array();
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    if (store.state().LastSequence(shard) == 0) continue;
    MNEMO_ASSIGN_OR_RETURN(Json log, DescribeLog(store.state(), shard));
    out["log"].push_back(std::move(log));
  }
  return out;
}

std::vector<std::string> Contradictions(const Json& recorded, const Json& seen) {
  std::vector<std::string> lines;
  Compare("", recorded, seen, lines);
  return lines;
}

}  // namespace mnemo

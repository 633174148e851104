// Spaces and what services share.
#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

v1::Group ToMessage(const Group& group) {
  v1::Group message;
  message.set_name(group.name);
  message.set_kind(static_cast<v1::GroupKind>(group.kind));
  message.set_layers(group.layers);
  message.set_kv_heads(group.kv_heads);
  message.set_k_dimension(group.k_dimension);
  message.set_v_dimension(group.v_dimension);
  message.set_dtype(static_cast<v1::DType>(group.dtype));
  message.set_layout(static_cast<v1::Layout>(group.layout));
  message.set_window_tokens(group.window_tokens);
  message.set_fixed_bytes(group.fixed_bytes);
  message.set_tensor_parallel_size(group.tensor_parallel_size);
  message.mutable_pipeline_layers()->Assign(group.pipeline_layers.begin(),
                                            group.pipeline_layers.end());
  message.set_optional(group.optional);
  if (group.scales) {
    message.mutable_scales()->set_bytes_per_run(group.scales->bytes_per_run);
    message.mutable_scales()->set_description(group.scales->description);
  }
  if (group.rope) {
    v1::Rope& rope = *message.mutable_rope();
    rope.set_theta(group.rope->theta);
    rope.set_rotary_dimensions(group.rope->rotary_dimensions);
    rope.set_pairing(static_cast<v1::RopePairing>(group.rope->pairing));
    rope.set_scaling_kind(group.rope->scaling_kind);
    rope.set_scaling_factor(group.rope->scaling_factor);
  }
  return message;
}

Group FromMessage(const v1::Group& message) {
  Group group{
      .name = message.name(),
      .kind = static_cast<GroupKind>(message.kind()),
      .layers = message.layers(),
      .kv_heads = message.kv_heads(),
      .k_dimension = message.k_dimension(),
      .v_dimension = message.v_dimension(),
      .dtype = static_cast<DType>(message.dtype()),
      .layout = static_cast<Layout>(message.layout()),
      .window_tokens = message.window_tokens(),
      .fixed_bytes = message.fixed_bytes(),
      .tensor_parallel_size = message.tensor_parallel_size(),
      .pipeline_layers = {message.pipeline_layers().begin(), message.pipeline_layers().end()},
      .optional = message.optional()};
  if (message.has_scales()) {
    group.scales = Scales{.bytes_per_run = message.scales().bytes_per_run(),
                          .description = message.scales().description()};
  }
  if (message.has_rope()) {
    group.rope = Rope{.theta = message.rope().theta(),
                      .rotary_dimensions = message.rope().rotary_dimensions(),
                      .pairing = static_cast<RopePairing>(message.rope().pairing()),
                      .scaling_kind = message.rope().scaling_kind(),
                      .scaling_factor = message.rope().scaling_factor()};
  }
  return group;
}

}  // namespace

absl::Status ToStatus(const v1::ItemError& error) {
  // Zero is never sent; taking it for success would turn an error into bytes.
  if (error.code() == 0) return absl::UnknownError(error.message());
  return absl::Status(static_cast<absl::StatusCode>(error.code()), error.message());
}

Digest ToDigest(const v1::Digest& digest) { return {.high = digest.high(), .low = digest.low()}; }

Level ToLevel(v1::Level level) { return static_cast<Level>(level); }

void SetSpace(const SpaceRef& space, v1::SpaceRef& message) {
  if (const auto* id = std::get_if<uint64_t>(&space.ref)) {
    message.set_id(*id);
  } else {
    message.set_name(std::get<std::string>(space.ref));
  }
}

v1::SpaceRef ToMessage(const SpaceRef& space) {
  v1::SpaceRef message;
  SetSpace(space, message);
  return message;
}

v1::PartId ToMessage(const PartId& part) {
  v1::PartId message;
  message.set_group(part.group);
  message.set_tp_rank(part.tp_rank);
  message.set_pp_rank(part.pp_rank);
  return message;
}

v1::SpacePolicy ToMessage(const SpacePolicy& policy) {
  v1::SpacePolicy message;
  message.set_durability(static_cast<v1::Durability>(policy.durability));
  message.set_time_to_live_seconds(policy.time_to_live_seconds);
  if (policy.floor_bits_per_value) {
    message.mutable_floor()->set_bits_per_value(*policy.floor_bits_per_value);
  }
  if (policy.level_bits) {
    v1::LevelFidelity* const levels = message.mutable_levels();
    if (policy.level_bits->l2) levels->mutable_l2()->set_bits_per_value(*policy.level_bits->l2);
    if (policy.level_bits->l3) levels->mutable_l3()->set_bits_per_value(*policy.level_bits->l3);
    if (policy.level_bits->archive) {
      levels->mutable_archive()->set_bits_per_value(*policy.level_bits->archive);
    }
  }
  return message;
}

v1::Space ToMessage(const Space& space) {
  v1::Space message;
  message.set_name(space.name);
  v1::Fingerprint& fingerprint = *message.mutable_fingerprint();
  fingerprint.set_weights_digest(space.fingerprint.weights_digest);
  fingerprint.set_quantization(space.fingerprint.quantization);
  fingerprint.set_adapter(space.fingerprint.adapter);
  fingerprint.set_rope_override(space.fingerprint.rope_override);
  fingerprint.set_kv_cache_dtype(space.fingerprint.kv_cache_dtype);
  fingerprint.set_state_format(space.fingerprint.state_format);
  message.set_tokens_per_block(space.tokens_per_block);
  for (const Group& group : space.groups) *message.add_groups() = ToMessage(group);
  message.set_salt_required(space.salt_required);
  message.set_chain_affinity(space.chain_affinity);
  *message.mutable_policy() = ToMessage(space.policy);
  return message;
}

namespace {

LevelBits FromMessage(const v1::LevelFidelity& levels) {
  LevelBits bits;
  if (levels.has_l2()) bits.l2 = levels.l2().bits_per_value();
  if (levels.has_l3()) bits.l3 = levels.l3().bits_per_value();
  if (levels.has_archive()) bits.archive = levels.archive().bits_per_value();
  return bits;
}

}  // namespace

Space FromMessage(const v1::Space& message) {
  const v1::Fingerprint& fingerprint = message.fingerprint();
  Space space{.id = message.id(),
              .name = message.name(),
              .fingerprint = {.weights_digest = fingerprint.weights_digest(),
                              .quantization = fingerprint.quantization(),
                              .adapter = fingerprint.adapter(),
                              .rope_override = fingerprint.rope_override(),
                              .kv_cache_dtype = fingerprint.kv_cache_dtype(),
                              .state_format = fingerprint.state_format()},
              .tokens_per_block = message.tokens_per_block(),
              .salt_required = message.salt_required(),
              .chain_affinity = message.chain_affinity(),
              .policy = {.durability = static_cast<Durability>(message.policy().durability()),
                         .time_to_live_seconds = message.policy().time_to_live_seconds(),
                         .floor_bits_per_value = message.policy().floor().bits_per_value(),
                         .level_bits = FromMessage(message.policy().levels())},
              .created_unix_us = message.created_unix_us(),
              .part_bytes = {message.part_bytes().begin(), message.part_bytes().end()}};
  for (const v1::Group& group : message.groups()) space.groups.push_back(FromMessage(group));
  return space;
}

SpaceAndUsage FromMessage(const v1::GetSpaceResponse& message) {
  const v1::SpaceUsage& usage = message.usage();
  std::optional<Reencoding> reencoding;
  if (usage.has_reencoding()) {
    reencoding = Reencoding{.looked_at = usage.reencoding().looked_at(),
                            .parts = usage.reencoding().parts()};
  }
  return {.space = FromMessage(message.space()),
          .usage = {.parts = usage.parts(),
                    .bytes = usage.bytes(),
                    .tokens = usage.tokens(),
                    .level_bytes = {usage.level_bytes().begin(), usage.level_bytes().end()},
                    .reencoding = reencoding}};
}

}  // namespace mnemo::client

#include "server/rpc/convert.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/status_macros.h"
#include "storage/codec/codec.h"

namespace mnemo {
namespace {

int64_t Micros(WallTime time) { return time.nanos / 1000; }

absl::StatusOr<uint8_t> EnumValue(std::string_view field, int value, int low, int high) {
  if (value >= low && value <= high) return static_cast<uint8_t>(value);
  return absl::InvalidArgumentError(
      fmt::format("{} is {}; it must be {} to {}", field, value, low, high));
}

// Says which element of a list an error is about.
template <typename T>
absl::StatusOr<T> In(std::string_view list, int index, absl::StatusOr<T> value) {
  if (value.ok()) return value;
  return absl::Status(value.status().code(),
                      fmt::format("{}[{}].{}", list, index, std::string(value.status().message())));
}

absl::StatusOr<uint32_t> Below(std::string_view field, uint32_t value, uint32_t high) {
  if (value <= high) return value;
  return absl::InvalidArgumentError(
      fmt::format("{} is {}; it must be at most {}", field, value, high));
}

absl::StatusOr<RopeFacts> FromProto(const v1::Rope& rope) {
  MNEMO_ASSIGN_OR_RETURN(const uint8_t pairing, EnumValue("rope.pairing", rope.pairing(), 0, 2));
  return RopeFacts{.theta = rope.theta(),
                   .rotary_dimensions = rope.rotary_dimensions(),
                   .pairing = static_cast<RopePairing>(pairing),
                   .scaling_kind = rope.scaling_kind(),
                   .scaling_factor = rope.scaling_factor()};
}

absl::StatusOr<Group> FromProto(const v1::Group& in) {
  Group group{.name = in.name(),
              .layers = in.layers(),
              .kv_heads = in.kv_heads(),
              .k_dimension = in.k_dimension(),
              .v_dimension = in.v_dimension(),
              .window_tokens = in.window_tokens(),
              .fixed_bytes = in.fixed_bytes(),
              .tensor_parallel_size = std::max(1u, in.tensor_parallel_size()),
              .pipeline_layers = {in.pipeline_layers().begin(), in.pipeline_layers().end()},
              .optional = in.optional(),
              .scale_bytes_per_run = in.scales().bytes_per_run(),
              .scale_description = in.scales().description()};
  MNEMO_ASSIGN_OR_RETURN(const uint8_t kind, EnumValue("kind", in.kind(), 1, 5));
  group.kind = static_cast<GroupKind>(kind);
  MNEMO_ASSIGN_OR_RETURN(const uint8_t dtype, EnumValue("dtype", in.dtype(), 0, 7));
  group.dtype = static_cast<DType>(dtype);
  MNEMO_ASSIGN_OR_RETURN(const uint8_t layout, EnumValue("layout", in.layout(), 0, 3));
  group.layout = layout == 0 ? Layout::kLayerMajor : static_cast<Layout>(layout);
  if (in.has_rope()) {
    MNEMO_ASSIGN_OR_RETURN(group.rope, FromProto(in.rope()));
  }
  return group;
}

void ToProto(const Group& group, v1::Group* out) {
  out->set_name(group.name);
  out->set_kind(static_cast<v1::GroupKind>(group.kind));
  out->set_layers(group.layers);
  out->set_kv_heads(group.kv_heads);
  out->set_k_dimension(group.k_dimension);
  out->set_v_dimension(group.v_dimension);
  out->set_dtype(static_cast<v1::DType>(group.dtype));
  out->set_layout(static_cast<v1::Layout>(group.layout));
  out->set_window_tokens(group.window_tokens);
  out->set_fixed_bytes(group.fixed_bytes);
  out->set_tensor_parallel_size(group.tensor_parallel_size);
  for (const uint32_t layers : group.pipeline_layers) out->add_pipeline_layers(layers);
  out->set_optional(group.optional);
  if (group.scale_bytes_per_run != 0 || !group.scale_description.empty()) {
    out->mutable_scales()->set_bytes_per_run(group.scale_bytes_per_run);
    out->mutable_scales()->set_description(group.scale_description);
  }
  if (!group.rope) return;
  out->mutable_rope()->set_theta(group.rope->theta);
  out->mutable_rope()->set_rotary_dimensions(group.rope->rotary_dimensions);
  out->mutable_rope()->set_pairing(static_cast<v1::RopePairing>(group.rope->pairing));
  out->mutable_rope()->set_scaling_kind(group.rope->scaling_kind);
  out->mutable_rope()->set_scaling_factor(group.rope->scaling_factor);
}

std::vector<std::string_view> ViewsOf(const google::protobuf::RepeatedPtrField<std::string>& list) {
  return {list.begin(), list.end()};
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())};
}

void ToProto(const absl::Status& status, v1::ItemError* error) {
  error->set_code(status.raw_code());
  error->set_message(std::string(status.message()));
}

absl::StatusOr<SpacePolicy> FromProto(const v1::SpacePolicy& policy) {
  SpacePolicy out{.time_to_live_seconds = policy.time_to_live_seconds(),
                  .floor_bits_per_value = policy.floor().bits_per_value()};
  MNEMO_ASSIGN_OR_RETURN(const uint8_t durability,
                         EnumValue("policy.durability", policy.durability(), 0, 3));
  if (durability != 0) out.durability = static_cast<Durability>(durability);
  const v1::LevelFidelity& levels = policy.levels();
  if (levels.has_l2()) out.level_bits.l2 = levels.l2().bits_per_value();
  if (levels.has_l3()) out.level_bits.l3 = levels.l3().bits_per_value();
  if (levels.has_archive()) out.level_bits.archive = levels.archive().bits_per_value();
  return out;
}

absl::StatusOr<SpaceSpec> FromProto(const v1::Space& space) {
  const v1::Fingerprint& print = space.fingerprint();
  SpaceSpec spec{.name = space.name(),
                 .fingerprint = {.weights_digest = print.weights_digest(),
                                 .quantization = print.quantization(),
                                 .adapter = print.adapter(),
                                 .rope_override = print.rope_override(),
                                 .kv_cache_dtype = print.kv_cache_dtype(),
                                 .state_format = print.state_format()},
                 .tokens_per_block = space.tokens_per_block(),
                 .salt_required = space.salt_required(),
                 .chain_affinity = space.chain_affinity()};
  for (int i = 0; i < space.groups_size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(Group group, In("groups", i, FromProto(space.groups(i))));
    spec.groups.push_back(std::move(group));
  }
  MNEMO_ASSIGN_OR_RETURN(spec.policy, FromProto(space.policy()));
  return spec;
}

SpaceRef FromProto(const v1::SpaceRef& ref) {
  switch (ref.ref_case()) {
    case v1::SpaceRef::kId:
      return uint64_t{ref.id()};
    case v1::SpaceRef::kName:
      return ref.name();
    default:
      return std::monostate();
  }
}

absl::StatusOr<PartId> FromProto(const v1::PartId& part) {
  MNEMO_ASSIGN_OR_RETURN(const uint32_t group, Below("group", part.group(), 31));
  MNEMO_ASSIGN_OR_RETURN(const uint32_t tp, Below("tp_rank", part.tp_rank(), 1023));
  MNEMO_ASSIGN_OR_RETURN(const uint32_t pp, Below("pp_rank", part.pp_rank(), 63));
  return PartId{.group = static_cast<uint8_t>(group),
                .tp_rank = static_cast<uint16_t>(tp),
                .pp_rank = static_cast<uint16_t>(pp)};
}

absl::StatusOr<PartOffer> FromProto(const v1::PartOffer& offer) {
  PartOffer out{.key = offer.key(),
                .size = offer.size(),
                .depth = offer.depth(),
                .parent = offer.parent(),
                .stretch = offer.stretch()};
  MNEMO_ASSIGN_OR_RETURN(out.part, FromProto(offer.part()));
  if (offer.has_digest()) {
    out.digest = Digest128{.low = offer.digest().low(), .high = offer.digest().high()};
  }
  return out;
}

absl::StatusOr<std::vector<PartOffer>> FromProto(
    const google::protobuf::RepeatedPtrField<v1::PartOffer>& offers) {
  std::vector<PartOffer> parts;
  parts.reserve(static_cast<size_t>(offers.size()));
  for (int i = 0; i < offers.size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(PartOffer offer, In("parts", i, FromProto(offers[i])));
    parts.push_back(offer);
  }
  return parts;
}

absl::StatusOr<PutRequest> FromProto(const v1::PutStart& start) {
  PutRequest request{.space = FromProto(start.space()),
                     .salt = start.salt(),
                     .reservation = start.reservation(),
                     .time_to_live_seconds = start.time_to_live_seconds()};
  MNEMO_ASSIGN_OR_RETURN(request.parts, FromProto(start.parts()));
  MNEMO_ASSIGN_OR_RETURN(const uint8_t durability,
                         EnumValue("durability", start.durability(), 0, 3));
  if (durability != 0) request.durability = static_cast<Durability>(durability);
  return request;
}

KeysView FromProto(const v1::KeyList& list) {
  return {.keys = ViewsOf(list.keys()), .stretches = ViewsOf(list.stretches())};
}

MatchRequest FromProto(const v1::MatchRequest& request) {
  return {.space = FromProto(request.space()),
          .salt = request.salt(),
          .keys = {.keys = ViewsOf(request.keys()), .stretches = ViewsOf(request.stretches())},
          .groups = {request.groups().begin(), request.groups().end()},
          .tp_ranks = {request.tp_ranks().begin(), request.tp_ranks().end()},
          .pp_ranks = {request.pp_ranks().begin(), request.pp_ranks().end()},
          .lease_ms = request.lease_ms(),
          .want_bitmap = request.want_bitmap(),
          .peek = request.peek()};
}

absl::StatusOr<GetRequest> FromProto(const v1::GetRequest& request) {
  GetRequest out{
      .space = FromProto(request.space()),
      .salt = request.salt(),
      .keys = {.keys = ViewsOf(request.keys()), .stretches = ViewsOf(request.stretches())},
      .first_layer = request.first_layer(),
      .layer_count = request.layer_count(),
      .lease = request.lease()};
  for (int i = 0; i < request.parts_size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(const PartId part, In("parts", i, FromProto(request.parts(i))));
    out.parts.push_back(part);
  }
  MNEMO_ASSIGN_OR_RETURN(const uint8_t order, EnumValue("order", request.order(), 0, 2));
  if (order != 0) out.order = static_cast<ReadOrder>(order);
  for (const int encoding : request.takes()) {
    if (encoding > 0 && encoding < 32) out.takes |= MaskOf(static_cast<CodecId>(encoding));
  }
  return out;
}

absl::StatusOr<PrefetchRequest> FromProto(const v1::PrefetchRequest& request) {
  PrefetchRequest out{.space = FromProto(request.space()),
                      .salt = request.salt(),
                      .keys = FromProto(request.keys()),
                      .cancel = request.cancel()};
  for (const v1::PartId& part : request.parts()) {
    MNEMO_ASSIGN_OR_RETURN(const PartId id, FromProto(part));
    out.parts.push_back(id);
  }
  return out;
}

absl::StatusOr<DeleteRequest> FromProto(const v1::DeleteRequest& request) {
  DeleteRequest out{.space = FromProto(request.space()), .salt = request.salt()};
  switch (request.what_case()) {
    case v1::DeleteRequest::kKeys:
      out.keys = FromProto(request.keys());
      return out;
    case v1::DeleteRequest::kAllOfSalt:
      out.what = DeleteRequest::What::kAllOfSalt;
      if (request.all_of_salt()) return out;
      break;
    case v1::DeleteRequest::kAllOfSpace:
      out.what = DeleteRequest::What::kAllOfSpace;
      if (request.all_of_space()) return out;
      break;
    default:
      break;
  }
  return absl::InvalidArgumentError(
      "what is absent; it must be keys, all_of_salt = true or all_of_space = true");
}

void ToProto(const Space& space, v1::Space* out) {
  const SpaceSpec& spec = space.spec;
  out->set_id(space.scope.space);
  out->set_name(spec.name);
  v1::Fingerprint* print = out->mutable_fingerprint();
  print->set_weights_digest(spec.fingerprint.weights_digest);
  print->set_quantization(spec.fingerprint.quantization);
  print->set_adapter(spec.fingerprint.adapter);
  print->set_rope_override(spec.fingerprint.rope_override);
  print->set_kv_cache_dtype(spec.fingerprint.kv_cache_dtype);
  print->set_state_format(spec.fingerprint.state_format);
  out->set_tokens_per_block(spec.tokens_per_block);
  for (size_t i = 0; i < spec.groups.size(); ++i) {
    ToProto(spec.groups[i], out->add_groups());
    const auto geometry = GeometryOf(spec, {.group = static_cast<uint8_t>(i)});
    out->add_part_bytes(geometry.ok() ? geometry->bytes : 0);
  }
  out->set_salt_required(spec.salt_required);
  out->set_chain_affinity(spec.chain_affinity);
  out->mutable_policy()->set_durability(static_cast<v1::Durability>(spec.policy.durability));
  out->mutable_policy()->set_time_to_live_seconds(spec.policy.time_to_live_seconds);
  out->mutable_policy()->mutable_floor()->set_bits_per_value(spec.policy.floor_bits_per_value);
  v1::LevelFidelity* const levels = out->mutable_policy()->mutable_levels();
  const LevelBits& bits = spec.policy.level_bits;
  if (bits.l2) levels->mutable_l2()->set_bits_per_value(*bits.l2);
  if (bits.l3) levels->mutable_l3()->set_bits_per_value(*bits.l3);
  if (bits.archive) levels->mutable_archive()->set_bits_per_value(*bits.archive);
  out->set_created_unix_us(Micros(space.created));
}

void ToProto(const SpaceEngine::Listed& listed, v1::GetSpaceResponse* out) {
  ToProto(*listed.space, out->mutable_space());
  v1::SpaceUsage* usage = out->mutable_usage();
  if (listed.reencoding.under_way) {
    usage->mutable_reencoding()->set_looked_at(listed.reencoding.looked_at);
    usage->mutable_reencoding()->set_parts(listed.reencoding.parts);
  }
  usage->set_parts(listed.usage.parts);
  usage->set_bytes(listed.usage.bytes);
  usage->set_tokens(listed.usage.first_group_blocks *
                    uint64_t{listed.space->spec.tokens_per_block});
  for (const uint64_t bytes : listed.usage.level_bytes) usage->add_level_bytes(bytes);
}

void ToProto(const PartFidelity& fidelity, v1::PartFidelity* out) {
  out->set_codec(fidelity.codec);
  out->set_bits_per_value(fidelity.bits_per_value);
  out->set_error(fidelity.error);
}

void ToProto(const Digest128& digest, v1::Digest* out) {
  out->set_high(digest.high);
  out->set_low(digest.low);
}

void ToProto(const PartId& part, v1::PartId* out) {
  out->set_group(part.group);
  out->set_tp_rank(part.tp_rank);
  out->set_pp_rank(part.pp_rank);
}

void ToProto(const OfferVerdict& verdict, v1::OfferVerdict* out) {
  out->set_verdict(static_cast<v1::Verdict>(verdict.verdict));
  if (verdict.verdict == Verdict::kRefused) ToProto(verdict.reason, out->mutable_reason());
  if (verdict.digest) ToProto(*verdict.digest, out->mutable_digest());
}

void ToProto(const PutResult& result, v1::PutResult* out) {
  out->set_index(result.index);
  if (!result.outcome.ok()) {
    ToProto(result.outcome.status(), out->mutable_error());
    return;
  }
  out->set_outcome(static_cast<v1::PutOutcome>(*result.outcome));
  ToProto(result.digest, out->mutable_digest());
}

v1::Level ToProto(Level level) { return static_cast<v1::Level>(static_cast<int>(level) + 1); }

void ToProto(const MatchAnswer& answer, v1::MatchResponse* out) {
  out->set_blocks(answer.blocks);
  out->set_tokens(answer.tokens);
  for (const MatchAnswer::Run& run : answer.runs) {
    v1::MatchRun* added = out->add_runs();
    added->set_first(run.first);
    added->set_count(run.count);
    added->set_level(ToProto(run.level));
  }
  for (const uint32_t index : answer.pending) out->add_pending(index);
  out->set_present(answer.present);
  out->set_lease(answer.lease);
  out->set_lease_ms(answer.lease_ms);
  out->set_fetch_bytes(answer.fetch_bytes);
  for (const MatchAnswer::GroupReach& reach : answer.groups) {
    v1::GroupMatch* added = out->add_groups();
    added->set_group(reach.group);
    added->set_blocks(reach.blocks);
  }
}

void ToProto(const PartState& state, v1::PartInfo* out) {
  out->set_key(std::string(state.key.key.view()));
  ToProto(state.key.part, out->mutable_part());
  out->set_size(state.payload_bytes);
  out->set_stored_bytes(state.stored_bytes);
  ToProto(state.digest, out->mutable_digest());
  out->set_level(state.pending ? v1::LEVEL_UNSPECIFIED : ToProto(state.level));
  out->set_on_disk(state.on_disk);
  out->set_depth(state.depth);
  out->set_parent(std::string(state.parent.view()));
  out->set_durability(static_cast<v1::Durability>(state.durability));
  out->set_pinned(state.pinned);
  out->set_leased(state.leased);
  out->set_pending(state.pending);
  out->set_codec(state.codec);
  out->set_created_unix_us(Micros(state.created));
  out->set_expires_unix_us(Micros(state.expires));
  out->set_uses(state.uses);
}

void ToProto(const BlockEvent& event, v1::BlockEvent* out) {
  out->set_sequence(event.sequence);
  out->set_kind(static_cast<v1::BlockEventKind>(static_cast<int>(event.kind) + 1));
  if (event.kind == BlockEvent::Kind::kCleared || event.kind == BlockEvent::Kind::kSnapshotEnd) {
    return;
  }
  out->set_key(std::string(event.key.key.view()));
  ToProto(event.key.part, out->mutable_part());
  out->set_depth(event.depth);
  if (event.level) out->set_level(ToProto(*event.level));
  const SaltDigest& salt = event.key.salt;
  if (salt != SaltDigest{}) out->set_salt_digest(salt.data(), salt.size());
}

void ToProto(const Placement& placement, v1::Placement* out) {
  ToProto(placement.state, out->mutable_part());
  out->set_shard(placement.state.key.shard);
  out->set_tier(std::string(placement.tier));
  for (const Level level : placement.copies) out->add_copies(ToProto(level));
  out->set_rule(std::string(placement.state.rule));
  out->set_explanation(placement.explanation);
  for (const auto& [name, value] : placement.signals) {
    v1::Signal* signal = out->add_signals();
    signal->set_name(std::string(name));
    signal->set_value(value);
  }
}

void ToProto(const TierRow& row, v1::TierInfo* out) {
  out->set_name(std::string(row.name));
  out->set_description(std::string(row.description));
  out->set_level(ToProto(row.level));
  out->set_bits_per_value(row.bits_per_value);
  out->set_moves_on_when(std::string(row.moves_on_when));
  out->set_active(row.active);
  out->set_parts(row.parts);
  out->set_bytes(row.bytes);
}

}  // namespace mnemo

#include "server/engine/request_keys.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::Status CheckKeyLength(std::string_view field, size_t index, size_t length) {
  if (length >= 1 && length <= BlockKey::kMaxSize) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{}[{}] is {} bytes long; it must be 1 to {}",
                                                field, index, length, BlockKey::kMaxSize));
}

}  // namespace

absl::StatusOr<CallScope> ResolveScope(const SpaceEngine& spaces, const CallContext& call,
                                       const SpaceRef& ref, std::string_view salt) {
  MNEMO_ASSIGN_OR_RETURN(auto space, spaces.Resolve(call, ref));
  MNEMO_ASSIGN_OR_RETURN(const SaltDigest digest, DigestOfSalt(salt));
  if (salt.empty() && space->spec.salt_required) {
    return absl::InvalidArgumentError(
        fmt::format("salt is absent; space '{}' requires one of 1 to {} bytes", space->spec.name,
                    kMaxSaltBytes));
  }
  return CallScope{.space = std::move(space), .salt = digest};
}

absl::Status CheckKeys(const CallScope& scope, const KeysView& keys, size_t max_keys) {
  if (keys.keys.empty() || keys.keys.size() > max_keys) {
    return absl::InvalidArgumentError(
        fmt::format("keys holds {}; it must hold 1 to {}", keys.keys.size(), max_keys));
  }
  const size_t stretches = scope.spec().chain_affinity ? keys.keys.size() : 0;
  if (keys.stretches.size() != stretches) {
    return absl::InvalidArgumentError(
        fmt::format("stretches holds {}; it must hold {}, as the space has {}chain affinity",
                    keys.stretches.size(), stretches, stretches == 0 ? "no " : ""));
  }
  for (size_t i = 0; i < keys.keys.size(); ++i) {
    MNEMO_RETURN_IF_ERROR(CheckKeyLength("keys", i, keys.keys[i].size()));
    if (stretches != 0) {
      MNEMO_RETURN_IF_ERROR(CheckKeyLength("stretches", i, keys.stretches[i].size()));
    }
  }
  return absl::OkStatus();
}

PartKey PartKeyOf(const CallScope& scope, std::string_view key, std::string_view stretch,
                  const PartId& part) {
  const KeyScope key_scope = scope.space->scope;
  const std::string_view placed_by = scope.spec().chain_affinity ? stretch : key;
  return {.scope = key_scope,
          .salt = scope.salt,
          .key = *BlockKey::From(key),
          .part = part,
          .shard = ShardOf(key_scope, scope.salt, placed_by)};
}

BlockParts BlocksOf(const CallScope& scope, const KeysView& keys, size_t begin, size_t end,
                    std::span<const PartId> parts) {
  const std::span<const std::string_view> stretches(keys.stretches);
  return {.scope = scope.space->scope,
          .salt = scope.salt,
          .keys = std::span(keys.keys).subspan(begin, end - begin),
          .stretches = stretches.empty() ? stretches : stretches.subspan(begin, end - begin),
          .parts = parts};
}

std::vector<PartKey> PartKeysOf(const CallScope& scope, const KeysView& keys, size_t begin,
                                size_t end, std::span<const PartId> parts) {
  std::vector<PartKey> part_keys;
  part_keys.reserve((end - begin) * parts.size());
  for (size_t i = begin; i < end; ++i) {
    const std::string_view stretch =
        keys.stretches.empty() ? std::string_view() : keys.stretches[i];
    PartKey key = PartKeyOf(scope, keys.keys[i], stretch, {});
    for (const PartId& part : parts) {
      key.part = part;
      part_keys.push_back(key);
    }
  }
  return part_keys;
}

}  // namespace mnemo

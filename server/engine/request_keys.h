// From what a client names to what is stored: checked here, once, for every call.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/block_engine.h"

namespace mnemo {

// A space and a salt that a call may use.
struct CallScope {
  SpaceRegistry::SpacePtr space;
  SaltDigest salt;

  const SpaceSpec& spec() const { return space->spec; }
};

// Errors: kNotFound, kInvalidArgument (salt too long, or missing where required).
absl::StatusOr<CallScope> ResolveScope(const SpaceEngine& spaces, const CallContext& call,
                                       const SpaceRef& ref, std::string_view salt);

// Checks the number of keys, each key, and that stretches are there if and only
// if the space has chain affinity. Errors: kInvalidArgument, naming the index.
absl::Status CheckKeys(const CallScope& scope, const KeysView& keys, size_t max_keys);

// The stored name of one part. `key` and `stretch` have been checked.
PartKey PartKeyOf(const CallScope& scope, std::string_view key, std::string_view stretch,
                  const PartId& part);

// Some parts of the keys [begin, end), as views of `keys` and `parts`.
BlockParts BlocksOf(const CallScope& scope, const KeysView& keys, size_t begin, size_t end,
                    std::span<const PartId> parts);

// One part of each of the keys [begin, end), by key, then by part.
std::vector<PartKey> PartKeysOf(const CallScope& scope, const KeysView& keys, size_t begin,
                                size_t end, std::span<const PartId> parts);

}  // namespace mnemo

// What a data directory holds, as JSON that outlives the build that wrote it:
// the `expected.json` beside every golden data directory.
//
// {
//   "clock_unix_ns":  when it was closed
//   "node_id":        hex
//   "spaces":         all, by tenant and name
//   "parts":          name and state of each; "present": false of the deleted
//   "parts_in_all":   how many there are, so that none came back
//   "log":            of each shard with operations: the first kept, the last, all
// }
//
// Bytes are in hex, digests of bytes are the first 16 of SHA-256, times in whole
// seconds since the Unix epoch. A later build may add keys; it never changes
// what one means.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/space_registry.h"

namespace mnemo {

nlohmann::ordered_json NameOf(const PartKey& key);
// The shard is worked out anew. Errors: kInvalidArgument.
absl::StatusOr<PartKey> PartNamed(const nlohmann::ordered_json& name);

// All of it, through the present build. Reads every part whole. Errors: those of
// reading the log; a part that cannot be read is told in its state.
absl::StatusOr<nlohmann::ordered_json> Observe(BlockStore& store, const SpaceRegistry& spaces,
                                               const std::set<uint64_t>& tenants,
                                               std::span<const PartKey> parts);

// Where `seen` contradicts `recorded`, a line each: "parts[3].codec: 2, recorded
// 1". What `seen` says beyond it is no contradiction; times may differ by 1 s,
// since a directory may round them.
std::vector<std::string> Contradictions(const nlohmann::ordered_json& recorded,
                                        const nlohmann::ordered_json& seen);

}  // namespace mnemo

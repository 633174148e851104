// A space described in a file, and printed so that it can be read back.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "mnemo/types.h"

namespace mnemo::cli {

// Reads YAML or JSON with the fields of mnemo.v1.Space by their names there;
// enumerations by the lower-case end of their names ("window", "bf16",
// "layer_major", "sync"). What only the daemon gives (id, usage and the like) is
// passed over, so that a space that was shown can be created elsewhere. Errors:
// kInvalidArgument, naming the field; a field that is not known is one. Ranges
// are the daemon's to check.
absl::StatusOr<client::Space> ReadSpaceFile(const std::string& path);
absl::StatusOr<client::Space> ParseSpaceText(const std::string& text);

// The same fields; an enumeration that is not set is "".
nlohmann::ordered_json ToJson(const client::SpaceAndUsage& listed);

// As in a file; "" where it is not set.
std::string_view KindName(client::GroupKind kind);
std::string_view DurabilityName(client::Durability durability);
// Errors: kInvalidArgument.
absl::StatusOr<client::Durability> ParseDurability(const std::string& name);

}  // namespace mnemo::cli

// A space described in a file.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "mnemo/types.h"

namespace mnemo::cli {

// Reads YAML or JSON with the fields of mnemo.v1.Space by their names there;
// enumerations by the lower-case end of their names ("window", "bf16",
// "layer_major", "sync"). Errors: kInvalidArgument, naming the field; a field
// that is not known is one. Ranges are the daemon's to check.
absl::StatusOr<client::Space> ReadSpaceFile(const std::string& path);
absl::StatusOr<client::Space> ParseSpaceText(const std::string& text);

}  // namespace mnemo::cli

// Exit codes of mnemoctl; scripts rely on them.
#pragma once

#include "absl/status/status.h"

namespace mnemo::cli {

enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kNotFound = 3,
  kUnreachable = 4,  // or timed out
  kNotPermitted = 5,
  kPartlyDone = 6,
  kUnhealthy = 7,
  kConflict = 8,
};

// The code of a call that failed so.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace mnemo::cli

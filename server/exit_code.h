// Why the daemon ended, for scripts and service managers.
#pragma once

#include "absl/status/status.h"

namespace mnemo {

// In docs/operations-config.md: never renumber.
enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,
  kConfig = 2,
  kAddress = 3,
  kLocked = 4,
  kFormat = 5,
  kDamaged = 6,
  kDirectory = 7,
};

// `status`, which is an error, marked with the code that it ends the daemon by.
absl::Status WithExitCode(absl::Status status, ExitCode code);
// kFailure if it was not marked.
ExitCode ExitCodeOf(const absl::Status& status);

// Of an error of BlockStore::Open.
ExitCode ExitCodeOfOpen(const absl::Status& status);

}  // namespace mnemo

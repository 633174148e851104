// errno as a Status.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace mnemo {

// "WHAT: the system's text", with the code that callers act upon: kNotFound,
// kAlreadyExists, kPermissionDenied, kResourceExhausted (no room, no memory), else kInternal.
absl::Status ErrnoStatus(std::string_view what, int error);

}  // namespace mnemo

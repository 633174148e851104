// The identity file: principals that a file names instead of `mnemoctl`.
//
//   principals:
//     - tenant: acme
//       name: engine-1
//       roles: [reader, writer]
//       token_sha256: [64 hex digits]        # of the whole token; at most two
//       certificates: ["uri:spiffe://acme/engine-1"]
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/identity/identity_book.h"

namespace mnemo {

// Errors: kInvalidArgument, with the path and the line, and never a value that
// may be a secret. What the names may be, IdentityBook::ApplyFile checks.
absl::StatusOr<IdentityFile> ParseIdentityFile(const std::string& text, const std::string& path);

}  // namespace mnemo

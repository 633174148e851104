// UNIX sockets that somebody listens at.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/descriptor.h"

namespace mnemo {

// Who may connect to a socket file.
struct SocketAccess {
  uint32_t mode = 0600;
  std::string owner;  // "USER", "USER:GROUP" or ":GROUP", names or numbers; empty: as we are
};
// Errors: kInvalidArgument (no such user or group).
absl::Status CheckSocketOwner(const std::string& owner);

// Listens at `path`, in the place of a socket that nobody listens at any more. Nobody
// can connect before access is as asked. Errors: kInvalidArgument (a path over 107
// bytes, owner), kAlreadyExists (somebody listens there, or it is no socket),
// kPermissionDenied, kUnavailable.
absl::StatusOr<Descriptor> ListenUnix(const std::string& path, const SocketAccess& access);

}  // namespace mnemo

// The process at the other end of a UNIX socket, as the kernel knows it.
#pragma once

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/descriptor.h"

namespace mnemo {

// Who connected. Never from a message. Movable; const methods are thread-safe.
class Peer {
 public:
  Peer() = default;
  // Of a connected UNIX socket. A peer that the kernel shows no pid of (another
  // pid namespace), or that is gone by now, has none here. Errors: kInternal
  // (not a UNIX socket).
  static absl::StatusOr<Peer> Of(int socket);

  uid_t uid() const { return uid_; }
  gid_t gid() const { return gid_; }
  pid_t pid() const { return pid_; }  // 0: unknown

  // Whether pid() is that process still: false for good once it has ended, even
  // if its number was given away again. False if the pid is unknown.
  bool IsAlive() const;
  // Another handle of the same process. Errors: kFailedPrecondition (no pid),
  // kInternal.
  absl::StatusOr<Peer> Clone() const;

 private:
  pid_t pid_ = 0;
  uid_t uid_ = static_cast<uid_t>(-1);
  gid_t gid_ = static_cast<gid_t>(-1);
  Descriptor pidfd_;
};

}  // namespace mnemo

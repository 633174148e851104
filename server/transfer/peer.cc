#include "server/transfer/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "storage/base/errno_status.h"

namespace mnemo {
namespace {

// Newer than Debian 12's headers.
#ifndef SO_PEERPIDFD
constexpr int SO_PEERPIDFD = 77;
#endif

// The process that connected. Kernels before 6.5 know only its number, which
// may have been given away since: then it is whoever has it now, and the caller
// compares the uid.
Descriptor OpenPeer(int socket, pid_t pid) {
  int descriptor = -1;
  socklen_t length = sizeof(descriptor);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &descriptor, &length) == 0) {
    return Descriptor(descriptor);
  }
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

absl::StatusOr<Peer> Peer::Of(int socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return ErrnoStatus("SO_PEERCRED", errno);
  }
  Peer peer;
  peer.uid_ = credentials.uid;
  peer.gid_ = credentials.gid;
  if (credentials.pid <= 0) return peer;
  peer.pidfd_ = OpenPeer(socket, credentials.pid);
  if (peer.pidfd_.valid()) peer.pid_ = credentials.pid;
  return peer;
}

bool Peer::IsAlive() const {
  if (!pidfd_.valid()) return false;
  // Readable from the end of the process on, before its number is free again.
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 0;
}

absl::StatusOr<Peer> Peer::Clone() const {
  if (!pidfd_.valid()) return absl::FailedPreconditionError("the peer's process is not known");
  Descriptor copy(::fcntl(pidfd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return ErrnoStatus("pidfd", errno);
  Peer peer;
  peer.pid_ = pid_;
  peer.uid_ = uid_;
  peer.gid_ = gid_;
  peer.pidfd_ = std::move(copy);
  return peer;
}

}  // namespace mnemo

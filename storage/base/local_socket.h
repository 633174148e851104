// Connected stream sockets, and descriptors that travel over those of UNIX.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/descriptor.h"

namespace mnemo {

// Does not wait: a socket whose backlog is full counts as one that is not there.
// Errors: kUnavailable; kInvalidArgument (a path over 107 bytes).
absl::StatusOr<Descriptor> ConnectLocal(const std::string& path);

// A TCP socket that is about to connect to `address`, or to listen there: if that is this
// host, what it sends is not paced, since there is no path that it could congest.
// docs/decisions/0148. True if so.
bool SendUnpacedWithinHost(int socket, const sockaddr* address);

// What one call took from a socket.
struct Received {
  enum class State : uint8_t { kBytes, kNothing, kEnd };
  State state = State::kNothing;
  size_t bytes = 0;
  // The peer sent more descriptors than a call takes; they were dropped.
  bool descriptors_lost = false;
  // The process that wrote them, all of them, if ShowSenders was called; 0: not known.
  pid_t sender = 0;
};
// From now on Receive says who wrote. False: the socket cannot tell.
bool ShowSenders(int socket);
// Does not wait. Fills `into` piece after piece, at most 1,024 of them. `descriptors`
// gets what came along, a few.
Received Receive(int socket, std::span<const iovec> into, std::vector<Descriptor>& descriptors);
Received Receive(int socket, MutableByteView into, std::vector<Descriptor>& descriptors);

// Does not wait. Answers how many bytes were taken, `descriptor` (below 0: none) with
// the first; 0: none now; -1: the peer is gone.
ssize_t SendSome(int socket, std::span<const iovec> pieces, int descriptor);
ssize_t SendSome(int socket, ByteView bytes, int descriptor);

}  // namespace mnemo

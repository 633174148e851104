// TCP sockets that somebody listens at.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/descriptor.h"

namespace mnemo {

struct TcpListener {
  Descriptor socket;    // does not block
  std::string address;  // as it was bound: "127.0.0.1:7073", "[::1]:7073"
};
// Listens at "127.0.0.1:7073" or "[::1]:0"; port 0 is any free one. Errors:
// kInvalidArgument (no such address), kAlreadyExists (it is taken, or not of this host).
absl::StatusOr<TcpListener> ListenTcp(const std::string& address);

// Sends what there is at once, and finds out within two minutes that an idle peer has
// gone without a word.
void PrepareTcp(int socket);

// "ipv4:10.0.0.7:4711", as gRPC writes it; empty for none.
std::string PeerAddress(int socket);

}  // namespace mnemo

// TCP to a daemon, plain or under TLS.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "mnemo/options.h"
#include "proto/stream/stream_socket.h"

namespace mnemo::client {

// Connects to "127.0.0.1:7073" or "[::1]:7073", and makes the handshake if `tls` is there:
// the daemon's certificate is checked against its CA and `server_name`, or where that is
// empty `host`. Errors: kUnavailable (nobody there, the handshake failed),
// kDeadlineExceeded, kInvalidArgument (an address or a PEM text that cannot be read, a key
// with a passphrase among them).
absl::StatusOr<std::unique_ptr<stream::StreamSocket>> ConnectTcp(
    const std::string& address, const std::string& host, const std::optional<TlsOptions>& tls,
    std::chrono::steady_clock::time_point deadline);

// What getaddrinfo's `error` means to a caller: kUnavailable where it may go away by itself,
// otherwise kInvalidArgument.
absl::Status LookupError(const std::string& address, int error);

// Where streams are, by what the daemon says and the target of its gRPC: an address of any
// host ("0.0.0.0:7073") has the target's host.
struct StreamHost {
  std::string address;  // of TCP
  std::string host;     // whose name a certificate has
};
StreamHost HostOfStream(const std::string& target, const std::string& said);

}  // namespace mnemo::client

// The listeners of streams: the fast lane of this host, and TCP for others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/identity/tls_material.h"
#include "server/transfer/stream_connection.h"
#include "server/transfer/unix_socket.h"

namespace mnemo {

struct StreamServerOptions {
  std::string unix_socket;  // a path; empty: none
  SocketAccess access;
  std::string tcp_address;           // "127.0.0.1:7073"; port 0: any free one; empty: none
  const TlsMaterial* tls = nullptr;  // of TCP; null: plain
  size_t threads = 1;                // loops; 1 to 64
  // Of each listener, so that strangers who connect over TCP cannot shut this host's own
  // clients out; more are turned away. 1 to 65,536.
  size_t max_connections = 4096;
  Nanos busy_poll{0};  // see EventLoop
  absl::Status Validate() const;
};

// Thread-safe. Serves from Start to Shutdown.
class StreamServer {
 public:
  // Errors: kInvalidArgument; those of ListenUnix and ListenTcp; kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<StreamServer>> Start(const StreamServerOptions& options,
                                                             const StreamRooms& rooms);
  virtual ~StreamServer() = default;

  // As it was bound; empty: none.
  virtual const std::string& tcp_address() const = 0;
  virtual size_t connections() const = 0;
  // Takes no new streams, ends those that have nothing under way, lets the others end
  // what they have until `drain` has passed, and cancels the rest. The socket's file is
  // gone then. Idempotent; before Gate::Shutdown.
  virtual void Shutdown(Nanos drain) = 0;
};

}  // namespace mnemo

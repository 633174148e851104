// The gRPC server: every service on every listener.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/gate/gate.h"

namespace mnemo {

class AdminEngine;
class BlockEngine;
class ContextEngine;
class IdentityAdmin;
class NodeFacts;
class SpaceEngine;
class TicketBook;
class TlsMaterial;

// What the services stand on; all of it outlives the server.
struct RpcRooms {
  SpaceEngine& spaces;
  BlockEngine& blocks;
  ContextEngine& contexts;
  AdminEngine& admin;
  IdentityAdmin& identity;
  const NodeFacts& node;
  TicketBook& tickets;
};

struct RpcServerOptions {
  std::vector<std::string> addresses;  // "127.0.0.1:7070", "[::1]:0"
  std::string unix_socket;             // a path; empty: none
  std::string stream_socket;           // of StreamServer; empty: none
  std::string stream_address;          // of StreamServer over TCP; empty: none
  const TlsMaterial* tls = nullptr;    // of `addresses`, outlives the server; null: plain
  int max_concurrent_streams = 1024;   // of one connection
  uint64_t receive_buffer_bytes = uint64_t{256} << 20;  // of all connections: ResourceQuota
};

// Thread-safe. Serves from Start to Shutdown.
class RpcServer {
 public:
  // Errors: kAlreadyExists (an address is taken; it is named),
  // kInvalidArgument. What is handed in outlives the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const RpcServerOptions& options,
                                                          Gate& gate, const RpcRooms& rooms);
  virtual ~RpcServer() = default;
  // As bound: a port 0 is replaced by the one that was given.
  virtual const std::vector<std::string>& bound_addresses() const = 0;
  // Health of "" is SERVING while the process lives; that of "mnemo.ready" and of
  // every service follows this. Not ready at first.
  virtual void SetReady(bool ready) = 0;
  // Takes no new calls, lets those under way end until `drain` has passed, cancels
  // the rest. Idempotent.
  virtual void Shutdown(Nanos drain) = 0;
};

}  // namespace mnemo

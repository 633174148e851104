// Telling others that the daemon serves, and that it stops.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "storage/base/file_system.h"

namespace mnemo {

// The addresses that were bound; empty: not there.
struct BoundAddresses {
  std::string grpc;
  std::string unix_socket;
  std::string streams;      // a path
  std::string streams_tcp;  // "127.0.0.1:7073"
  std::string metrics;
  std::string probes;
};

// {"event":"ready","pid":N,"grpc":"127.0.0.1:N","unix":"PATH",
//  "streams":"PATH","streams_tcp":"127.0.0.1:N","metrics":"127.0.0.1:N",
//  "probes":"127.0.0.1:N"}, without what is not there.
std::string ReadyLine(int64_t pid, const BoundAddresses& bound);

// Puts `line` where whoever started us looks for it: in the file `path`, which
// appears whole or not at all, or on standard output if `path` is "-". Nothing
// if it is empty.
absl::Status WriteReadyLine(FileSystem& files, const std::string& path, const std::string& line);

// Sends `state`, such as "READY=1", to the service manager's datagram socket
// (sd_notify(3)); `socket` is NOTIFY_SOCKET, "@" first for an abstract one.
// Nothing if it is empty. Errors: kInvalidArgument, kUnavailable.
absl::Status NotifyServiceManager(const std::string& socket, const std::string& state);

}  // namespace mnemo

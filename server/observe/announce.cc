#include "server/observe/announce.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace mnemo {

std::string ReadyLine(int64_t pid, const BoundAddresses& bound) {
  nlohmann::ordered_json line = {{"event", "ready"}, {"pid", pid}};
  const std::pair<const char*, const std::string&> addresses[] = {
      {"grpc", bound.grpc},       {"unix", bound.unix_socket},
      {"streams", bound.streams}, {"streams_tcp", bound.streams_tcp},
      {"metrics", bound.metrics}, {"probes", bound.probes}};
  for (const auto& [name, address] : addresses) {
    if (!address.empty()) line[name] = address;
  }
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status WriteReadyLine(FileSystem& files, const std::string& path, const std::string& line) {
  if (path.empty()) return absl::OkStatus();
  if (path != "-") return ReplaceFile(files, path, AsBytes(line));
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() || std::fflush(stdout) != 0) {
    return absl::UnavailableError(
        fmt::format("ready_file: standard output: {}", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status NotifyServiceManager(const std::string& socket, const std::string& state) {
  if (socket.empty()) return absl::OkStatus();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((socket[0] != '/' && socket[0] != '@') || socket.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(fmt::format(
        "NOTIFY_SOCKET: '{}' is neither a path nor an abstract name of at most {} bytes", socket,
        sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, socket.data(), socket.size());
  if (socket[0] == '@') address.sun_path[0] = '\0';
  const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    return absl::UnavailableError(fmt::format("NOTIFY_SOCKET: {}", std::strerror(errno)));
  }
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket.size());
  const ssize_t sent = ::sendto(descriptor, state.data(), state.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&address), size);
  const int error = errno;
  ::close(descriptor);
  if (sent != static_cast<ssize_t>(state.size())) {
    return absl::UnavailableError(fmt::format("NOTIFY_SOCKET: {}", std::strerror(error)));
  }
  return absl::OkStatus();
}

}  // namespace mnemo

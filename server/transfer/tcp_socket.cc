#include "server/transfer/tcp_socket.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr int kBacklog = 1024;
constexpr int kIdleSeconds = 60;
constexpr int kProbeSeconds = 15;
constexpr int kProbes = 4;

struct AddressesDeleter {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressesDeleter>;

absl::StatusOr<Addresses> Resolve(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(address + " has no port");
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", address, ::gai_strerror(error)));
  }
  return Addresses(found);
}

// "127.0.0.1:7073", "[::1]:7073"; empty for none.
std::string NumericText(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return {};
  }
  return fmt::format(fmt::runtime(address.ss_family == AF_INET6 ? "[{}]:{}" : "{}:{}"), host, port);
}

}  // namespace

absl::StatusOr<TcpListener> ListenTcp(const std::string& address) {
  MNEMO_ASSIGN_OR_RETURN(const Addresses found, Resolve(address));
  Descriptor socket(
      ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  // Inherited by the sockets that it accepts.
  if (socket.valid()) SendUnpacedWithinHost(socket.get(), found->ai_addr);
  const int on = 1;
  // A port that a daemon before this one has just left is free.
  if (!socket.valid() ||
      ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return absl::AlreadyExistsError(
        fmt::format("cannot listen on {} for streams: {}", address, std::strerror(errno)));
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  MNEMO_CHECK(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
  return TcpListener{.socket = std::move(socket), .address = NumericText(bound, size)};
}

void PrepareTcp(int socket) {
  const int on = 1;
  // None of them can fail on a TCP socket; without them it would work all the same.
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &kIdleSeconds, sizeof(kIdleSeconds));
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &kProbeSeconds, sizeof(kProbeSeconds));
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof(kProbes));
}

std::string PeerAddress(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  const char* const family = address.ss_family == AF_INET6 ? "ipv6" : "ipv4";
  return fmt::format("{}:{}", family, NumericText(address, size));
}

}  // namespace mnemo

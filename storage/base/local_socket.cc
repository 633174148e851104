#include "storage/base/local_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace mnemo {
namespace {

constexpr size_t kMaxDescriptors = 8;

}  // namespace

absl::StatusOr<Descriptor> ConnectLocal(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError("the path of a socket is 1 to 107 bytes long");
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid() ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::UnavailableError(path + ": " + std::strerror(errno));
  }
  return socket;
}

bool SendUnpacedWithinHost(int socket, const sockaddr* address) {
  bool within = false;
  if (address->sa_family == AF_INET) {
    const auto* const v4 = reinterpret_cast<const sockaddr_in*>(address);
    within = ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  } else if (address->sa_family == AF_INET6) {
    const auto* const v6 = reinterpret_cast<const sockaddr_in6*>(address);
    within = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
  }
  // Every kernel has it, and lets everybody choose it.
  static constexpr std::string_view kUnpaced = "reno";
  return within &&
         ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size()) == 0;
}

bool ShowSenders(int socket) {
  const int on = 1;
  return ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0;
}

Received Receive(int socket, std::span<const iovec> into, std::vector<Descriptor>& descriptors) {
  alignas(
      cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(into.data());
  message.msg_iovlen = into.size();
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t bytes = 0;
  do {
    bytes = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
  if (bytes <= 0) return {.state = Received::State::kEnd};
  pid_t sender = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    // The kernel puts bytes of two writers into no one call.
    if (header->cmsg_type == SCM_CREDENTIALS) sender = LoadLittle<ucred>(CMSG_DATA(header)).pid;
    if (header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      descriptors.emplace_back(LoadLittle<int>(CMSG_DATA(header) + i * sizeof(int)));
    }
  }
  return {.state = Received::State::kBytes,
          .bytes = static_cast<size_t>(bytes),
          .descriptors_lost = (message.msg_flags & MSG_CTRUNC) != 0,
          .sender = sender};
}

Received Receive(int socket, MutableByteView into, std::vector<Descriptor>& descriptors) {
  const iovec piece{.iov_base = into.data(), .iov_len = into.size()};
  return Receive(socket, std::span(&piece, 1), descriptors);
}

ssize_t SendSome(int socket, ByteView bytes, int descriptor) {
  const iovec piece{.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  return SendSome(socket, std::span(&piece, 1), descriptor);
}

ssize_t SendSome(int socket, std::span<const iovec> pieces, int descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    StoreLittle(CMSG_DATA(header), descriptor);
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
}

}  // namespace mnemo

#include "tests/bench/common/line_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo::bench {
namespace {

absl::Status Failed(std::string_view what) {
  return absl::InternalError(fmt::format("{}: {}", what, std::strerror(errno)));
}

}  // namespace

absl::StatusOr<LineSocket> LineSocket::Connect(const std::string& host, int port) {
  LineSocket made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.socket_ < 0) return Failed("socket");
  const int one = 1;
  setsockopt(made.socket_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  if (connect(made.socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("connect");
  }
  return made;
}

absl::StatusOr<LineSocket> LineSocket::ConnectUnix(const std::string& path) {
  LineSocket made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.socket_ < 0) return Failed("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::InternalError("a long path");
  std::copy(path.begin(), path.end(), address.sun_path);
  if (connect(made.socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("connect");
  }
  return made;
}

LineSocket::~LineSocket() {
  if (socket_ >= 0) close(socket_);
}

absl::Status LineSocket::Send(std::span<iovec> pieces) {
  while (!pieces.empty()) {
    const ssize_t sent = writev(socket_, pieces.data(), static_cast<int>(pieces.size()));
    if (sent < 0) return Failed("writev");
    for (auto left = static_cast<size_t>(sent); left > 0;) {
      iovec& piece = pieces.front();
      const size_t taken = std::min(left, piece.iov_len);
      piece.iov_base = static_cast<char*>(piece.iov_base) + taken;
      piece.iov_len -= taken;
      left -= taken;
      if (piece.iov_len == 0) pieces = pieces.subspan(1);
    }
  }
  return absl::OkStatus();
}

absl::Status LineSocket::Send(std::string_view text) {
  iovec piece = {const_cast<char*>(text.data()), text.size()};
  return Send({&piece, 1});
}

absl::StatusOr<std::string> LineSocket::ReadLine() {
  for (;;) {
    const size_t end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return line;
    }
    char piece[64];
    const ssize_t got = recv(socket_, piece, sizeof(piece), 0);
    if (got <= 0) return Failed("recv");
    buffer_.append(piece, static_cast<size_t>(got));
  }
}

absl::Status LineSocket::Expect(std::string_view line) {
  MNEMO_ASSIGN_OR_RETURN(const std::string got, ReadLine());
  if (got == line) return absl::OkStatus();
  return absl::InternalError(fmt::format("\"{}\" came, not \"{}\"", got, line));
}

absl::Status LineSocket::ReadExactly(std::span<uint8_t> into) {
  const size_t buffered = std::min(buffer_.size(), into.size());
  std::memcpy(into.data(), buffer_.data(), buffered);
  buffer_.erase(0, buffered);
  for (size_t at = buffered; at < into.size();) {
    const ssize_t got = recv(socket_, into.data() + at, into.size() - at, MSG_WAITALL);
    if (got <= 0) return Failed("recv");
    at += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace mnemo::bench

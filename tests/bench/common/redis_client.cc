#include "tests/bench/common/redis_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo::bench {
namespace {

absl::Status Failed(std::string_view what) {
  return absl::InternalError(fmt::format("redis: {}: {}", what, std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RedisClient>> RedisClient::Connect(const std::string& host,
                                                                  int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed("socket");
  std::unique_ptr<RedisClient> client(new RedisClient(fd));
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("connect");
  }
  return client;
}

absl::StatusOr<std::unique_ptr<RedisClient>> RedisClient::ConnectUnix(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed("socket");
  std::unique_ptr<RedisClient> client(new RedisClient(fd));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::InternalError("redis: a long path");
  std::copy(path.begin(), path.end(), address.sun_path);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("connect");
  }
  return client;
}

RedisClient::~RedisClient() { close(socket_); }

absl::Status RedisClient::ReadLine(std::string& line) {
  for (;;) {
    const size_t end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return absl::OkStatus();
    }
    char piece[64];
    const ssize_t got = recv(socket_, piece, sizeof(piece), 0);
    if (got <= 0) return Failed("recv");
    buffer_.append(piece, static_cast<size_t>(got));
  }
}

absl::Status RedisClient::ReadExactly(std::span<uint8_t> into) {
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

absl::Status RedisClient::FlushAll() {
  constexpr std::string_view kCommand = "FLUSHALL SYNC\r\n";
  if (write(socket_, kCommand.data(), kCommand.size()) != static_cast<ssize_t>(kCommand.size())) {
    return Failed("write");
  }
  std::string answer;
  MNEMO_RETURN_IF_ERROR(ReadLine(answer));
  return answer == "+OK" ? absl::OkStatus() : absl::InternalError("redis: " + answer);
}

absl::Status RedisClient::Set(std::string_view key, std::span<const uint8_t> value) {
  const std::string head =
      fmt::format("*3\r\n$3\r\nSET\r\n${}\r\n{}\r\n${}\r\n", key.size(), key, value.size());
  iovec pieces[3] = {{const_cast<char*>(head.data()), head.size()},
                     {const_cast<uint8_t*>(value.data()), value.size()},
                     {const_cast<char*>("\r\n"), 2}};
  size_t first = 0;
  while (first < 3) {
    const ssize_t sent = writev(socket_, pieces + first, static_cast<int>(3 - first));
    if (sent < 0) return Failed("writev");
    for (auto left = static_cast<size_t>(sent); left > 0;) {
      const size_t taken = std::min(left, pieces[first].iov_len);
      pieces[first].iov_base = static_cast<char*>(pieces[first].iov_base) + taken;
      pieces[first].iov_len -= taken;
      left -= taken;
      if (pieces[first].iov_len == 0) ++first;
    }
  }
  std::string answer;
  MNEMO_RETURN_IF_ERROR(ReadLine(answer));
  return answer == "+OK" ? absl::OkStatus() : absl::InternalError("redis: " + answer);
}

absl::Status RedisClient::Get(std::string_view key, std::span<uint8_t> into) {
  const std::string request = fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", key.size(), key);
  if (send(socket_, request.data(), request.size(), 0) != static_cast<ssize_t>(request.size())) {
    return Failed("send");
  }
  std::string answer;
  MNEMO_RETURN_IF_ERROR(ReadLine(answer));
  if (answer != fmt::format("${}", into.size())) return absl::InternalError("redis: " + answer);
  MNEMO_RETURN_IF_ERROR(ReadExactly(into));
  uint8_t end[2];
  return ReadExactly(end);
}

}  // namespace mnemo::bench

// A connection to a server that answers in lines: as little between the socket and the
// caller's memory as its protocol allows, so that a comparison measures the server.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mnemo::bench {

// One call at a time. Not thread-safe. Errors: kInternal.
class LineSocket {
 public:
  static absl::StatusOr<LineSocket> Connect(const std::string& host, int port);
  static absl::StatusOr<LineSocket> ConnectUnix(const std::string& path);
  LineSocket(LineSocket&& other) noexcept
      : socket_(std::exchange(other.socket_, -1)), buffer_(std::move(other.buffer_)) {}
  LineSocket& operator=(LineSocket&&) = delete;
  ~LineSocket();

  // All of the pieces, which it changes.
  absl::Status Send(std::span<iovec> pieces);
  absl::Status Send(std::string_view text);
  // Without its end.
  absl::StatusOr<std::string> ReadLine();
  // Errors besides: the line is another one.
  absl::Status Expect(std::string_view line);
  absl::Status ReadExactly(std::span<uint8_t> into);

 private:
  explicit LineSocket(int socket) : socket_(socket) {}

  int socket_;
  std::string buffer_;  // read from the socket, not used yet
};

}  // namespace mnemo::bench

// A lean Redis client: as little between the socket and the caller's memory as
// the protocol allows, so that a comparison measures the server.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mnemo::bench {

// One connection, one call at a time. Not thread-safe. Errors: kInternal.
class RedisClient {
 public:
  static absl::StatusOr<std::unique_ptr<RedisClient>> Connect(const std::string& host, int port);
  static absl::StatusOr<std::unique_ptr<RedisClient>> ConnectUnix(const std::string& path);
  ~RedisClient();

  absl::Status Set(std::string_view key, std::span<const uint8_t> value);
  // Reads a value of exactly `into.size()` bytes, straight into it.
  absl::Status Get(std::string_view key, std::span<uint8_t> into);
  // Deletes all that the server has.
  absl::Status FlushAll();

 private:
  explicit RedisClient(int socket) : socket_(socket) {}
  absl::Status ReadLine(std::string& line);
  absl::Status ReadExactly(std::span<uint8_t> into);

  const int socket_;
  std::string buffer_;  // read from the socket, not used yet
};

}  // namespace mnemo::bench

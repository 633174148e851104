// Lean clients of Redis and of memcached, one connection each.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "tests/bench/common/line_socket.h"

namespace mnemo::bench {

// Of either: one call at a time. Not thread-safe. Errors: kInternal.
class RedisClient {
 public:
  explicit RedisClient(LineSocket socket) : socket_(std::move(socket)) {}
  absl::Status Set(std::string_view key, std::span<const uint8_t> value);
  // Reads a value of exactly `into.size()` bytes, straight into it.
  absl::Status Get(std::string_view key, std::span<uint8_t> into);
  // Deletes all that the server has.
  absl::Status FlushAll();

 private:
  LineSocket socket_;
};

class MemcachedClient {
 public:
  explicit MemcachedClient(LineSocket socket) : socket_(std::move(socket)) {}
  absl::Status Set(std::string_view key, std::span<const uint8_t> value);
  absl::Status Get(std::string_view key, std::span<uint8_t> into);
  // Its memory is free at once, but only given out again as new values come.
  absl::Status FlushAll();

 private:
  LineSocket socket_;
};

}  // namespace mnemo::bench

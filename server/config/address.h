// Addresses to listen on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mnemo {

struct ListenAddress {
  std::string host;   // numeric; IPv6 without brackets
  uint16_t port = 0;  // 0: any free one
  bool is_ipv6 = false;
  bool is_loopback = false;

  // "127.0.0.1:7070", "[::1]:7070"
  std::string ToString() const;
};

// Takes "127.0.0.1:7070", "[::1]:7070", "localhost:7070" (127.0.0.1). Other
// host names are refused: what they resolve to may change after the check.
// Errors: kInvalidArgument.
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text);

}  // namespace mnemo

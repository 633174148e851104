#include "server/config/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <charconv>

namespace mnemo {
namespace {

absl::Status Malformed(std::string_view text) {
  return absl::InvalidArgumentError(fmt::format(
      "'{}' is not an address to listen on; allowed: a numeric address or localhost, and a port "
      "from 0 to 65535, such as 127.0.0.1:7070 or [::1]:7070",
      text));
}

}  // namespace

std::string ListenAddress::ToString() const {
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Malformed(text);
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);

  ListenAddress address;
  const char* end = port.data() + port.size();
  const auto [rest, error] = std::from_chars(port.data(), end, address.port);
  if (error != std::errc() || rest != end) return Malformed(text);

  if (host == "localhost") host = "127.0.0.1";
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    address.is_ipv6 = true;
    host = host.substr(1, host.size() - 2);
  }
  address.host = host;
  if (address.is_ipv6) {
    in6_addr parsed{};
    if (inet_pton(AF_INET6, address.host.c_str(), &parsed) != 1) return Malformed(text);
    address.is_loopback = IN6_IS_ADDR_LOOPBACK(&parsed);
  } else {
    in_addr parsed{};
    if (inet_pton(AF_INET, address.host.c_str(), &parsed) != 1) return Malformed(text);
    address.is_loopback = (ntohl(parsed.s_addr) >> 24) == 127;
  }
  return address;
}

}  // namespace mnemo

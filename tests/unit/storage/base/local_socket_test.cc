#include "storage/base/local_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

std::string CongestionOf(const Descriptor& socket) {
  char name[16] = {};
  socklen_t size = sizeof(name);
  EXPECT_EQ(::getsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, name, &size), 0);
  return name;
}

Descriptor NewSocket() { return Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

sockaddr_in AddressOf(const char* text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  EXPECT_EQ(::inet_pton(AF_INET, text, &address.sin_addr), 1);
  return address;
}
const sockaddr* Plain(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

TEST(LocalSocketTest, BothEndsOfAConnectionWithinAHostAreUnpaced) {
  sockaddr_in address = AddressOf("127.0.0.1");
  socklen_t size = sizeof(address);
  const Descriptor listener = NewSocket();
  EXPECT_TRUE(SendUnpacedWithinHost(listener.get(), Plain(address)));
  ASSERT_EQ(::bind(listener.get(), Plain(address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const Descriptor client = NewSocket();
  EXPECT_TRUE(SendUnpacedWithinHost(client.get(), Plain(address)));
  ASSERT_EQ(::connect(client.get(), Plain(address), size), 0);
  const Descriptor accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(CongestionOf(client), "reno");
  EXPECT_EQ(CongestionOf(accepted), "reno");
}

TEST(LocalSocketTest, OtherPathsKeepWhatTheHostHasChosen) {
  for (const char* const text : {"0.0.0.0", "10.0.0.7", "128.0.0.1"}) {
    const Descriptor socket = NewSocket();
    const std::string before = CongestionOf(socket);
    EXPECT_FALSE(SendUnpacedWithinHost(socket.get(), Plain(AddressOf(text)))) << text;
    EXPECT_EQ(CongestionOf(socket), before);
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = in6addr_any;
  EXPECT_FALSE(SendUnpacedWithinHost(NewSocket().get(), reinterpret_cast<const sockaddr*>(&v6)));
  v6.sin6_addr = in6addr_loopback;
  EXPECT_TRUE(SendUnpacedWithinHost(NewSocket().get(), reinterpret_cast<const sockaddr*>(&v6)));
}

}  // namespace
}  // namespace mnemo

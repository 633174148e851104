#include "server/observe/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "server/config/address.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Sends `request` as it is, and reads until the server closes.
std::string Exchange(const std::string& address, const std::string& request) {
  const ListenAddress target = *ParseListenAddress(address);
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(target.port);
  inet_pton(AF_INET, target.host.c_str(), &peer.sin_addr);
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)) != 0) {
    close(descriptor);
    return "cannot connect";
  }
  EXPECT_EQ(send(descriptor, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  std::array<char, 4096> buffer;
  for (ssize_t size; (size = recv(descriptor, buffer.data(), buffer.size(), 0)) > 0;) {
    answer.append(buffer.data(), static_cast<size_t>(size));
  }
  close(descriptor);
  return answer;
}

std::string Ask(const std::string& address, const std::string& method, const std::string& path) {
  return Exchange(address, method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = HttpServer::Start(
        {.address = "127.0.0.1:0"},
        {{"/page", [] { return HttpResponse{.body = "hello\n", .style_hash = "sha256-abc"}; }},
         {"/down", [] { return HttpResponse{.status = 503, .body = "stopping\n"}; }}});
    ASSERT_OK(server);
    server_ = *std::move(server);
  }
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, PortZeroBecomesARealOne) {
  EXPECT_THAT(server_->address(), AllOf(StartsWith("127.0.0.1:"), Not(EndsWith(":0"))));
}

TEST_F(HttpServerTest, AnswersItsPathsAndNoOthers) {
  EXPECT_THAT(Ask(server_->address(), "GET", "/page"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 6\r\n"),
                    EndsWith("\r\n\r\nhello\n")));
  EXPECT_THAT(Ask(server_->address(), "GET", "/page?x=1"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask(server_->address(), "GET", "/down"),
              AllOf(StartsWith("HTTP/1.1 503"), EndsWith("stopping\n")));
  for (const std::string path : {"/", "/pages", "/page/", "/page/../page2", "/etc/passwd",
                                 "/%2e%2e/etc/passwd", "/page%00"}) {
    EXPECT_THAT(Ask(server_->address(), "GET", path), Not(StartsWith("HTTP/1.1 200"))) << path;
  }
}

TEST_F(HttpServerTest, HeadHasNoBodyAndOtherMethodsAreRefused) {
  EXPECT_THAT(Ask(server_->address(), "HEAD", "/page"),
              AllOf(StartsWith("HTTP/1.1 200"), EndsWith("\r\n\r\n")));
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_THAT(Ask(server_->address(), method, "/page"), Not(HasSubstr("hello"))) << method;
    EXPECT_THAT(Ask(server_->address(), method, "/page"), StartsWith("HTTP/1.1 4")) << method;
  }
}

TEST_F(HttpServerTest, PolicyAllowsNothingFromElsewhere) {
  EXPECT_THAT(Ask(server_->address(), "GET", "/page"),
              AllOf(HasSubstr("Content-Security-Policy: default-src 'none'; style-src "
                              "'sha256-abc'; base-uri 'none'; form-action 'none'; "
                              "frame-ancestors 'none'\r\n"),
                    HasSubstr("X-Content-Type-Options: nosniff\r\n")));
  EXPECT_THAT(Ask(server_->address(), "GET", "/down"), HasSubstr("style-src 'none'"));
}

TEST_F(HttpServerTest, GarbageIsAnsweredOrCutAndTheServerGoesOn) {
  for (const std::string& garbage :
       {std::string("\0\0\0\0\r\n\r\n", 8), std::string("GET\r\n\r\n"),
        std::string(100'000, 'A') + "\r\n\r\n",
        "GET /page HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n" + std::string(10, 'x'),
        std::string("GET /page HTTP/9.9\r\n\r\n")}) {
    Exchange(server_->address(), garbage);
  }
  EXPECT_THAT(Ask(server_->address(), "GET", "/page"), EndsWith("hello\n"));
}

TEST_F(HttpServerTest, PortInUseIsSaidSo) {
  EXPECT_THAT(HttpServer::Start({.address = server_->address()}, {}),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr("cannot listen on " + server_->address())));
}

TEST_F(HttpServerTest, PortIsFreeAfterwards) {
  const std::string address = server_->address();
  server_.reset();
  EXPECT_EQ(Ask(address, "GET", "/page"), "cannot connect");
  EXPECT_OK(HttpServer::Start({.address = address}, {}));
}

TEST(HttpServerAddressTest, Ipv6IsRefusedBecauseTheLibraryHasNone) {
  EXPECT_THAT(HttpServer::Start({.address = "[::1]:0"}, {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("IPv4 only")));
}

}  // namespace
}  // namespace mnemo

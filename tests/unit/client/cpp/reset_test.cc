// The client against a peer that speaks just enough HTTP/2 to refuse every call.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "mnemo/client.h"
#include "storage/base/status_macros.h"
#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

constexpr uint8_t kHeaders = 1;
constexpr uint8_t kRstStream = 3;
constexpr uint8_t kSettings = 4;
constexpr uint8_t kPing = 6;
constexpr uint8_t kAck = 1;
constexpr char kEnhanceYourCalm = 11;

std::string Frame(uint8_t kind, uint8_t flags, const std::string& stream,
                  const std::string& payload) {
  std::string frame = {0, 0, static_cast<char>(payload.size()), static_cast<char>(kind),
                       static_cast<char>(flags)};
  return frame + stream + payload;
}

// Answers the headers of each call with RST_STREAM; serves one connection.
class ResettingPeer {
 public:
  ResettingPeer() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    MNEMO_CHECK(bind(listener_, raw, size) == 0 && listen(listener_, 1) == 0 &&
                getsockname(listener_, raw, &size) == 0);
    target_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { Serve(); });
  }
  ~ResettingPeer() {
    shutdown(listener_, SHUT_RDWR);
    if (connection_ >= 0) shutdown(connection_, SHUT_RDWR);
    thread_.join();
    if (connection_ >= 0) close(connection_);
    close(listener_);
  }

  const std::string& target() const { return target_; }
  int calls() const { return calls_; }

 private:
  void Serve() {
    connection_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    std::string head(24, '\0');  // the preface
    if (!Read(head)) return;
    Send(Frame(kSettings, 0, std::string(4, '\0'), ""));
    head.resize(9);
    while (Read(head)) {
      const auto at = [&](int i) { return static_cast<uint8_t>(head[i]); };
      std::string payload(at(0) << 16 | at(1) << 8 | at(2), '\0');
      if (!Read(payload)) return;
      const std::string stream = head.substr(5);
      if (at(3) == kHeaders) {
        ++calls_;
        Send(Frame(kRstStream, 0, stream, {0, 0, 0, kEnhanceYourCalm}));
      } else if ((at(3) == kSettings || at(3) == kPing) && (at(4) & kAck) == 0) {
        Send(Frame(at(3), kAck, stream, at(3) == kPing ? payload : ""));
      }
    }
  }
  bool Read(std::string& into) const {
    return recv(connection_, into.data(), into.size(), MSG_WAITALL) ==
           static_cast<ssize_t>(into.size());
  }
  void Send(const std::string& frame) const {
    send(connection_, frame.data(), frame.size(), MSG_NOSIGNAL);
  }

  const int listener_;
  std::string target_;
  std::atomic<int> connection_{-1};
  std::atomic<int> calls_{0};
  std::thread thread_;
};

// Debian's gRPC resets streams so when its quota of memory is used up.
TEST(ResetTest, AServerWithoutMemoryForTheConnectionShedsAndIsAskedAgain) {
  ResettingPeer peer;
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Client::Connect({.target = peer.target(),
                                        .retry = {.max_attempts = 3, .initial_backoff = Millis(1)},
                                        .connections = 1}));
  const std::string_view keys[] = {"k"};
  EXPECT_THAT(client->blocks().Match({.space = "s", .keys = keys}).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no memory left")));
  EXPECT_GE(peer.calls(), 3);
}

}  // namespace
}  // namespace mnemo::client

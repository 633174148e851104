#include "client/cpp/lane_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

using stream::FrameType;

// The daemon's end of a stream: takes frames when a test says so.
class Peer {
 public:
  explicit Peer(int socket) : socket_(socket) {}
  // The next request.
  stream::Header Take() {
    for (;;) {
      if (const auto frame = reader_.Next()) return frame->header;
      const MutableByteView room = reader_.Room();
      const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), 0);
      if (got <= 0) return {.type = FrameType::kClose};
      reader_.Filled(static_cast<size_t>(got));
    }
  }
  void Answer(FrameType type, uint64_t id, const std::string& body) {
    const std::string frame = stream::MakeFrame({.type = type, .answer = true, .id = id}, body);
    ASSERT_EQ(::send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(frame.size()));
  }

 private:
  const Descriptor socket_;  // blocks
  stream::FrameReader reader_{stream::End::kServer};
};

class LaneStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer_ = std::make_unique<Peer>(ends[0]);
    Descriptor own(ends[1]);
    own_ = own.get();
    ASSERT_EQ(::fcntl(own.get(), F_SETFL, O_NONBLOCK), 0);
    std::thread greets([&] {
      const stream::Header hello = peer_->Take();
      peer_->Answer(FrameType::kHello, hello.id, Encode(stream::Welcome{.max_requests = 64}));
    });
    auto stream = LaneStream::Open(stream::StreamSocket::MakePlain(std::move(own)), {}, Nanos(0),
                                   Never(), nullptr);
    greets.join();
    ASSERT_OK(stream);
    stream_ = *std::move(stream);
  }

  static LaneTime Never() { return steady_clock::now() + hours(1); }
  // A request that no socket takes at once.
  static std::string Large() {
    stream::TouchRequest touch{.scope = {.space = 1}};
    touch.keys.keys.assign(60'000, std::string_view("a key of a block"));
    return stream::Encode(touch);
  }
  static std::string Small() { return stream::Encode(stream::TouchRequest{}); }
  // Returns once the socket takes no more: somebody's write stands still.
  void AwaitFull() {
    pollfd waits{.fd = own_, .events = POLLOUT, .revents = 0};
    while (::poll(&waits, 1, 0) > 0) std::this_thread::yield();
  }
  absl::Status Touch(const std::string& body, LaneTime deadline, CancelSource* cancel = nullptr) {
    return stream_->Call(FrameType::kTouch, body, -1, deadline, cancel).status();
  }
  // Takes and answers so many requests.
  void Serve(int count) {
    for (int i = 0; i < count; ++i) {
      const stream::Header request = peer_->Take();
      peer_->Answer(request.type, request.id, Encode(stream::TouchAnswer{.found = 1}));
    }
  }

  std::unique_ptr<Peer> peer_;
  int own_ = -1;
  std::unique_ptr<LaneStream> stream_;
};

TEST_F(LaneStreamTest, ACallKeepsItsDeadlineWhileTheWriteOfAnotherStandsStill) {
  auto first = std::async(std::launch::async, [&] { return Touch(Large(), Never()); });
  AwaitFull();
  EXPECT_THAT(Touch(Small(), steady_clock::now() + milliseconds(10)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("what came before")));
  EXPECT_FALSE(stream_->lost());
  // Nothing of it was sent: the stream goes on.
  Serve(1);
  EXPECT_OK(first.get());
  auto next = std::async(std::launch::async, [&] { return Touch(Small(), Never()); });
  Serve(1);
  EXPECT_OK(next.get());
}

TEST_F(LaneStreamTest, ACallIsCancelledWhileTheWriteOfAnotherStandsStill) {
  auto first = std::async(std::launch::async, [&] { return Touch(Large(), Never()); });
  AwaitFull();
  CancelSource cancel;
  auto second = std::async(std::launch::async, [&] { return Touch(Small(), Never(), &cancel); });
  cancel.Cancel();
  EXPECT_THAT(second.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("cancelled")));
  EXPECT_FALSE(stream_->lost());
  Serve(1);
  EXPECT_OK(first.get());
}

// Half a frame cannot be taken back: the stream is given up, but soon.
TEST_F(LaneStreamTest, AWriteThatStandsStillIsCancelledAndLosesTheStream) {
  CancelSource cancel;
  auto first = std::async(std::launch::async, [&] { return Touch(Large(), Never(), &cancel); });
  AwaitFull();
  auto second = std::async(std::launch::async, [&] { return Touch(Small(), Never()); });
  cancel.Cancel();
  EXPECT_THAT(first.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("cancelled")));
  EXPECT_THAT(second.get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("ended")));
  EXPECT_TRUE(stream_->lost());
}

}  // namespace
}  // namespace mnemo::client

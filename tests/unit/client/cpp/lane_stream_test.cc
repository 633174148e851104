#include "client/cpp/lane_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/stream_peer.h"

namespace mnemo::client {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

using stream::FrameType;

class LaneStreamTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(64); }
  void Open(uint32_t max_requests) {
    stream_.reset();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer_ = std::make_unique<Peer>(ends[0]);
    Descriptor own(ends[1]);
    own_ = own.get();
    ASSERT_EQ(::fcntl(own.get(), F_SETFL, O_NONBLOCK), 0);
    std::thread greets([&] { peer_->Greet(max_requests); });
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

// The daemon would end the stream at the first request too many.
TEST_F(LaneStreamTest, NoMoreCallsAreUnderWayThanTheDaemonTakes) {
  constexpr size_t kCalls = 80;
  std::vector<std::future<absl::Status>> calls;
  for (size_t i = 0; i < kCalls; ++i) {
    calls.push_back(std::async(std::launch::async, [&] { return Touch(Small(), Never()); }));
  }
  std::deque<stream::Header> under_way;
  for (size_t answered = 0; answered < kCalls; ++answered) {
    while (under_way.size() < std::min<size_t>(64, kCalls - answered)) {
      under_way.push_back(peer_->Take());
    }
    if (kCalls - answered >= 64) {
      EXPECT_FALSE(peer_->HasMore());
      EXPECT_TRUE(stream_->full());
    }
    peer_->Answer(FrameType::kTouch, under_way.front().id, Encode(stream::TouchAnswer{}));
    under_way.pop_front();
  }
  for (std::future<absl::Status>& call : calls) EXPECT_OK(call.get());
  EXPECT_FALSE(stream_->full());
}

TEST_F(LaneStreamTest, ACallThatWaitsForTheEndOfAnotherKeepsItsDeadlineAndIsCancelled) {
  ASSERT_NO_FATAL_FAILURE(Open(1));
  auto first = std::async(std::launch::async, [&] { return Touch(Small(), Never()); });
  const stream::Header request = peer_->Take();
  EXPECT_THAT(Touch(Small(), steady_clock::now() + milliseconds(10)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("too many calls")));
  CancelSource cancel;
  auto second = std::async(std::launch::async, [&] { return Touch(Small(), Never(), &cancel); });
  cancel.Cancel();
  EXPECT_THAT(second.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("cancelled")));
  // Neither was sent, and the stream goes on.
  EXPECT_FALSE(peer_->HasMore());
  peer_->Answer(FrameType::kTouch, request.id, Encode(stream::TouchAnswer{}));
  EXPECT_OK(first.get());
  auto next = std::async(std::launch::async, [&] { return Touch(Small(), Never()); });
  Serve(1);
  EXPECT_OK(next.get());
}

TEST_F(LaneStreamTest, WhoWaitsForAnothersRegistrationKeepsItsOwnDeadlineAndCancellation) {
  auto first = std::async(std::launch::async,
                          [&] { return stream_->RegionOf(1, -1, 4096, Never(), nullptr); });
  const stream::Header asked = peer_->Take();
  ASSERT_EQ(asked.type, FrameType::kRegister);
  EXPECT_THAT(
      stream_->RegionOf(1, -1, 4096, steady_clock::now() + milliseconds(5), nullptr).status(),
      StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("register")));
  CancelSource cancel;
  auto second = std::async(std::launch::async,
                           [&] { return stream_->RegionOf(1, -1, 4096, Never(), &cancel); });
  cancel.Cancel();
  EXPECT_THAT(second.get().status(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  peer_->Answer(FrameType::kRegister, asked.id,
                Encode(stream::RegisterAnswer{.region = 7, .form = 1}));
  ASSERT_OK_AND_ASSIGN(const uint32_t region, first.get());
  EXPECT_EQ(region, 7u);
}

}  // namespace
}  // namespace mnemo::client

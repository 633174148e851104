#include "client/cpp/lane.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/stream_peer.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

using std::chrono::hours;
using std::chrono::seconds;

constexpr std::string_view kKey = "k";

class LaneTest : public ::testing::Test {
 protected:
  std::unique_ptr<Lane> Make(AskForLane ask, const ClientOptions& options = {}) {
    return std::make_unique<Lane>(options, std::move(ask), calibrations_,
                                  [](const SpaceRef&, const std::set<uint32_t>&, LaneTime,
                                     CancelSource*) { return CalibrationFailures(); });
  }
  static Lane::Outcome<MatchResult> Match(Lane& lane, const CallOptions& options) {
    return lane.Match({.space = "s", .keys = {&kKey, 1}}, options);
  }
  Lane::Outcome<GetResult> Get(Lane& lane, const CallOptions& options) {
    const Destination to{.memory = memory_};
    return lane.Get({.space = "s", .keys = {&kKey, 1}, .destinations = {&to, 1}}, options);
  }

  CalibrationCache calibrations_;
  std::vector<uint8_t> memory_ = std::vector<uint8_t>(4096);
};

TEST_F(LaneTest, AClientThatIsToUseTlsSendsNothingInPlainText) {
  // Nobody listens there: who goes on finds that out.
  const auto lane = Make(
      [](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
        return LaneAddress{.tcp_address = "127.0.0.1:1", .ticket = "secret"};
      },
      {.tls = TlsOptions()});
  const auto answer = Match(*lane, {.plane = PlaneChoice::kBulk});
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(answer->status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("plain")));
}

TEST_F(LaneTest, CallsThatCanGoAnotherWayDoNotWaitForTheOneThatOpensTheStream) {
  std::promise<void> asked;
  std::promise<void> answer;
  std::atomic<int> asks = 0;
  const auto lane = Make([&](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
    ++asks;
    asked.set_value();
    answer.get_future().wait();
    return absl::UnavailableError("not now");
  });
  auto first = std::async(std::launch::async, [&] { return Get(*lane, {.timeout = hours(1)}); });
  asked.get_future().wait();
  // Each would wait for two seconds.
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(Get(*lane, {.timeout = hours(1)}).has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(60));
  answer.set_value();
  EXPECT_FALSE(first.get().has_value());
  EXPECT_EQ(asks, 1);
}

TEST_F(LaneTest, ACallThatWaitsForTheOneThatOpensTheStreamKeepsItsOwnDeadlineAndCancellation) {
  std::promise<void> asked;
  std::promise<void> answer;
  const auto lane = Make(
      [&](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
        asked.set_value();
        answer.get_future().wait();
        return absl::UnavailableError("not now");
      },
      {.connections = 1});
  const CallOptions bulk{.timeout = hours(1), .plane = PlaneChoice::kBulk};
  auto first = std::async(std::launch::async, [&] { return Match(*lane, bulk)->status(); });
  asked.get_future().wait();
  CallOptions late = bulk;
  late.timeout = Millis(5);
  EXPECT_THAT(Match(*lane, late)->status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  // Before it waits, or while it does.
  for (int i = 0; i < 50; ++i) {
    CancelSource cancel;
    CallOptions options = bulk;
    options.cancel = &cancel;
    std::promise<void> begins;
    auto second = std::async(std::launch::async, [&] {
      begins.set_value();
      return Match(*lane, options)->status();
    });
    begins.get_future().wait();
    for (int turns = 0; turns < i; ++turns) std::this_thread::yield();
    cancel.Cancel();
    EXPECT_THAT(second.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  }
  answer.set_value();
  EXPECT_THAT(first.get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("not now")));
}

TEST_F(LaneTest, TheShortDeadlineOfOneCallIsNotThatOfOthers) {
  const auto lane = Make([](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
    return absl::DeadlineExceededError("the deadline has passed");
  });
  const CallOptions bulk{.timeout = hours(1), .plane = PlaneChoice::kBulk};
  EXPECT_THAT(Match(*lane, bulk)->status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("passed")));
  EXPECT_THAT(Match(*lane, bulk)->status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("passed")));
}

TEST_F(LaneTest, AnAnswerThatSaysMoreThanCameIsRefused) {
  const Descriptor listens(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listens.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listens.get(), 1), 0);
  ASSERT_EQ(::getsockname(listens.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  // All of it, too little, nothing.
  const std::vector<size_t> sent = {memory_.size(), memory_.size() - 1, 0};
  auto daemon = std::async(std::launch::async, [&] {
    Peer peer(::accept(listens.get(), nullptr, nullptr));
    peer.Greet(64);
    for (const size_t bytes : sent) {
      const stream::Header get = peer.Take();
      if (bytes > 0) {
        peer.Send(
            stream::MakeDataFrame({.type = stream::FrameType::kData, .answer = true, .id = get.id},
                                  Encode(stream::Data{}), static_cast<uint32_t>(bytes)) +
            std::string(bytes, 'x'));
      }
      stream::GetAnswer answer;
      answer.parts.push_back({.size = memory_.size(), .bytes = memory_.size(), .level = 1});
      peer.Answer(stream::FrameType::kGet, get.id, Encode(answer));
    }
    peer.Take();  // until the client ends the stream
  });
  const auto lane = Make(
      [&](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
        return LaneAddress{.tcp_address = "127.0.0.1:" + std::to_string(ntohs(address.sin_port))};
      },
      {.target = "127.0.0.1:1"});
  for (const size_t bytes : sent) {
    const auto got = Get(*lane, {.plane = PlaneChoice::kBulk});
    ASSERT_TRUE(got.has_value());
    ASSERT_OK(*got);
    EXPECT_EQ((*got)->parts[0].status.code(),
              bytes == memory_.size() ? absl::StatusCode::kOk : absl::StatusCode::kInternal);
  }
}

TEST(OpeningPauseTest, GrowsForCallsThatCanGoAnotherWayAndEndsWithSuccess) {
  const LaneTime now{hours(1)};
  OpeningPause pause;
  EXPECT_OK(pause.Check(now, false));
  for (const int expected : {1, 2, 4, 8, 16, 30, 30}) {
    pause.Failed(now, absl::UnavailableError("away"));
    EXPECT_THAT(pause.Check(now + seconds(expected) - std::chrono::milliseconds(1), false),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("away")));
    EXPECT_OK(pause.Check(now + seconds(expected), false));
    EXPECT_THAT(pause.Check(now, true),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("away")));
    EXPECT_OK(pause.Check(now + seconds(1), true));
  }
  pause.Failed(now, absl::UnimplementedError("none"));
  EXPECT_THAT(pause.Check(now + seconds(59), true),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("none")));
  pause.Succeeded();
  EXPECT_OK(pause.Check(now, false));
  pause.Failed(now, absl::UnavailableError("away"));
  EXPECT_OK(pause.Check(now + seconds(1), false));
}

}  // namespace
}  // namespace mnemo::client

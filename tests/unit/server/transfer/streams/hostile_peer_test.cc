// Peers that lie, stall, die and flood: each ends its own stream and nobody else's.
#include <map>
#include <thread>
#include <utility>

#include "tests/unit/server/transfer/streams/stream_fixture.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;
using stream::MakeFrame;
using ::testing::HasSubstr;

// A stream of somebody who does nothing wrong: it must notice nothing.
class HostilePeerTest : public StreamTest {
 protected:
  HostilePeerTest() { OpenSpace("opaque"); }
  ~HostilePeerTest() override { ExpectServed(bystander_); }

  // `peer` is answered still.
  static void ExpectServed(StreamPeer& peer) {
    stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
    touch.keys.keys = {"k"};
    stream::TouchAnswer touched;
    EXPECT_OK(peer.Call(FrameType::kTouch, Encode(touch), touched));
  }

  static std::string Match(uint64_t id, const std::string& key = "k") {
    stream::MatchRequest match{.scope = {.space_name = "opaque"}};
    match.keys.keys = {key};
    return MakeFrame({.type = FrameType::kMatch, .id = id}, Encode(match));
  }
  // The stall limit passes.
  void PassTime() {
    clock_.Advance(GateOptions{}.stall_limit);
    gate_->watchdog().Scan();
  }

  StreamPeer bystander_ = Greeted();
};

TEST_F(HostilePeerTest, EachBadFrameEndsItsStreamWithItsReason) {
  const auto changed = [](size_t at, uint8_t value, bool reseal) {
    std::string frame = Match(1);
    frame[at] = static_cast<char>(value);
    if (reseal) StoreLittle(frame.data() + 28, stream::Checksum32(AsBytes(frame).first(28)));
    return frame;
  };
  std::string damaged = Match(1);
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  const std::string hello = MakeFrame({.type = FrameType::kHello}, Encode(stream::Hello{}));
  const std::string no_descriptor =
      MakeFrame({.type = FrameType::kRegister}, Encode(stream::RegisterRequest{.bytes = 4096}));
  const std::pair<CloseReason, std::string> cases[] = {
      {CloseReason::kMagic, changed(0, 'X', true)},
      {CloseReason::kVersion, changed(4, 9, true)},
      {CloseReason::kChecksum, changed(9, 1, false)},
      {CloseReason::kChecksum, damaged},
      {CloseReason::kType, changed(5, 15, true)},
      {CloseReason::kLength, changed(11, 1, true)},
      {CloseReason::kBody, MakeFrame({.type = FrameType::kMatch}, "not a match")},
      {CloseReason::kOrder, hello},
      {CloseReason::kOrder, no_descriptor},
  };
  std::map<CloseReason, uint64_t> expected;
  for (const auto& [reason, bytes] : cases) {
    StreamPeer peer = Greeted();
    peer.Write(bytes);
    EXPECT_EQ(peer.ReadToEnd(), reason) << CloseReasonLabel(reason);
    ++expected[reason];
  }
  for (const auto& [reason, count] : expected) EXPECT_EQ(streams_.closed(reason), count);
}

TEST_F(HostilePeerTest, NothingComesBeforeHello) {
  StreamPeer early = NewPeer();
  early.Write(Match(1));
  EXPECT_EQ(early.ReadToEnd(), CloseReason::kOrder);
  // Not even memory for a long frame.
  StreamPeer announcing = NewPeer();
  std::string frame = Match(1);
  StoreLittle(frame.data() + 8, stream::kMaxBodyBytes);
  StoreLittle(frame.data() + 28, stream::Checksum32(AsBytes(frame).first(28)));
  announcing.Write(frame.substr(0, stream::kHeaderBytes));
  EXPECT_EQ(announcing.ReadToEnd(), CloseReason::kOrder);
}

TEST_F(HostilePeerTest, DescriptorsThatBelongToNothingEndTheStream) {
  SharedMemory memory(4096);
  StreamPeer peer = Greeted();
  peer.Write(Match(1), memory.fd());
  EXPECT_EQ(peer.ReadToEnd(), CloseReason::kOrder);
}

TEST_F(HostilePeerTest, HalfOpenAndTricklingPeersAreCut) {
  StreamPeer half_open = NewPeer();
  StreamPeer trickling = Greeted();
  StreamPeer idle = Greeted();
  const std::string frame = Match(1);
  trickling.Write(frame.substr(0, 5));
  // Both have been seen before time passes.
  while (gate_->watchdog().waiting().for_input < 2) std::this_thread::yield();
  clock_.Advance(GateOptions{}.stall_limit / 2);
  trickling.Write(frame.substr(5, 5));
  // What it wrote has been read: the loop came to others behind it.
  ExpectServed(idle);
  ExpectServed(idle);
  // From now on there is a full limit only since they began.
  clock_.Advance(GateOptions{}.stall_limit / 2 + std::chrono::seconds(1));
  gate_->watchdog().Scan();
  streams_.AwaitClosed(CloseReason::kStalled, 1);
  ExpectServed(idle);
  ExpectServed(idle);
  ASSERT_EQ(streams_.closed(CloseReason::kStalled), 2u);
  EXPECT_EQ(half_open.ReadToEnd(), CloseReason::kStalled);
  EXPECT_EQ(trickling.ReadToEnd(), CloseReason::kStalled);
  // Who has begun nothing may take its time.
  ExpectServed(idle);
}

TEST_F(HostilePeerTest, WhoNeverReadsIsHeldBackAndCut) {
  StreamPeer peer = Greeted();
  // Until the daemon reads no more of it either: its answers fill one socket and its
  // requests the other.
  const std::string requests = [] {
    std::string all;
    for (uint64_t id = 1; id <= 1000; ++id) all += Match(id);
    return all;
  }();
  std::thread flood([&] {
    while (peer.Write(requests)) {
    }
  });
  while (gate_->watchdog().waiting().for_output == 0) std::this_thread::yield();
  PassTime();
  streams_.AwaitClosed(CloseReason::kStalled, 1);
  flood.join();
}

TEST_F(HostilePeerTest, AnIdThatIsUnderWayAndTooManyRequestsEndTheStream) {
  HoldThreads();
  stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
  touch.keys.keys = {"k"};
  const auto frame = [&](uint64_t id) {
    return MakeFrame({.type = FrameType::kTouch, .id = id}, Encode(touch));
  };
  StreamPeer twice = Greeted();
  twice.Write(frame(1) + frame(1));
  EXPECT_EQ(twice.ReadToEnd(), CloseReason::kOrder);
  StreamPeer many = Greeted();
  for (uint64_t id = 0; id <= StreamConnection::kMaxRequests; ++id) many.Write(frame(id));
  EXPECT_EQ(many.ReadToEnd(), CloseReason::kOverload);

  // One that is cancelled is answered all the same.
  StreamPeer cancelling = Greeted();
  cancelling.Write(frame(7));
  cancelling.SendCancel(7);
  // Behind the cancellation, on the loop's thread.
  cancelling.Write(Match(8));
  auto answer = cancelling.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.id, 8u);
  ReleaseThreads();
  answer = cancelling.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.id, 7u);
  absl::Status status;
  stream::TouchAnswer touched;
  ASSERT_TRUE(stream::Decode(AsBytes(answer->body), status, touched));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("cancelled")));
}

TEST_F(HostilePeerTest, PeersThatDieInTheMiddleLeaveNothingBehind) {
  SharedMemory memory(kMiB);
  const uint64_t streams = 200;
  for (uint64_t i = 0; i < streams; ++i) {
    // Those whose end was not noticed yet still have their registration, of which there are 64.
    while (server_->connections() > 20) std::this_thread::yield();
    StreamPeer peer = Greeted();
    const auto region = peer.Register(memory);
    ASSERT_OK(region);
    // In the middle of a frame, or of a put, or of a get.
    const std::string key = std::to_string(i % 8);
    const std::string put =
        MakeFrame({.type = FrameType::kPut, .id = 90}, Encode(PutOf(*region, 0, key, kMiB)));
    const std::string get =
        MakeFrame({.type = FrameType::kGet, .id = 91}, Encode(GetOf(*region, 0, key, kMiB)));
    peer.Write(put + get + put.substr(0, i % put.size()));
  }
  streams_.AwaitClosed(CloseReason::kLost, streams);
  while (server_->connections() > 1) std::this_thread::yield();
  EXPECT_EQ(gate_->bytes().used(), 0u);
  const LevelStats l1 = store_->Levels()[0].stats;
  EXPECT_LE(l1.live_bytes, 8 * (kMiB + 4096));
}

}  // namespace
}  // namespace mnemo

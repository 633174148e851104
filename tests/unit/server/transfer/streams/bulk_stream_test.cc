// Streams over TCP, whose payload travels in them.
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <thread>
#include <vector>

#include "storage/base/units.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/streams/bulk_peer.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST_F(BulkStreamTest, PutsAndGetsPayloadOfAnySize) {
  StreamPeer peer = Known();
  uint32_t seed = 0;
  // Within a frame, across frames, and beyond what is credited at once.
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{kMiB}, size_t{kMiB} + 1,
                            size_t{8 * kMiB} + 3, size_t{20 * kMiB}}) {
    const std::string key = std::to_string(size);
    const std::string payload = PayloadOf(size, ++seed);
    const auto stored = Put(peer, key, payload);
    ASSERT_OK(stored);
    EXPECT_OK(stored->status);
    EXPECT_EQ(stored->outcome, 1);
    EXPECT_EQ(stored->digest, DigestOf(payload));
    const auto got = Get(peer, key, size);
    ASSERT_OK(got);
    EXPECT_TRUE(*got == payload) << size;
  }
}

TEST_F(BulkStreamTest, OnlyWhatIsWantedTravels) {
  StreamPeer peer = Known();
  const std::string payload = PayloadOf(3000, 1);
  ASSERT_OK(Put(peer, "there", payload));
  stream::PutRequest put{.scope = {.space_name = "opaque"}};
  put.parts = {
      {.key = "a", .size = 3000}, {.key = "there", .size = 3000}, {.key = "b", .size = 10}};
  put.places = {{.first = 0, .count = 1}, {.first = 1, .count = 1}, {.first = 2, .count = 1}};
  put.slices = {{.length = 3000}, {.length = 3000}, {.length = 10}};
  const uint64_t id = peer.Send(FrameType::kPut, Encode(put));
  const auto credit = ReadCredit(peer, id);
  ASSERT_TRUE(credit);
  EXPECT_THAT(credit->wanted, ElementsAre(0, 2));
  EXPECT_EQ(credit->bytes, 3010u);
  peer.Write(DataFrame(id, 0, 0, payload) + DataFrame(id, 2, 0, "0123456789"));
  stream::PutAnswer stored;
  ASSERT_OK(ReadAnswer(peer, id, stored));
  ASSERT_EQ(stored.parts.size(), 3u);
  EXPECT_EQ(stored.parts[0].outcome, 1);
  EXPECT_EQ(stored.parts[1].outcome, 2);
  EXPECT_EQ(stored.parts[2].outcome, 1);
  // Nothing is credited where nothing is wanted.
  stream::PutAnswer again;
  EXPECT_OK(peer.Call(FrameType::kPut, Encode(put), again));
  EXPECT_THAT(again.parts, Each(Field(&stream::PutAnswer::Part::outcome, 2)));
}

TEST_F(BulkStreamTest, APartThatCannotBeHadSendsNothing) {
  StreamPeer peer = Known();
  ASSERT_OK(Put(peer, "a", PayloadOf(5000, 1)));
  ASSERT_OK(Put(peer, "b", PayloadOf(6000, 2)));
  stream::GetRequest get{.scope = {.space_name = "opaque"}};
  get.keys.keys = {"a", "none", "b", "a"};
  get.slices = {{.length = 5000}, {.length = 5000}, {.length = 5999}, {.length = 8000}};
  for (uint32_t i = 0; i < 4; ++i) get.places.push_back({.first = i, .count = 1});
  const uint64_t id = peer.Send(FrameType::kGet, Encode(get));
  std::vector<std::string> payloads(4);
  stream::GetAnswer got;
  ASSERT_OK(ReadAnswer(peer, id, got, &payloads));
  EXPECT_EQ(payloads[0], PayloadOf(5000, 1));
  EXPECT_THAT(got.parts[1].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  EXPECT_EQ(payloads[1], "");
  EXPECT_THAT(got.parts[2].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places[2]")));
  EXPECT_EQ(payloads[2], "");
  EXPECT_OK(got.parts[3].status);
  EXPECT_EQ(payloads[3], PayloadOf(5000, 1));
}

class DamagedPartTest : public BulkStreamTest {
 protected:
  static constexpr size_t kSize = 4 * kMiB + 7;
  static constexpr size_t kDamaged = 3 * kMiB + 1;

  // A part whose copy in L1 has decayed behind its first pieces.
  void PutDamaged(StreamPeer& peer, Durability durability) {
    stream::PutRequest put = PutOf(stream::kInStream, 0, "k", kSize);
    put.durability = static_cast<uint8_t>(durability);
    const uint64_t id = peer.Send(FrameType::kPut, Encode(put));
    ASSERT_TRUE(SendAll(peer, id, payload_));
    stream::PutAnswer stored;
    ASSERT_OK(ReadAnswer(peer, id, stored));
    ASSERT_EQ(stored.parts.at(0).outcome, 1);
    CallContext call;
    const auto session =
        blocks_->Get(call, {.space = std::string("opaque"), .keys = {.keys = key_}});
    ASSERT_OK(session);
    ASSERT_OK((*session)->Next());
    const auto data = (*session)->Next();
    ASSERT_OK(data);
    const PinnedBytes byte = (*data)->bytes.Slice(kDamaged, 1);
    const_cast<uint8_t*>(byte.pieces()[0].data())[0] ^= 1;
  }

  const std::vector<std::string_view> key_ = {"k"};
  const std::string payload_ = PayloadOf(kSize, 1);
};

TEST_F(DamagedPartTest, WhatWasSentGoesOnFromAnotherCopy) {
  StreamPeer peer = Known();
  ASSERT_NO_FATAL_FAILURE(PutDamaged(peer, Durability::kSync));
  const auto got = Get(peer, "k", kSize);
  ASSERT_OK(got);
  EXPECT_TRUE(*got == payload_);
  EXPECT_EQ(store_->counters().corrupt_l1, 1u);
}

TEST_F(DamagedPartTest, NoDamagedByteIsSent) {
  StreamPeer peer = Known();
  ASSERT_NO_FATAL_FAILURE(PutDamaged(peer, Durability::kCache));
  const uint64_t id = BeginGet(peer, "k", kSize);
  std::vector<std::string> payloads(1);
  stream::GetAnswer got;
  ASSERT_OK(ReadAnswer(peer, id, got, &payloads));
  EXPECT_THAT(got.parts.at(0).status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  // The pieces before it have left.
  EXPECT_GT(payloads[0].size(), kDamaged - kMiB);
  EXPECT_LE(payloads[0].size(), kDamaged);
  EXPECT_TRUE(payload_.starts_with(payloads[0]));
  // The stream goes on.
  ASSERT_OK(Put(peer, "k", payload_));
  const auto again = Get(peer, "k", kSize);
  ASSERT_OK(again);
  EXPECT_TRUE(*again == payload_);
}

TEST_F(BulkStreamTest, MemoryIsOfTheSameHostOnly) {
  StreamPeer peer = Unknown();
  const auto welcome = peer.Hello();
  ASSERT_OK(welcome);
  EXPECT_EQ(welcome->max_regions, 0u);
  for (const auto kind :
       {stream::RegisterRequest::Kind::kFile, stream::RegisterRequest::Kind::kProcess,
        stream::RegisterRequest::Kind::kStaging}) {
    stream::RegisterAnswer registered;
    EXPECT_THAT(peer.Call(FrameType::kRegister,
                          Encode(stream::RegisterRequest{.kind = kind, .bytes = 4096}), registered),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("UNIX socket")));
  }
  ASSERT_OK(Put(peer, "k", "0123456789"));
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(GetOf(1, 0, "k", 10)), got));
  EXPECT_THAT(got.parts[0].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places[0].region")));
  stream::PutAnswer stored;
  EXPECT_THAT(peer.Call(FrameType::kPut, Encode(PutOf(1, 0, "new", 10)), stored),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places[0].region")));
}

TEST_F(BulkStreamTest, ASecondPutWaitsForTheFirst) {
  StreamPeer peer = Known();
  const std::string payload = PayloadOf(2 * kMiB, 1);
  const uint64_t first = BeginPut(peer, "first", payload.size());
  const uint64_t second = BeginPut(peer, "second", payload.size());
  const uint64_t third = BeginPut(peer, "third", payload.size());
  ASSERT_TRUE(ReadCredit(peer, first));
  // Behind all three, and nothing comes before its answer: the others have no credit.
  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"first"};
  stream::MatchAnswer matched;
  ASSERT_OK(peer.Call(FrameType::kMatch, Encode(match), matched));
  // One that waits can be cancelled, and leaves the others as they are.
  peer.SendCancel(third);
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(peer, third, stored),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    peer.Write(DataFrame(first, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  // In whichever order.
  bool first_stored = false;
  bool second_credited = false;
  while (!first_stored || !second_credited) {
    const auto frame = peer.Read();
    ASSERT_TRUE(frame);
    if (frame->header.id == second) {
      ASSERT_EQ(frame->header.type, FrameType::kCredit);
      second_credited = true;
      continue;
    }
    absl::Status status;
    ASSERT_EQ(frame->header.id, first);
    ASSERT_TRUE(stream::Decode(AsBytes(frame->body), status, stored));
    ASSERT_OK(status);
    first_stored = true;
  }
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    peer.Write(DataFrame(second, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  EXPECT_OK(ReadAnswer(peer, second, stored));
  EXPECT_EQ(stored.parts.at(0).outcome, 1);
  EXPECT_FALSE(Holds("third"));
}

TEST_F(BulkStreamTest, AnIdThatIsUsedAgainAtOnceHasOneTurn) {
  StreamPeer peer = Known();
  const std::string payload = PayloadOf(kMiB, 1);
  const uint64_t first = BeginPut(peer, "first", payload.size());
  ASSERT_TRUE(ReadCredit(peer, first));
  const uint64_t again = first + 100;
  const uint64_t last = first + 200;
  const auto put = [&](uint64_t id, std::string_view key) {
    return stream::MakeFrame({.type = FrameType::kPut, .id = id},
                             Encode(PutOf(stream::kInStream, 0, key, payload.size())));
  };
  const auto cancel = [](uint64_t id) {
    return stream::MakeFrame({.type = FrameType::kCancel, .id = id}, "");
  };
  // One write, so that all is handled before the turns that end are passed on.
  peer.Write(put(again, "given up") + cancel(first) + cancel(again) + put(again, "again") +
             put(last, "last"));
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(peer, first, stored),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  EXPECT_THAT(ReadAnswer(peer, again, stored),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  ASSERT_TRUE(ReadCredit(peer, again));
  // Nothing comes for the last before that one has ended.
  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"first"};
  stream::MatchAnswer matched;
  ASSERT_OK(peer.Call(FrameType::kMatch, Encode(match), matched));
  peer.Write(DataFrame(again, 0, 0, payload));
  // The answers, and the credit of the last, in whichever order.
  std::vector<uint64_t> answered;
  while (answered.size() < 2) {
    const auto frame = peer.Read();
    ASSERT_TRUE(frame);
    if (frame->header.type == FrameType::kCredit) {
      ASSERT_EQ(frame->header.id, last);
      peer.Write(DataFrame(last, 0, 0, payload));
      continue;
    }
    absl::Status status;
    ASSERT_TRUE(stream::Decode(AsBytes(frame->body), status, stored));
    ASSERT_OK(status);
    EXPECT_EQ(stored.parts.at(0).outcome, 1);
    answered.push_back(frame->header.id);
  }
  EXPECT_THAT(answered, UnorderedElementsAre(again, last));
  EXPECT_TRUE(Holds("again"));
  EXPECT_TRUE(Holds("last"));
  EXPECT_FALSE(Holds("given up"));
  EXPECT_EQ(gate_->bytes().used(), 0u);
}

TEST_F(BulkStreamTest, ACancelledPutLeavesTheStreamGood) {
  StreamPeer peer = Known();
  const uint64_t id = BeginPut(peer, "k", 4 * kMiB);
  ASSERT_TRUE(ReadCredit(peer, id));
  peer.Write(DataFrame(id, 0, 0, PayloadOf(kMiB, 1)));
  peer.SendCancel(id);
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(peer, id, stored), StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  EXPECT_FALSE(Holds("k"));
  EXPECT_EQ(gate_->bytes().used(), 0u);
  const std::string payload = PayloadOf(4 * kMiB, 2);
  EXPECT_OK(Put(peer, "k", payload));
  EXPECT_OK(Get(peer, "k", payload.size()));
}

TEST_F(BulkStreamTest, APutThatIsTooLateIsTakenOffTheStream) {
  StreamPeer peer = Known();
  const std::string payload = PayloadOf(2 * kMiB, 1);
  const uint64_t id = BeginPut(peer, "k", payload.size(), /*timeout_ms=*/1000);
  ASSERT_TRUE(ReadCredit(peer, id));
  clock_.Advance(std::chrono::seconds(2));
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    peer.Write(DataFrame(id, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(peer, id, stored),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  EXPECT_FALSE(Holds("k"));
  EXPECT_OK(Put(peer, "k", payload));
}

TEST_F(BulkStreamTest, OtherRequestsGoOnBesidePayload) {
  StreamPeer peer = Known();
  ASSERT_OK(Put(peer, "there", "0123456789"));
  const uint64_t id = BeginPut(peer, "k", 2 * kMiB);
  ASSERT_TRUE(ReadCredit(peer, id));
  const std::string payload = PayloadOf(2 * kMiB, 1);
  peer.Write(DataFrame(id, 0, 0, std::string_view(payload).substr(0, kMiB)));
  const auto got = Get(peer, "there", 10);
  ASSERT_OK(got);
  EXPECT_EQ(*got, "0123456789");
  peer.Write(DataFrame(id, 0, kMiB, std::string_view(payload).substr(kMiB)));
  stream::PutAnswer stored;
  EXPECT_OK(ReadAnswer(peer, id, stored));
}

TEST_F(BulkStreamTest, PayloadThatMayNotComeEndsItsStream) {
  const std::string mega = PayloadOf(kMiB, 1);
  const auto reason_of = [&](auto&& misbehave) {
    StreamPeer peer = Known();
    misbehave(peer);
    return peer.ReadToEnd();
  };
  EXPECT_EQ(reason_of([&](StreamPeer& peer) { peer.Write(DataFrame(7, 0, 0, "x")); }),
            CloseReason::kOrder)
      << "for nothing";
  EXPECT_EQ(reason_of([&](StreamPeer& peer) {
              const uint64_t id = BeginGet(peer, "k", 10);
              peer.Write(DataFrame(id, 0, 0, "x"));
            }),
            CloseReason::kOrder)
      << "for a GET";
  EXPECT_EQ(reason_of([&](StreamPeer& peer) {
              const uint64_t id = BeginPut(peer, "k", 100);
              ReadCredit(peer, id);
              peer.Write(DataFrame(id, 0, 1, "x"));
            }),
            CloseReason::kOrder)
      << "of another offset";
  EXPECT_EQ(reason_of([&](StreamPeer& peer) {
              const uint64_t id = BeginPut(peer, "k", 100);
              ReadCredit(peer, id);
              peer.Write(DataFrame(id, 1, 0, "x"));
            }),
            CloseReason::kOrder)
      << "of another part";
  EXPECT_EQ(reason_of([&](StreamPeer& peer) {
              const uint64_t id = BeginPut(peer, "k", 100);
              ReadCredit(peer, id);
              peer.Write(DataFrame(id, 0, 0, mega.substr(0, 101)));
            }),
            CloseReason::kOverload)
      << "more than was credited";
  AwaitNoConnections();
  EXPECT_FALSE(Holds("k"));
}

TEST_F(BulkStreamTest, WhoStandsStillInTheMiddleIsCut) {
  StreamPeer silent = Known();
  const uint64_t id = BeginPut(silent, "k", 4 * kMiB);
  ASSERT_TRUE(ReadCredit(silent, id));
  silent.Write(DataFrame(id, 0, 0, PayloadOf(kMiB, 1)));
  // What stands before an answered request has been taken, and counted before the next.
  ASSERT_TRUE(absl::IsNotFound(Get(silent, "none", 10).status()));
  ASSERT_TRUE(absl::IsNotFound(Get(silent, "none", 10).status()));
  // A few bytes, or another request, are no progress of it.
  clock_.Advance(GateOptions{}.stall_limit / 2);
  silent.Write(DataFrame(id, 0, kMiB, "x"));
  ASSERT_TRUE(absl::IsNotFound(Get(silent, "none", 10).status()));
  clock_.Advance(GateOptions{}.stall_limit / 2 + std::chrono::seconds(1));
  gate_->watchdog().Scan();
  EXPECT_EQ(silent.ReadToEnd(), CloseReason::kStalled);
  AwaitNoConnections();
  EXPECT_EQ(streams_.closed(CloseReason::kStalled), 1u);
  EXPECT_FALSE(Holds("k"));
}

TEST_F(BulkStreamTest, WhoDoesNotReadAGetIsCut) {
  StreamPeer writer = Known();
  ASSERT_OK(Put(writer, "k", PayloadOf(20 * kMiB, 1)));
  StreamPeer peer = Known();
  BeginGet(peer, "k", 20 * kMiB);
  while (gate_->watchdog().waiting().for_output == 0) std::this_thread::yield();
  PassUntilStalled(1);
  // The others go on.
  EXPECT_OK(Get(writer, "k", 20 * kMiB));
}

TEST_F(BulkStreamTest, AnIdleStreamOutlivesEveryTimeout) {
  StreamPeer peer = Known();
  ASSERT_OK(Put(peer, "k", "0123456789"));
  // The put may be answered before it is noted that nothing of it is waited for any more.
  ASSERT_OK(Get(peer, "k", 10));
  clock_.Advance(std::chrono::hours(100));
  gate_->watchdog().Scan();
  EXPECT_OK(Get(peer, "k", 10));
}

TEST_F(BulkStreamTest, PeersThatDieInTheMiddleLeaveNothingBehind) {
  StreamPeer writer = Known();
  ASSERT_OK(Put(writer, "there", PayloadOf(8 * kMiB, 1)));
  const uint64_t before = store_->Levels()[0].stats.live_bytes;
  const std::string mega = PayloadOf(kMiB, 2);
  const uint64_t streams = 200;
  for (uint64_t i = 0; i < streams; ++i) {
    // Those whose end was not noticed yet hold what others are to be credited.
    while (server_->connections() > 20) std::this_thread::yield();
    StreamPeer peer = Known();
    const std::string key = "k" + std::to_string(i);
    const uint64_t id = BeginPut(peer, key, 2 * kMiB);
    ASSERT_TRUE(ReadCredit(peer, id));
    const std::string frame = DataFrame(id, 0, 0, mega);
    // In the middle of a frame, mostly; and while payload goes the other way.
    if (i % 2 == 0) BeginGet(peer, "there", 8 * kMiB);
    peer.Write(std::string_view(frame).substr(0, i * 5003 % frame.size()));
    // Half of them by a reset.
    if (i % 4 < 2) {
      const linger now{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(peer.socket(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
  }
  streams_.AwaitClosed(CloseReason::kLost, streams);
  while (server_->connections() > 1) std::this_thread::yield();
  EXPECT_EQ(gate_->bytes().used(), 0u);
  EXPECT_EQ(store_->Levels()[0].stats.live_bytes, before);
  for (uint64_t i = 0; i < streams; ++i) EXPECT_FALSE(Holds("k" + std::to_string(i)));
  EXPECT_OK(Put(writer, "k0", mega));
}

class BulkIdentityTest : public BulkStreamTest {
 protected:
  BulkIdentityTest() : BulkStreamTest({.required = true}) {}
};

TEST_F(BulkIdentityTest, ATicketIsOfItsPlaneAlone) {
  const auto tenant = identity_->CreateTenant("acme");
  ASSERT_OK(tenant);
  OpenSpace("opaque", tenant->id);
  const auto token = identity_->CreateToken(tenant->id, "app", {Role::kWriter});
  ASSERT_OK(token);
  const auto identity = identity_->Resolve({.token = token->text});
  ASSERT_OK(identity);
  const auto hello = [&](std::string_view plane) {
    StreamPeer peer = Unknown();
    const auto ticket = tickets_.Issue(*identity, plane);
    return peer.Hello({.ticket = ticket->ticket}).status();
  };
  EXPECT_THAT(hello(kFastPlane), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
  EXPECT_OK(hello(kBulkPlane));
  StreamPeer nobody = Unknown();
  EXPECT_THAT(nobody.Hello().status(), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
  EXPECT_EQ(nobody.ReadToEnd(), CloseReason::kTicket);
}

class BulkBudgetTest : public BulkStreamTest {
 protected:
  BulkBudgetTest() : BulkStreamTest({}, {.inflight_bytes = 9 * kMiB}) {}
};

TEST_F(BulkBudgetTest, CreditAndPayloadStayWithinTheBudget) {
  StreamPeer first = Known();
  StreamPeer second = Known();
  const std::string payload = PayloadOf(8 * kMiB, 1);
  const uint64_t put = BeginPut(first, "a", payload.size());
  ASSERT_TRUE(ReadCredit(first, put));
  // The window of the first leaves no room for another's: it waits, and may be given up.
  const uint64_t waiting = BeginPut(second, "b", payload.size());
  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"k"};
  stream::MatchAnswer matched;
  ASSERT_OK(second.Call(FrameType::kMatch, Encode(match), matched));
  second.SendCancel(waiting);
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(second, waiting, stored),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    first.Write(DataFrame(put, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  ASSERT_OK(ReadAnswer(first, put, stored));
  // Twelve that do not read hold one part each at most, and no more than the budget.
  std::vector<StreamPeer> silent;
  for (int i = 0; i < 12; ++i) {
    silent.push_back(Known());
    BeginGet(silent.back(), "a", payload.size());
  }
  while (gate_->watchdog().waiting().for_output == 0) std::this_thread::yield();
  EXPECT_LE(gate_->bytes().used(), 9 * kMiB);
}

// Who was credited and sends nothing holds up nobody else beyond its deadline.
TEST_F(BulkBudgetTest, APutThatIsTooLateGivesItsWindowBack) {
  StreamPeer first = Known();
  StreamPeer second = Known();
  const std::string payload = PayloadOf(8 * kMiB, 1);
  const uint64_t late = BeginPut(first, "a", payload.size(), /*timeout_ms=*/1000);
  ASSERT_TRUE(ReadCredit(first, late));
  const uint64_t waiting = BeginPut(second, "b", payload.size());
  clock_.Advance(std::chrono::seconds(2));
  pollfd credited{.fd = second.socket(), .events = POLLIN, .revents = 0};
  while (::poll(&credited, 1, 0) == 0) {
    gate_->watchdog().Scan();
    std::this_thread::yield();
  }
  ASSERT_TRUE(ReadCredit(second, waiting));
  EXPECT_LE(gate_->bytes().used(), 9 * kMiB);
  // The stream is good: what it was told it may send is taken, and answered.
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    first.Write(DataFrame(late, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  stream::PutAnswer stored;
  EXPECT_THAT(ReadAnswer(first, late, stored),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  EXPECT_FALSE(Holds("a"));
  for (uint64_t at = 0; at < payload.size(); at += kMiB) {
    second.Write(DataFrame(waiting, 0, at, std::string_view(payload).substr(at, kMiB)));
  }
  ASSERT_OK(ReadAnswer(second, waiting, stored));
  EXPECT_OK(stored.parts[0].status);
}

class BulkPlacesTest : public StreamTest {
 protected:
  BulkPlacesTest() : StreamTest({}, {}, {.tcp_address = "127.0.0.1:0", .max_connections = 2}) {}
};

TEST_F(BulkPlacesTest, StrangersOverTcpTakeNoPlaceOfTheHostsOwnClients) {
  const StreamPeer first = StreamPeer::Tcp(server_->tcp_address());
  StreamPeer second = StreamPeer::Tcp(server_->tcp_address());
  StreamPeer third = StreamPeer::Tcp(server_->tcp_address());
  EXPECT_EQ(third.ReadToEnd(), CloseReason::kLost);
  StreamPeer own = NewPeer();
  EXPECT_OK(own.Hello().status());
  // And one that went leaves its place to the next.
  second.Close();
  streams_.AwaitClosed(CloseReason::kLost, 1);
  while (server_->connections() > 2) std::this_thread::yield();
  StreamPeer fourth = StreamPeer::Tcp(server_->tcp_address());
  EXPECT_OK(fourth.Hello().status());
}

}  // namespace
}  // namespace mnemo

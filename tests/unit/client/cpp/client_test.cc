// The client against a daemon whose answers are made up.
#include "mnemo/client.h"

#include <atomic>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "mnemo/engine.h"
#include "storage/base/bytes.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::client {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMiB = 1 << 20;
const std::string_view kKeys[] = {"k0", "k1", "k2"};

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "shed"}; }

// Holds a handler until its call is cancelled.
grpc::Status UntilCancelled(grpc::ServerContext& context, std::promise<void>* entered = nullptr) {
  if (entered != nullptr) entered->set_value();
  while (!context.IsCancelled()) std::this_thread::yield();
  return grpc::Status::CANCELLED;
}

std::string Pattern(size_t size, char seed) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(seed + i * 31 + (i >> 12));
  return text;
}

void SendPart(FakeBlocks::GetWriter& writer, uint32_t index, const std::string& text) {
  v1::GetResponse header;
  header.mutable_header()->set_index(index);
  header.mutable_header()->set_size(text.size());
  header.mutable_header()->set_bytes_following(text.size());
  header.mutable_header()->set_level(v1::LEVEL_L1);
  writer.Write(header);
  for (size_t at = 0; at < text.size(); at += kMiB) {
    v1::GetResponse data;
    data.mutable_data()->set_index(index);
    data.mutable_data()->set_offset(at);
    data.mutable_data()->set_data(text.substr(at, kMiB));
    writer.Write(data);
  }
}

// Unary calls, streams of both kinds and a try that is repeated.
TEST(ClientTest, EveryCallShowsTheToken) {
  FakeDaemon daemon;
  std::vector<std::string> shown;
  std::atomic<int> tries = 0;
  daemon.blocks.match = [&](grpc::ServerContext& context, const v1::MatchRequest&,
                            v1::MatchResponse&) {
    shown.push_back(AuthorizationOf(context));
    return tries++ == 0 ? Unavailable() : grpc::Status::OK;
  };
  daemon.blocks.get = [&](grpc::ServerContext& context, const v1::GetRequest&,
                          FakeBlocks::GetWriter&) {
    shown.push_back(AuthorizationOf(context));
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "none");
  };
  daemon.blocks.watch = [&](grpc::ServerContext& context, const v1::WatchRequest&,
                            FakeBlocks::WatchWriter&) {
    shown.push_back(AuthorizationOf(context));
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "none");
  };
  daemon.contexts.append = [&](grpc::ServerContext& context, FakeContexts::AppendStream&) {
    shown.push_back(AuthorizationOf(context));
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "none");
  };
  daemon.contexts.describe = [](const auto&, v1::DescribeContextResponse& response) {
    response.mutable_context()->set_dimension(1);
    return grpc::Status::OK;
  };
  auto client = Client::Connect(
      {.target = daemon.target(), .token = "t1", .retry = {.initial_backoff = Millis(1)}});
  ASSERT_OK(client);
  EXPECT_OK((*client)->blocks().Match({.space = "s", .keys = kKeys}));
  std::vector<uint8_t> memory(1);
  const Destination to[] = {{.memory = memory}};
  EXPECT_THAT((*client)
                  ->blocks()
                  .Get({.space = "s", .keys = std::span(kKeys, 1), .destinations = to})
                  .status(),
              StatusIs(absl::StatusCode::kNotFound));
  auto watch = (*client)->blocks().Watch("s");
  ASSERT_OK(watch);
  EXPECT_FALSE((*watch)->Next(Millis(60000)).ok());
  EXPECT_THAT((*client)->contexts().Write("c").status(), StatusIs(absl::StatusCode::kNotFound));
  daemon.Stop();
  EXPECT_THAT(shown, ElementsAre("Bearer t1", "Bearer t1", "Bearer t1", "Bearer t1", "Bearer t1"));
}

TEST(ClientTest, RefusesOptionsOutOfRange) {
  EXPECT_THAT(Client::Connect({}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("target")));
  EXPECT_THAT(Client::Connect({.target = "x:1", .connections = 17}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 16")));
  for (const std::string& token : {std::string("se cret"), std::string("secret\n"),
                                   std::string("secr\xc3\xa9t"), std::string(513, 's')}) {
    EXPECT_THAT(Client::Connect({.target = "x:1", .token = token}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("token is not"), Not(HasSubstr("secr")))));
  }
  EXPECT_THAT(
      Client::Connect({.target = "x:1", .tls = TlsOptions{.certificate = "c"}}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls.certificate and tls.key")));
}

TEST(ClientTest, MatchCarriesRequestAndAnswer) {
  FakeDaemon daemon;
  v1::MatchRequest seen;
  daemon.blocks.match = [&](auto&, const v1::MatchRequest& request, v1::MatchResponse& response) {
    seen = request;
    response.set_blocks(2);
    response.set_tokens(512);
    response.add_pending(2);
    response.set_present("\x03");
    v1::MatchRun* run = response.add_runs();
    run->set_count(2);
    run->set_level(v1::LEVEL_L3);
    return grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  ASSERT_OK_AND_ASSIGN(const MatchResult match, client->blocks().Match({.space = uint64_t{7},
                                                                        .salt = "salt",
                                                                        .keys = kKeys,
                                                                        .groups = {0, 1},
                                                                        .lease_ms = 1000,
                                                                        .want_bitmap = true}));
  EXPECT_EQ(seen.space().id(), 7u);
  EXPECT_EQ(seen.salt(), "salt");
  EXPECT_THAT(seen.keys(), ElementsAre("k0", "k1", "k2"));
  EXPECT_THAT(seen.groups(), ElementsAre(0, 1));
  EXPECT_EQ(seen.lease_ms(), 1000u);
  EXPECT_EQ(match.blocks, 2u);
  EXPECT_EQ(match.tokens, 512u);
  EXPECT_THAT(match.pending, ElementsAre(2));
  EXPECT_THAT(match.present, ElementsAre(true, true, false));
  ASSERT_EQ(match.runs.size(), 1u);
  EXPECT_EQ(match.runs[0].level, Level::kL3);
}

TEST(ClientTest, RepeatsWhatIsSafeToRepeat) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.match = [&](auto&, const auto&, v1::MatchResponse& response) {
    if (++calls < 3) return Unavailable();
    response.set_blocks(1);
    return grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  ASSERT_OK_AND_ASSIGN(const MatchResult match,
                       client->blocks().Match({.space = "s", .keys = kKeys}));
  EXPECT_EQ(match.blocks, 1u);
  EXPECT_EQ(calls, 3);
}

TEST(ClientTest, DoesNotRepeatAnOfferThatMayHaveReserved) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.offer = [&](auto&, const auto&, auto&) {
    ++calls;
    return Unavailable();
  };
  const auto client = ConnectTo(daemon);
  EXPECT_THAT(client->blocks().Offer({.space = "s"}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(calls, 1);
}

TEST(ClientTest, RepeatsAnOfferThatWasPushedBack) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.offer = [&](grpc::ServerContext& context, const auto&, auto&) {
    if (++calls > 1) return grpc::Status::OK;
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "2");
    return Unavailable();
  };
  const auto client = ConnectTo(daemon);
  EXPECT_OK(client->blocks().Offer({.space = "s"}));
  EXPECT_EQ(calls, 2);
}

TEST(ClientTest, ASickDaemonIsNotBuriedByRetries) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.match = [&](auto&, const auto&, auto&) {
    ++calls;
    return Unavailable();
  };
  const auto client = ConnectTo(daemon, {.max_attempts = 4, .budget_tokens = 10});
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(client->blocks().Match({.space = "s", .keys = kKeys}).ok());
  }
  // The first call's four failures leave six tokens; from the next failure on
  // half of the ten are gone, and each call is made once.
  EXPECT_EQ(calls, 53);
}

TEST(ClientTest, ARetryThatCouldOnlyTimeOutIsNotMadeAndTheReasonIsTold) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.match = [&](grpc::ServerContext& context, const auto&, auto&) {
    ++calls;
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "60000");
    return Unavailable();
  };
  const auto client = ConnectTo(daemon);
  EXPECT_THAT(client->blocks().Match({.space = "s", .keys = kKeys}, {.timeout = Millis(20'000)}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("shed")));
  EXPECT_EQ(calls, 1);
}

TEST(ClientTest, ADeadlineEndsTheCall) {
  FakeDaemon daemon;
  daemon.blocks.match = [&](grpc::ServerContext& context, const auto&, auto&) {
    return UntilCancelled(context);
  };
  const auto client = ConnectTo(daemon);
  EXPECT_THAT(client->blocks().Match({.space = "s", .keys = kKeys}, {.timeout = Millis(50)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(ClientTest, CancelEndsTheCallAndTheServersWork) {
  FakeDaemon daemon;
  std::promise<void> entered;
  std::promise<void> left;
  daemon.blocks.match = [&](grpc::ServerContext& context, const auto&, auto&) {
    const grpc::Status status = UntilCancelled(context, &entered);
    left.set_value();
    return status;
  };
  const auto client = ConnectTo(daemon);
  CancelSource cancel;
  auto future = AsFuture<MatchResult>([&](auto done) {
    client->async_blocks().Match({.space = "s", .keys = kKeys}, std::move(done),
                                 {.cancel = &cancel});
  });
  entered.get_future().wait();
  cancel.Cancel();
  EXPECT_THAT(future.get(), StatusIs(absl::StatusCode::kCancelled));
  left.get_future().wait();
  EXPECT_THAT(client->blocks().Match({.space = "s", .keys = kKeys}, {.cancel = &cancel}),
              StatusIs(absl::StatusCode::kCancelled))
      << "also calls that start later";
}

TEST(ClientTest, DestroyingTheClientEndsItsCallsFirst) {
  FakeDaemon daemon;
  std::promise<void> entered;
  daemon.blocks.match = [&](grpc::ServerContext& context, const auto&, auto&) {
    return UntilCancelled(context, &entered);
  };
  auto client = ConnectTo(daemon);
  auto future = AsFuture<MatchResult>([&](auto done) {
    client->async_blocks().Match({.space = "s", .keys = kKeys}, std::move(done));
  });
  entered.get_future().wait();
  client.reset();
  ASSERT_EQ(future.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_THAT(future.get(), StatusIs(absl::StatusCode::kCancelled));
}

TEST(ClientTest, AClientMayGoAsSoonAsItHasItsAnswer) {
  FakeDaemon daemon;
  daemon.blocks.match = [&](auto&, const auto&, auto&) { return grpc::Status::OK; };
  daemon.blocks.get = [&](auto&, const auto&, FakeBlocks::GetWriter& writer) {
    SendPart(writer, 0, "x");
    return grpc::Status::OK;
  };
  std::vector<uint8_t> memory(1);
  const Destination to[] = {{.memory = memory}};
  for (int i = 0; i < 200; ++i) {
    const auto client = ConnectTo(daemon);
    ASSERT_OK(client->blocks().Match({.space = "s", .keys = kKeys}));
    ASSERT_OK(
        client->blocks().Get({.space = "s", .keys = std::span(kKeys, 1), .destinations = to}));
  }
}

TEST(ClientTest, GetReadsPartsOfManyMessagesIntoTheCallersMemory) {
  FakeDaemon daemon;
  const std::string big = Pattern(3 * kMiB + 17, 'a');
  const std::string small = Pattern(5, 'b');
  daemon.blocks.get = [&](auto&, const v1::GetRequest& request, FakeBlocks::GetWriter& writer) {
    EXPECT_THAT(request.keys(), ElementsAre("k0", "k1", "k2"));
    SendPart(writer, 0, big);
    v1::GetResponse missing;
    missing.mutable_header()->set_index(1);
    missing.mutable_header()->mutable_error()->set_code(5);
    writer.Write(missing);
    SendPart(writer, 2, small);
    return grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  std::vector<uint8_t> a(big.size()), b(10), c(small.size());
  const Destination to[] = {{.memory = a}, {.memory = b}, {.memory = c}};
  std::atomic<uint64_t> landed{0};
  ASSERT_OK_AND_ASSIGN(
      const GetResult result,
      client->blocks().Get({.space = "s",
                            .keys = kKeys,
                            .destinations = to,
                            .on_data = [&](size_t, uint64_t, uint64_t size) { landed += size; }}));
  EXPECT_OK(result.parts[0].status);
  EXPECT_EQ(result.parts[0].level, Level::kL1);
  EXPECT_THAT(result.parts[1].status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(result.parts[2].status);
  EXPECT_EQ(AsText(a), big);
  EXPECT_EQ(AsText(c), small);
  EXPECT_EQ(landed, big.size() + small.size());
}

TEST(ClientTest, GetStartsAnewAfterABrokenStream) {
  FakeDaemon daemon;
  const std::string text = Pattern(2 * kMiB, 'a');
  std::atomic<int> calls{0};
  daemon.blocks.get = [&](auto&, const auto&, FakeBlocks::GetWriter& writer) {
    SendPart(writer, 0, text);
    return ++calls == 1 ? Unavailable() : grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  std::vector<uint8_t> memory(text.size());
  const Destination to[] = {{.memory = memory}};
  ASSERT_OK_AND_ASSIGN(
      const GetResult result,
      client->blocks().Get({.space = "s", .keys = std::span(kKeys, 1), .destinations = to}));
  EXPECT_OK(result.parts[0].status);
  EXPECT_EQ(AsText(memory), text);
  EXPECT_EQ(calls, 2);
}

TEST(ClientTest, GetGivesUpOnADaemonThatBreaksTheContract) {
  FakeDaemon daemon;
  daemon.blocks.get = [&](grpc::ServerContext& context, const auto&,
                          FakeBlocks::GetWriter& writer) {
    v1::GetResponse stray;
    stray.mutable_data()->set_index(9);
    stray.mutable_data()->set_data("x");
    writer.Write(stray);
    return UntilCancelled(context);
  };
  const auto client = ConnectTo(daemon);
  const Destination to[] = {{}};
  EXPECT_THAT(client->blocks().Get({.space = "s", .keys = std::span(kKeys, 1), .destinations = to}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("part 9")));
}

TEST(ClientTest, GetNeedsADestinationForEachKeyAndPart) {
  FakeDaemon daemon;
  const auto client = ConnectTo(daemon);
  const Destination to[] = {{}};
  EXPECT_THAT(client->blocks().Get({.space = "s", .keys = kKeys, .destinations = to}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("needed are 3")));
}

// Grants as it receives, checks order, keeps the bytes.
grpc::Status AcceptPut(FakeBlocks::PutStream& stream, v1::PutStart& start,
                       std::vector<std::string>& stored) {
  v1::PutRequest message;
  if (!stream.Read(&message) || !message.has_start()) return Unavailable();
  start = message.start();
  stored.assign(static_cast<size_t>(start.parts_size()), "");
  uint64_t received = 0;
  v1::PutResponse grant;
  for (int i = 0; i < start.parts_size(); ++i) {
    grant.mutable_grant()->add_verdicts()->set_verdict(v1::VERDICT_WANT);
  }
  grant.mutable_grant()->set_bytes_granted(kMiB / 2);
  stream.Write(grant);
  while (stream.Read(&message)) {
    std::string& part = stored[message.data().index()];
    EXPECT_EQ(message.data().offset(), part.size());
    EXPECT_LE(message.data().data().size(), kMiB);
    part += message.data().data();
    received += message.data().data().size();
    v1::PutResponse more;
    more.mutable_grant()->set_bytes_granted(received + kMiB / 3);
    stream.Write(more);
    const auto index = message.data().index();
    if (part.size() < start.parts(static_cast<int>(index)).size()) continue;
    v1::PutResponse done;
    done.mutable_result()->set_index(index);
    done.mutable_result()->set_outcome(v1::PUT_OUTCOME_STORED);
    stream.Write(done);
  }
  return grpc::Status::OK;
}

class ClientPutTest : public ::testing::TestWithParam<bool> {};

TEST_P(ClientPutTest, SendsAllPartsWithinTheGrant) {
  FakeDaemon daemon;
  v1::PutStart start;
  std::vector<std::string> stored;
  daemon.blocks.put = [&](auto&, FakeBlocks::PutStream& stream) {
    return AcceptPut(stream, start, stored);
  };
  const auto client = ConnectTo(daemon);
  const std::string a = Pattern(3 * kMiB + 1, 'a');
  const std::string b = Pattern(10, 'b');
  ASSERT_OK_AND_ASSIGN(
      const PutResult result,
      client->blocks().Put({.space = "s",
                            .parts = {{.key = "k0", .data = AsBytes(a), .depth = 4},
                                      {.key = "k1", .data = AsBytes(b), .parent = "k0"}},
                            .durability = Durability::kSync,
                            .borrow_payload = GetParam()}));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kStored);
  EXPECT_EQ(result.parts[1].outcome, PutOutcome::kStored);
  EXPECT_THAT(stored, ElementsAre(a, b));
  EXPECT_EQ(start.durability(), v1::DURABILITY_SYNC);
  EXPECT_EQ(start.parts(0).depth(), 4u);
  EXPECT_EQ(start.parts(0).digest().low(), DigestOf(AsBytes(a)).low);
  EXPECT_EQ(start.parts(1).parent(), "k0");
}

TEST_P(ClientPutTest, IsRepeatedWhole) {
  FakeDaemon daemon;
  v1::PutStart start;
  std::vector<std::string> stored;
  std::atomic<int> calls{0};
  daemon.blocks.put = [&](auto&, FakeBlocks::PutStream& stream) {
    v1::PutRequest first;
    if (++calls == 1) {
      stream.Read(&first);
      return Unavailable();
    }
    return AcceptPut(stream, start, stored);
  };
  const auto client = ConnectTo(daemon);
  const std::string a = Pattern(2 * kMiB, 'a');
  ASSERT_OK_AND_ASSIGN(const PutResult result,
                       client->blocks().Put({.space = "s",
                                             .parts = {{.key = "k0", .data = AsBytes(a)}},
                                             .borrow_payload = GetParam()}));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kStored);
  EXPECT_THAT(stored, ElementsAre(a));
  EXPECT_EQ(calls, 2);
}

TEST_P(ClientPutTest, ADeadlineEndsAPutThatGetsNoGrant) {
  FakeDaemon daemon;
  daemon.blocks.put = [&](grpc::ServerContext& context, FakeBlocks::PutStream&) {
    return UntilCancelled(context);
  };
  const auto client = ConnectTo(daemon);
  const std::string a = Pattern(4 * kMiB, 'a');
  EXPECT_THAT(client->blocks().Put({.space = "s",
                                    .parts = {{.key = "k0", .data = AsBytes(a)}},
                                    .borrow_payload = GetParam()},
                                   {.timeout = Millis(100)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

INSTANTIATE_TEST_SUITE_P(Payload, ClientPutTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Borrowed" : "Copied"; });

TEST(ClientTest, WatchDeliversEventsInOrderAndThenItsEnd) {
  FakeDaemon daemon;
  daemon.blocks.watch = [&](auto&, const v1::WatchRequest& request,
                            FakeBlocks::WatchWriter& writer) {
    for (uint64_t i = 1; i <= 20; ++i) {
      v1::WatchResponse response;
      response.add_events()->set_sequence(request.from_sequence() + i);
      writer.Write(response);
    }
    return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "gone");
  };
  const auto client = ConnectTo(daemon);
  ASSERT_OK_AND_ASSIGN(const auto watch, client->blocks().Watch("s", 100));
  for (uint64_t i = 101; i <= 120; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto events, watch->Next(Millis(10'000)));
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].sequence, i);
  }
  EXPECT_THAT(watch->Next(Millis(10'000)), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(ClientTest, AWatchThatIsLeftEndsOnTheServer) {
  FakeDaemon daemon;
  std::promise<void> left;
  daemon.blocks.watch = [&](grpc::ServerContext& context, const auto&, auto&) {
    const grpc::Status status = UntilCancelled(context);
    left.set_value();
    return status;
  };
  const auto client = ConnectTo(daemon);
  {
    ASSERT_OK_AND_ASSIGN(const auto watch, client->blocks().Watch("s"));
    EXPECT_THAT(watch->Next(Millis(20)), StatusIs(absl::StatusCode::kDeadlineExceeded));
  }
  left.get_future().wait();
}

TEST(EngineTest, ASlowLookUpIsAMiss) {
  FakeDaemon daemon;
  std::atomic<int> calls{0};
  daemon.blocks.match = [&](grpc::ServerContext& context, const auto&, auto&) {
    ++calls;
    return UntilCancelled(context);
  };
  const auto client = ConnectTo(daemon);
  Engine engine(*client, {.lookup_timeout = Millis(20), .failures_to_open = 2});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(engine.Match({.space = "s", .keys = kKeys}).blocks, 0u);
  EXPECT_EQ(engine.stats().failed, 2u);
  EXPECT_EQ(engine.stats().skipped, 3u);
  EXPECT_LE(calls, 2);
}

TEST(EngineTest, APartThatIsThereWithOtherBytesIsNotStored) {
  FakeDaemon daemon;
  daemon.blocks.put = [](auto&, FakeBlocks::PutStream& stream) {
    v1::PutRequest request;
    stream.Read(&request);
    v1::PutResponse response;
    response.mutable_grant()->set_bytes_granted(8);
    for (int i = 0; i < 3; ++i)
      response.mutable_grant()->add_verdicts()->set_verdict(v1::VERDICT_WANT);
    stream.Write(response);
    const v1::PutOutcome outcomes[] = {v1::PUT_OUTCOME_CONFLICT, v1::PUT_OUTCOME_ALREADY_PRESENT,
                                       v1::PUT_OUTCOME_STORED};
    for (uint32_t i = 0; i < 3; ++i) {
      response.mutable_result()->set_index(i);
      response.mutable_result()->set_outcome(outcomes[i]);
      stream.Write(response);
    }
    while (stream.Read(&request)) {
    }
    return grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  Engine engine(*client, {});
  const std::vector<uint8_t> bytes(8);
  EXPECT_THAT(engine.Put({.space = "s",
                          .parts = {{.key = "a", .data = bytes},
                                    {.key = "b", .data = bytes},
                                    {.key = "c", .data = bytes}}}),
              ElementsAre(false, true, true));
}

TEST(EngineTest, ACallThatBreaksOffHalfWayCountsAsAFailure) {
  FakeDaemon daemon;
  daemon.blocks.get = [](auto&, const auto&, FakeBlocks::GetWriter& writer) {
    SendPart(writer, 0, "12345678");
    return Unavailable();
  };
  const auto client = ConnectTo(daemon, {.max_attempts = 1});
  Engine engine(*client, {.failures_to_open = 1, .open_for = Millis(60'000)});
  std::vector<uint8_t> memory(16);
  const Destination to[] = {{.memory = std::span(memory).first(8)},
                            {.memory = std::span(memory).last(8)}};
  const auto get = [&] {
    return engine.Get({.space = "s", .keys = std::span(kKeys, 2), .destinations = to});
  };
  EXPECT_THAT(get(), ElementsAre(true, false)) << "what came is used";
  EXPECT_THAT(get(), ElementsAre(false, false));
  EXPECT_EQ(engine.stats().failed, 1u);
  EXPECT_EQ(engine.stats().skipped, 1u);
}

TEST(EngineTest, AnUnreachableDaemonIsAMissAndStoresNothing) {
  auto daemon = std::make_unique<FakeDaemon>();
  const auto client = ConnectTo(*daemon);
  daemon.reset();
  Engine engine(*client, {});
  std::vector<uint8_t> memory(8);
  const Destination to[] = {{.memory = memory}};
  EXPECT_THAT(engine.Get({.space = "s", .keys = std::span(kKeys, 1), .destinations = to}),
              ElementsAre(false));
  EXPECT_THAT(engine.Put({.space = "s", .parts = {{.key = "k", .data = memory}}}),
              ElementsAre(false));
  EXPECT_EQ(engine.Match({.space = "s", .keys = kKeys}).blocks, 0u);
}

}  // namespace
}  // namespace mnemo::client

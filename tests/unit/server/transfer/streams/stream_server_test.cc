// What a stream does, and for whom.
#include "server/transfer/stream_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "tests/unit/server/transfer/streams/stream_fixture.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST_F(StreamTest, ThePeersUidSaysWhoItIsAndGivesATokenForGrpc) {
  StreamPeer peer = NewPeer();
  const auto welcome = peer.Hello({.want_token = true, .client = "test"});
  ASSERT_OK(welcome);
  EXPECT_EQ(welcome->max_requests, StreamConnection::kMaxRequests);
  ASSERT_THAT(std::string(welcome->token), Not(IsEmpty()));
  const auto identity = identity_->Resolve({.token = welcome->token});
  ASSERT_OK(identity);
  EXPECT_EQ(identity->tenant, kLocalTenant);
  clock_.Advance(std::chrono::milliseconds(welcome->token_lifetime_ms));
  EXPECT_THAT(identity_->Resolve({.token = welcome->token}).status(),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("expired")));
}

TEST_F(StreamTest, PutsAndGetsThroughRegisteredMemory) {
  OpenSpace("opaque");
  SharedMemory memory(4 * kMiB);
  StreamPeer peer = Greeted();
  const auto region = peer.Register(memory);
  ASSERT_OK(region);
  const std::string payload = TestPayload(TestPart(1), 0, 3 * kMiB / 2 + 77);
  payload.copy(memory.data() + 100, payload.size());

  stream::PutAnswer put;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(PutOf(*region, 100, "k", payload.size())), put));
  ASSERT_EQ(put.parts.size(), 1u);
  EXPECT_OK(put.parts[0].status);
  EXPECT_EQ(put.parts[0].outcome, 1);

  // In three runs, backwards through the memory.
  const uint64_t half = kMiB + 4096;
  stream::GetRequest get = GetOf(*region, 0, "k", 0);
  get.keys.keys = {"k", "missing"};
  get.slices = {{.offset = 2 * kMiB, .length = 256 * kKiB, .stride = kMiB, .count = 2},
                {.offset = 0, .length = half},
                {.offset = 0, .length = 16}};
  get.places = {{.region = *region, .first = 0, .count = 2},
                {.region = *region, .first = 2, .count = 1}};
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(get), got));
  ASSERT_EQ(got.parts.size(), 2u);
  EXPECT_OK(got.parts[0].status);
  EXPECT_EQ(got.parts[0].bytes, payload.size());
  EXPECT_EQ(got.parts[0].size, payload.size());
  EXPECT_EQ(got.parts[0].level, 1);
  EXPECT_EQ(got.parts[0].digest, put.parts[0].digest);
  EXPECT_THAT(got.parts[1].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  const size_t run = 256 * kKiB;
  EXPECT_TRUE(memory.Text(2 * kMiB, run) == payload.substr(0, run));
  EXPECT_TRUE(memory.Text(3 * kMiB, run) == payload.substr(run, run));
  EXPECT_TRUE(memory.Text(0, payload.size() - 2 * run) == payload.substr(2 * run));
}

TEST_F(StreamTest, MatchesOffersAndTouches) {
  OpenSpace("opaque");
  SharedMemory memory(4096);
  StreamPeer peer = Greeted();
  const auto region = peer.Register(memory);
  ASSERT_OK(region);
  stream::OfferRequest offer{.scope = {.space_name = "opaque"}};
  offer.parts = {{.key = "k", .size = 4096}, {.key = "", .size = 1}};
  stream::OfferAnswer offered;
  ASSERT_OK(peer.Call(FrameType::kOffer, Encode(offer), offered));
  ASSERT_EQ(offered.verdicts.size(), 2u);
  EXPECT_EQ(offered.verdicts[0].verdict, 1);
  EXPECT_THAT(offered.verdicts[1].reason,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key is 0 bytes long")));

  // Whom it is reserved for may write it, and nobody else.
  stream::PutRequest put = PutOf(*region, 0, "k", 4096);
  stream::PutAnswer stored;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(put), stored));
  EXPECT_THAT(stored.parts[0].status, StatusIs(absl::StatusCode::kAborted, HasSubstr("else")));
  put.reservation = offered.reservation;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(put), stored));
  EXPECT_EQ(stored.parts[0].outcome, 1);

  stream::MatchRequest match{.scope = {.space_name = "opaque"}, .lease_ms = 1000};
  match.keys.keys = {"k", "l"};
  stream::MatchAnswer matched;
  ASSERT_OK(peer.Call(FrameType::kMatch, Encode(match), matched));
  EXPECT_EQ(matched.blocks, 1u);
  EXPECT_EQ(matched.tokens, 16u);
  EXPECT_EQ(matched.fetch_bytes, 4096u);
  EXPECT_NE(matched.lease, 0u);
  ASSERT_EQ(matched.runs.size(), 1u);
  EXPECT_EQ(matched.runs[0].level, 1);

  stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
  touch.keys.keys = {"k", "l"};
  stream::TouchAnswer touched;
  ASSERT_OK(peer.Call(FrameType::kTouch, Encode(touch), touched));
  EXPECT_EQ(touched.found, 1u);
  match.scope.space_name = "nowhere";
  EXPECT_THAT(peer.Call(FrameType::kMatch, Encode(match), matched),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
}

TEST_F(StreamTest, PrefetchSaysWhatIsThereAndChecksWhatIsAsked) {
  OpenSpace("opaque");
  SharedMemory memory(4096);
  StreamPeer peer = Greeted();
  const auto region = peer.Register(memory);
  ASSERT_OK(region);
  stream::PutAnswer stored;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(PutOf(*region, 0, "k", 4096)), stored));
  stream::PrefetchRequest prefetch{.scope = {.space_name = "opaque"}, .parts = {{}}};
  prefetch.keys.keys = {"k", "l", "m"};
  stream::PrefetchAnswer answer;
  ASSERT_OK(peer.Call(FrameType::kPrefetch, Encode(prefetch), answer));
  EXPECT_EQ(answer.in_ram, 1u);
  EXPECT_EQ(answer.absent, 2u);
  EXPECT_EQ(answer.queued, 0u);
  EXPECT_EQ(answer.prefetch, 0u);
  prefetch.parts = {{.group = 3}};
  EXPECT_THAT(peer.Call(FrameType::kPrefetch, Encode(prefetch), answer),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("group")));
  prefetch = {.cancel = 7};
  EXPECT_OK(peer.Call(FrameType::kPrefetch, Encode(prefetch), answer));
}

TEST_F(StreamTest, ABadPlaceFailsItsPartAlone) {
  OpenSpace("opaque");
  SharedMemory memory(8192);
  StreamPeer peer = Greeted();
  const auto region = peer.Register(memory);
  ASSERT_OK(region);
  stream::PutRequest put = PutOf(*region, 0, "good", 4096);
  put.parts = {{.key = "good", .size = 4096},
               {.key = "beyond", .size = 4096},
               {.key = "short", .size = 4096},
               {.key = "nowhere", .size = 4096}};
  put.slices = {{.offset = 0, .length = 4096},
                {.offset = 4097, .length = 4096},
                {.offset = 0, .length = 4095},
                {.offset = 0, .length = 4096}};
  put.places = {{*region, 0, 1}, {*region, 1, 1}, {*region, 2, 1}, {*region + 1, 3, 1}};
  stream::PutAnswer stored;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(put), stored));
  EXPECT_EQ(stored.parts[0].outcome, 1);
  EXPECT_THAT(stored.parts[1].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places[1].slices")));
  EXPECT_THAT(stored.parts[2].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hold 4095 bytes")));
  EXPECT_THAT(stored.parts[3].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));

  stream::GetRequest get = GetOf(*region, 0, "good", 4095);
  get.keys.keys = {"good", "good"};
  get.slices = {{.offset = 0, .length = 4095}, {.offset = 4096, .length = 4096}};
  get.places = {{*region, 0, 1}, {*region, 1, 1}};
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(get), got));
  EXPECT_THAT(got.parts[0].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hold 4095 bytes")));
  EXPECT_OK(got.parts[1].status);
  get.places.pop_back();
  EXPECT_THAT(peer.Call(FrameType::kGet, Encode(get), got),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places holds 1")));
}

TEST_F(StreamTest, NothingIsCopiedIntoAPlaceThatIsTooSmall) {
  OpenSpace("opaque");
  SharedMemory memory(4 * kMiB);
  StreamPeer peer = Greeted();
  const auto region = peer.Register(memory);
  ASSERT_OK(region);
  std::fill(memory.data(), memory.data() + memory.size(), 'a');
  stream::PutAnswer put;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(PutOf(*region, 0, "k", kMiB)), put));
  ASSERT_OK(put.parts[0].status);
  std::fill(memory.data(), memory.data() + memory.size(), '.');
  // Room for some of its pieces, and the memory goes on behind it.
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(GetOf(*region, kMiB, "k", kMiB - 1)), got));
  EXPECT_THAT(got.parts[0].status, StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("hold 1048575 bytes; the part has 1048576")));
  EXPECT_EQ(memory.Text(0, memory.size()), std::string(memory.size(), '.'));
}

// A process that has our descriptors writes `bytes` to `socket`, all of them, and ends.
void WriteFromAnotherProcess(int socket, std::string_view bytes) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::_exit(sent == static_cast<ssize_t>(bytes.size()) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
}

TEST_F(StreamTest, MemoryOfAProcessIsRegisteredByItselfAlone) {
  StreamPeer peer = Greeted();
  std::vector<char> memory(4096);
  const stream::RegisterRequest request{
      .kind = stream::RegisterRequest::Kind::kProcess,
      .address = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(memory.data())),
      .bytes = memory.size()};
  const auto frame = [&](uint64_t id) {
    return stream::MakeFrame({.type = FrameType::kRegister, .id = id}, Encode(request));
  };
  const auto read_status = [&] {
    const auto answer = peer.Read();
    absl::Status status = absl::UnavailableError("no answer");
    stream::RegisterAnswer registered;
    EXPECT_TRUE(answer && stream::Decode(AsBytes(answer->body), status, registered));
    return status;
  };
  const auto is_foreign =
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("by itself alone"));
  WriteFromAnotherProcess(peer.socket(), frame(1001));
  EXPECT_THAT(read_status(), is_foreign);
  // Nor has it to be the whole frame.
  WriteFromAnotherProcess(peer.socket(), frame(1002).substr(0, 7));
  ASSERT_TRUE(peer.Write(frame(1002).substr(7)));
  EXPECT_THAT(read_status(), is_foreign);
  ASSERT_TRUE(peer.Write(frame(1003).substr(0, 40)));
  WriteFromAnotherProcess(peer.socket(), frame(1003).substr(40));
  EXPECT_THAT(read_status(), is_foreign);
  EXPECT_EQ(regions_.figures()[static_cast<size_t>(RegionForm::kProcess) - 1].refused, 3u);
  ASSERT_TRUE(peer.Write(frame(1004)));
  EXPECT_OK(read_status());
}

TEST_F(StreamTest, StagingMemoryComesWithItsDescriptorAndEndsWithItsStream) {
  OpenSpace("opaque");
  StreamPeer peer = Greeted();
  stream::RegisterAnswer answer;
  const stream::RegisterRequest request{.kind = stream::RegisterRequest::Kind::kStaging,
                                        .bytes = kMiB};
  ASSERT_OK(peer.Call(FrameType::kRegister, Encode(request), answer));
  EXPECT_EQ(answer.form, 4);
  ASSERT_TRUE(peer.last()->descriptor.valid());
  const std::string payload(4096, 'x');
  ASSERT_EQ(::pwrite(peer.last()->descriptor.get(), payload.data(), payload.size(), 0), 4096);
  const Descriptor staging = std::move(peer.last()->descriptor);
  stream::PutAnswer stored;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(PutOf(answer.region, 0, "k", 4096)), stored));
  EXPECT_EQ(stored.parts[0].outcome, 1);
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(GetOf(answer.region, 8192, "k", 4096)), got));
  std::string read(4096, '\0');
  ASSERT_EQ(::pread(staging.get(), read.data(), read.size(), 8192), 4096);
  EXPECT_TRUE(read == payload);
  stream::UnregisterAnswer gone;
  ASSERT_OK(peer.Call(FrameType::kUnregister,
                      Encode(stream::UnregisterRequest{.region = answer.region}), gone));
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(GetOf(answer.region, 0, "k", 4096)), got));
  EXPECT_THAT(got.parts[0].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_F(StreamTest, ManyStreamsAreServedAndLeaveNothingBehind) {
  OpenSpace("opaque");
  std::vector<StreamPeer> peers;
  for (int i = 0; i < 300; ++i) peers.push_back(Greeted());
  stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
  touch.keys.keys = {"k"};
  stream::TouchAnswer touched;
  for (StreamPeer& peer : peers) {
    EXPECT_OK(peer.Call(FrameType::kTouch, Encode(touch), touched));
  }
  EXPECT_EQ(server_->connections(), peers.size());
  peers.clear();
  streams_.AwaitClosed(CloseReason::kLost, 300);
  AwaitNoConnections();
}

TEST_F(StreamTest, ShutdownEndsIdleStreamsAndTakesTheSocketAway) {
  StreamPeer peer = Greeted();
  server_->Shutdown(std::chrono::hours(1));
  EXPECT_EQ(peer.ReadToEnd(), CloseReason::kShutdown);
  EXPECT_EQ(streams_.closed(CloseReason::kShutdown), 1u);
  EXPECT_FALSE(NewPeer().connected());
  EXPECT_NE(::access(path().c_str(), F_OK), 0);
}

TEST_F(StreamTest, TheSocketHasTheAccessThatWasAskedFor) {
  EXPECT_THAT(StreamServer::Start({.unix_socket = path()}, {.gate = *gate_,
                                                            .blocks = *blocks_,
                                                            .identity = *identity_,
                                                            .tickets = tickets_,
                                                            .regions = regions_,
                                                            .observer = streams_})
                  .status(),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("listens there")));
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
  const auto other = ListenUnix(dir_ / "other", {.mode = 0640});
  ASSERT_OK(other);
  ASSERT_EQ(::stat((dir_ / "other").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
  EXPECT_THAT(ListenUnix(dir_ / "third", {.owner = "no-such-user"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no-such-user")));
}

class StreamIdentityTest : public StreamTest {
 protected:
  StreamIdentityTest() : StreamTest({.required = true}) {}
};

TEST_F(StreamIdentityTest, WhoIsNobodyIsToldAndTurnedAway) {
  StreamPeer peer = NewPeer();
  EXPECT_THAT(peer.Hello().status(), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
  EXPECT_EQ(peer.ReadToEnd(), CloseReason::kTicket);
  EXPECT_EQ(streams_.closed(CloseReason::kTicket), 1u);
}

TEST_F(StreamIdentityTest, ATicketOpensOneStream) {
  const auto tenant = identity_->CreateTenant("acme");
  ASSERT_OK(tenant);
  const auto token = identity_->CreateToken(tenant->id, "app", {Role::kReader});
  ASSERT_OK(token);
  const auto identity = identity_->Resolve({.token = token->text});
  ASSERT_OK(identity);
  const auto ticket = tickets_.Issue(*identity, kFastPlane);
  ASSERT_OK(ticket);
  OpenSpace("opaque", tenant->id);
  StreamPeer peer = NewPeer();
  ASSERT_OK(peer.Hello({.ticket = ticket->ticket}));
  StreamPeer second = NewPeer();
  EXPECT_THAT(second.Hello({.ticket = ticket->ticket}).status(),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
  EXPECT_EQ(second.ReadToEnd(), CloseReason::kTicket);

  // A reader's stream reads, and no more.
  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"k"};
  stream::MatchAnswer matched;
  EXPECT_OK(peer.Call(FrameType::kMatch, Encode(match), matched));
  stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
  touch.keys.keys = {"k"};
  stream::TouchAnswer touched;
  EXPECT_THAT(peer.Call(FrameType::kTouch, Encode(touch), touched),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("writer")));
  // And ends to be good with its token.
  ASSERT_OK(identity_->RevokeToken(tenant->id, "app", 0));
  EXPECT_THAT(peer.Call(FrameType::kMatch, Encode(match), matched),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
}

TEST_F(StreamIdentityTest, TwoTenantsSeeTheirOwn) {
  std::vector<StreamPeer> peers;
  SharedMemory memory(4096);
  for (const char* name : {"one", "two"}) {
    const auto tenant = identity_->CreateTenant(name);
    ASSERT_OK(tenant);
    OpenSpace("opaque", tenant->id);
    const auto token = identity_->CreateToken(tenant->id, "app", {Role::kWriter});
    ASSERT_OK(token);
    const auto resolved = identity_->Resolve({.token = token->text});
    ASSERT_OK(resolved);
    const auto ticket = tickets_.Issue(*resolved, kFastPlane);
    ASSERT_OK(ticket);
    peers.push_back(NewPeer());
    ASSERT_OK(peers.back().Hello({.ticket = ticket->ticket}));
  }
  const auto region = peers[0].Register(memory);
  ASSERT_OK(region);
  stream::PutAnswer stored;
  ASSERT_OK(peers[0].Call(FrameType::kPut, Encode(PutOf(*region, 0, "k", 4096)), stored));
  EXPECT_EQ(stored.parts[0].outcome, 1);
  const auto own = peers[1].Register(memory);
  ASSERT_OK(own);
  stream::GetAnswer got;
  ASSERT_OK(peers[1].Call(FrameType::kGet, Encode(GetOf(*own, 0, "k", 4096)), got));
  EXPECT_THAT(got.parts[0].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  // A region is its stream's alone.
  stream::UnregisterAnswer gone;
  EXPECT_THAT(peers[1].Call(FrameType::kUnregister,
                            Encode(stream::UnregisterRequest{.region = *own + 1}), gone),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

}  // namespace
}  // namespace mnemo

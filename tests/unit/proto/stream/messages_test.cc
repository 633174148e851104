#include "proto/stream/messages.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo::stream {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Digest128 kDigest = {.low = 0x0807060504030201, .high = 0x100f0e0d0c0b0a09};

MatchRequest SampleMatch() {
  MatchRequest match{.scope = {.space = 5, .salt = "pepper"},
                     .groups = {0, 2},
                     .tp_ranks = {1},
                     .lease_ms = 1500,
                     .want_bitmap = true};
  match.keys.keys = {"k0", "k1"};
  match.keys.stretches = {"s0", "s0"};
  return match;
}

GetRequest SampleGet() {
  GetRequest get{.scope = {.space_name = "llama"},
                 .first_layer = 1,
                 .layer_count = 2,
                 .lease = 9,
                 .takes = 30};
  get.keys.keys = {"key"};
  get.parts = {{.group = 1, .tp_rank = 2, .pp_rank = 3}, {}};
  get.places = {{.region = 4, .first = 0, .count = 2}, {.region = 1, .first = 2, .count = 1}};
  get.slices = {{.offset = 4096, .length = 128, .stride = 256, .count = 8},
                {.offset = 65536, .length = 1024},
                {.offset = 0, .length = 2048}};
  return get;
}

PutRequest SamplePut() {
  PutRequest put{
      .scope = {.space = 5}, .reservation = 77, .durability = 3, .time_to_live_seconds = 3600};
  put.parts = {
      {.key = "a", .size = 1024, .digest = kDigest},
      {.key = "b", .part = {.group = 1}, .size = 2048, .depth = 1, .parent = "a", .stretch = "s"}};
  put.places = {{.region = 1, .first = 0, .count = 1}, {.region = 1, .first = 1, .count = 1}};
  put.slices = {{.offset = 0, .length = 1024}, {.offset = 1024, .length = 2048}};
  return put;
}

PrefetchRequest SamplePrefetch() {
  PrefetchRequest prefetch{.scope = {.space = 5}, .cancel = 9};
  prefetch.parts = {{.group = 1, .tp_rank = 2, .pp_rank = 3}};
  prefetch.keys.keys = {"a", "b"};
  return prefetch;
}

MatchAnswer SampleMatchAnswer() {
  MatchAnswer answer{
      .blocks = 3, .tokens = 48, .lease = 12, .lease_ms = 1000, .fetch_bytes = 98304};
  answer.runs = {{.first = 0, .count = 2, .level = 1}, {.first = 2, .count = 1, .level = 3}};
  answer.pending = {4, 5};
  answer.present = "\x07";
  answer.groups = {{.group = 0, .blocks = 3}};
  return answer;
}

OfferAnswer SampleOfferAnswer() {
  OfferAnswer answer{.reservation = 77};
  answer.verdicts = {{.verdict = 1},
                     {.verdict = 2, .digest = kDigest},
                     {.verdict = 3},
                     {.verdict = 4, .reason = absl::InvalidArgumentError("size is 0")}};
  return answer;
}

GetAnswer SampleGetAnswer() {
  GetAnswer answer;
  answer.parts = {{.size = 4096, .bytes = 2048, .digest = kDigest, .level = 2, .depth = 6},
                  {.status = absl::NotFoundError("no such part")},
                  {.size = 4096,
                   .bytes = 600,
                   .digest = kDigest,
                   .level = 3,
                   .fidelity = GetAnswer::Fidelity{"rotated4", 4.25, 0.0625},
                   .encoded = true,
                   .put_digest = {.low = 7, .high = 8},
                   .runs = {{.first = 2, .count = 4}}}};
  return answer;
}

PutAnswer SamplePutAnswer() {
  PutAnswer answer;
  answer.parts = {{.outcome = 1, .digest = kDigest},
                  {.status = absl::ResourceExhaustedError("no room")}};
  return answer;
}

std::string RequestFrame(FrameType type, const std::string& body) {
  return MakeFrame({.type = type, .timeout_ms = 1000, .id = 42}, body);
}
std::string AnswerFrame(FrameType type, const std::string& body) {
  return MakeFrame({.type = type, .answer = true, .id = 42}, body);
}

// One frame of each kind; tests/data/stream holds their bytes.
std::map<std::string, std::string> SampleFrames() {
  OfferRequest offer{.scope = {.space = 5}, .reservation_ms = 5000, .parts = SamplePut().parts};
  TouchRequest touch{.scope = {.space = 5}};
  touch.keys.keys = {"a", "b"};
  using Type = FrameType;
  return {
      {"hello", RequestFrame(Type::kHello, Encode(Hello{.ticket = "0123456789abcdef",
                                                        .want_token = true,
                                                        .client = "golden"}))},
      {"hello-by-uid", RequestFrame(Type::kHello, Encode(Hello{.client = "golden"}))},
      {"register",
       RequestFrame(Type::kRegister, Encode(RegisterRequest{.kind = RegisterRequest::Kind::kFile,
                                                            .bytes = 1 << 20}))},
      {"register-process",
       RequestFrame(Type::kRegister, Encode(RegisterRequest{.kind = RegisterRequest::Kind::kProcess,
                                                            .address = 0x7f0000001000,
                                                            .bytes = 4096}))},
      {"unregister", RequestFrame(Type::kUnregister, Encode(UnregisterRequest{.region = 3}))},
      {"match", RequestFrame(Type::kMatch, Encode(SampleMatch()))},
      {"offer", RequestFrame(Type::kOffer, Encode(offer))},
      {"get", RequestFrame(Type::kGet, Encode(SampleGet()))},
      {"put", RequestFrame(Type::kPut, Encode(SamplePut()))},
      {"touch", RequestFrame(Type::kTouch, Encode(touch))},
      {"prefetch", RequestFrame(Type::kPrefetch, Encode(SamplePrefetch()))},
      {"prefetched",
       AnswerFrame(Type::kPrefetch,
                   Encode(PrefetchAnswer{
                       .prefetch = 11, .queued = 4, .in_ram = 3, .absent = 2, .dropped = 1}))},
      {"credit", AnswerFrame(Type::kCredit, Encode(Credit{.bytes = 8 << 20, .wanted = {0, 2}}))},
      {"data", MakeDataFrame({.type = Type::kData, .id = 42},
                             Encode(Data{.index = 2, .offset = 1 << 20}), 8) +
                   "payload."},
      {"cancel", MakeFrame({.type = Type::kCancel, .id = 42}, "")},
      {"close", MakeFrame({.type = Type::kClose},
                          Encode(Close{.reason = CloseReason::kShutdown, .message = "stopping"}))},
      {"error", AnswerFrame(Type::kGet, EncodeError(absl::UnavailableError("queue is full")))},
      {"welcome", AnswerFrame(Type::kHello, Encode(Welcome{.max_requests = 64,
                                                           .max_regions = 256,
                                                           .max_region_bytes = 1 << 30,
                                                           .token = "mnemo-token",
                                                           .token_lifetime_ms = 600'000}))},
      {"registered", AnswerFrame(Type::kRegister, Encode(RegisterAnswer{.region = 3, .form = 1}))},
      {"unregistered", AnswerFrame(Type::kUnregister, Encode(UnregisterAnswer{}))},
      {"matched", AnswerFrame(Type::kMatch, Encode(SampleMatchAnswer()))},
      {"offered", AnswerFrame(Type::kOffer, Encode(SampleOfferAnswer()))},
      {"got", AnswerFrame(Type::kGet, Encode(SampleGetAnswer()))},
      {"stored", AnswerFrame(Type::kPut, Encode(SamplePutAnswer()))},
      {"touched", AnswerFrame(Type::kTouch, Encode(TouchAnswer{.found = 2}))},
  };
}

std::string Hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return text;
}

// The body of a frame, after its header.
ByteView BodyOf(const std::string& frame) { return AsBytes(frame).subspan(kHeaderBytes); }

TEST(StreamGoldenTest, FramesHaveTheBytesOfVersion1) {
  std::ifstream file(std::string(MNEMO_STREAM_DATA) + "/version_1.txt");
  ASSERT_TRUE(file);
  std::map<std::string, std::string> golden;
  for (std::string name, bytes; file >> name >> bytes;) golden[name] = bytes;
  std::map<std::string, std::string> made;
  for (const auto& [name, frame] : SampleFrames()) {
    made[name] = Hex(frame);
    EXPECT_EQ(golden[name], made[name]) << name;
  }
  EXPECT_EQ(golden.size(), made.size());
}

TEST(StreamMessagesTest, RequestsComeBackAsTheyWere) {
  MatchRequest match;
  const std::string match_body = Encode(SampleMatch());
  ASSERT_TRUE(Decode(AsBytes(match_body), match));
  EXPECT_EQ(match.scope.space, 5u);
  EXPECT_EQ(match.scope.salt, "pepper");
  EXPECT_THAT(match.groups, ElementsAre(0, 2));
  EXPECT_THAT(match.keys.keys, ElementsAre("k0", "k1"));
  EXPECT_THAT(match.keys.stretches, ElementsAre("s0", "s0"));
  EXPECT_EQ(match.lease_ms, 1500u);
  EXPECT_TRUE(match.want_bitmap);
  EXPECT_FALSE(match.peek);

  GetRequest get;
  const std::string get_body = Encode(SampleGet());
  ASSERT_TRUE(Decode(AsBytes(get_body), get));
  EXPECT_EQ(get.scope.space_name, "llama");
  EXPECT_EQ(get.parts, SampleGet().parts);
  EXPECT_EQ(get.places, SampleGet().places);
  EXPECT_EQ(get.slices, SampleGet().slices);
  EXPECT_EQ(get.layer_count, 2u);
  EXPECT_EQ(get.lease, 9u);
  EXPECT_EQ(get.takes, 30u);

  PutRequest put;
  const std::string put_body = Encode(SamplePut());
  ASSERT_TRUE(Decode(AsBytes(put_body), put));
  EXPECT_EQ(put.reservation, 77u);
  EXPECT_EQ(put.durability, 3);
  ASSERT_EQ(put.parts.size(), 2u);
  EXPECT_EQ(put.parts[0].digest, kDigest);
  EXPECT_FALSE(put.parts[1].digest);
  EXPECT_EQ(put.parts[1].parent, "a");
  EXPECT_EQ(put.parts[1].stretch, "s");
  EXPECT_EQ(put.parts[1].part, (PartRef{.group = 1}));
}

TEST(StreamMessagesTest, PrefetchesComeBackAsTheyWere) {
  PrefetchRequest request;
  const std::string request_body = Encode(SamplePrefetch());
  ASSERT_TRUE(Decode(AsBytes(request_body), request));
  EXPECT_EQ(request.scope.space, 5u);
  EXPECT_EQ(request.cancel, 9u);
  EXPECT_EQ(request.parts, SamplePrefetch().parts);
  EXPECT_THAT(request.keys.keys, ElementsAre("a", "b"));
  absl::Status status;
  PrefetchAnswer answer;
  const std::string answer_body =
      Encode(PrefetchAnswer{.prefetch = 11, .queued = 4, .in_ram = 3, .absent = 2, .dropped = 1});
  ASSERT_TRUE(Decode(AsBytes(answer_body), status, answer));
  EXPECT_OK(status);
  EXPECT_EQ(answer.prefetch, 11u);
  EXPECT_EQ(answer.queued, 4u);
  EXPECT_EQ(answer.in_ram, 3u);
  EXPECT_EQ(answer.absent, 2u);
  EXPECT_EQ(answer.dropped, 1u);
}

TEST(StreamMessagesTest, AnswersComeBackAsTheyWere) {
  absl::Status status;
  MatchAnswer match;
  const std::string match_body = Encode(SampleMatchAnswer());
  ASSERT_TRUE(Decode(AsBytes(match_body), status, match));
  EXPECT_OK(status);
  EXPECT_EQ(match.fetch_bytes, 98304u);
  ASSERT_EQ(match.runs.size(), 2u);
  EXPECT_EQ(match.runs[1].level, 3);
  EXPECT_THAT(match.pending, ElementsAre(4, 5));
  EXPECT_EQ(match.present, "\x07");

  OfferAnswer offer;
  const std::string offer_body = Encode(SampleOfferAnswer());
  ASSERT_TRUE(Decode(AsBytes(offer_body), status, offer));
  ASSERT_EQ(offer.verdicts.size(), 4u);
  EXPECT_EQ(offer.verdicts[1].digest, kDigest);
  EXPECT_THAT(offer.verdicts[3].reason, StatusIs(absl::StatusCode::kInvalidArgument, "size is 0"));

  GetAnswer get;
  const std::string get_body = Encode(SampleGetAnswer());
  ASSERT_TRUE(Decode(AsBytes(get_body), status, get));
  ASSERT_EQ(get.parts.size(), 3u);
  EXPECT_EQ(get.parts[0].digest, kDigest);
  EXPECT_EQ(get.parts[0].depth, 6u);
  EXPECT_FALSE(get.parts[0].encoded);
  EXPECT_FALSE(get.parts[0].fidelity);
  EXPECT_THAT(get.parts[1].status, StatusIs(absl::StatusCode::kNotFound, "no such part"));
  EXPECT_TRUE(get.parts[2].encoded);
  EXPECT_EQ(get.parts[2].fidelity, SampleGetAnswer().parts[2].fidelity);
  EXPECT_EQ(get.parts[2].put_digest, SampleGetAnswer().parts[2].put_digest);
  EXPECT_EQ(get.parts[2].runs, SampleGetAnswer().parts[2].runs);

  PutAnswer put;
  const std::string put_body = Encode(SamplePutAnswer());
  ASSERT_TRUE(Decode(AsBytes(put_body), status, put));
  ASSERT_EQ(put.parts.size(), 2u);
  EXPECT_EQ(put.parts[0].outcome, 1);
  EXPECT_THAT(put.parts[1].status, StatusIs(absl::StatusCode::kResourceExhausted, "no room"));

  const std::string error = EncodeError(absl::UnavailableError(std::string(2000, 'x')));
  ASSERT_TRUE(Decode(AsBytes(error), status, get));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, std::string(512, 'x')));
}

using Reading = std::function<bool(ByteView)>;
template <typename T>
Reading Reads() {
  return [](ByteView body) {
    T value;
    return Decode(body, value);
  };
}
template <typename T>
Reading ReadsAnswer() {
  return [](ByteView body) {
    T value;
    absl::Status status;
    return Decode(body, status, value);
  };
}

TEST(StreamMessagesTest, ABodyThatIsCutOrHasBytesLeftOverIsMalformed) {
  const std::map<std::string, Reading> readings = {
      {"hello", Reads<Hello>()},
      {"register", Reads<RegisterRequest>()},
      {"unregister", Reads<UnregisterRequest>()},
      {"match", Reads<MatchRequest>()},
      {"offer", Reads<OfferRequest>()},
      {"get", Reads<GetRequest>()},
      {"put", Reads<PutRequest>()},
      {"touch", Reads<TouchRequest>()},
      {"prefetch", Reads<PrefetchRequest>()},
      {"close", Reads<Close>()},
      {"error", ReadsAnswer<GetAnswer>()},
      {"welcome", ReadsAnswer<Welcome>()},
      {"registered", ReadsAnswer<RegisterAnswer>()},
      {"unregistered", ReadsAnswer<UnregisterAnswer>()},
      {"matched", ReadsAnswer<MatchAnswer>()},
      {"offered", ReadsAnswer<OfferAnswer>()},
      {"got", ReadsAnswer<GetAnswer>()},
      {"stored", ReadsAnswer<PutAnswer>()},
      {"touched", ReadsAnswer<TouchAnswer>()},
      {"prefetched", ReadsAnswer<PrefetchAnswer>()}};
  const auto frames = SampleFrames();
  for (const auto& [name, read] : readings) {
    const std::string& frame = frames.at(name);
    const ByteView body = BodyOf(frame);
    EXPECT_TRUE(read(body)) << name;
    for (size_t size = 0; size < body.size(); ++size) {
      EXPECT_FALSE(read(body.first(size))) << name << " cut to " << size;
    }
    const std::string longer = std::string(AsText(body)) + '\0';
    EXPECT_FALSE(read(AsBytes(longer))) << name;
  }
}

TEST(StreamMessagesTest, ACountThatIsALieTakesNoMemory) {
  std::string body = Encode(TouchRequest{.scope = {.space = 5}});
  // Behind the space and the empty salt: how many keys there are.
  StoreLittle(body.data() + 10, uint32_t{65536});
  TouchRequest touch;
  EXPECT_FALSE(Decode(AsBytes(body), touch));
  EXPECT_THAT(touch.keys.keys, IsEmpty());
}

TEST(StreamMessagesTest, NumbersThatStandForNothingAreMalformed) {
  std::string body = Encode(RegisterRequest{.bytes = 1});
  RegisterRequest region;
  body[0] = 4;
  EXPECT_FALSE(Decode(AsBytes(body), region));
  body[0] = 0;
  EXPECT_FALSE(Decode(AsBytes(body), region));
  Close close;
  EXPECT_FALSE(
      Decode(AsBytes(Encode(Close{.reason = static_cast<CloseReason>(kCloseReasonCount)})), close));
  std::string error = EncodeError(absl::NotFoundError("x"));
  error[0] = 17;
  absl::Status status;
  TouchAnswer touch;
  EXPECT_FALSE(Decode(AsBytes(error), status, touch));
  // A refusal has a reason, and a failure an error.
  OfferAnswer offer;
  const std::string refused =
      std::string(1, '\0') + std::string(8, '\0') + std::string("\x01\0\0\0\x04\0", 6);
  EXPECT_FALSE(Decode(AsBytes(refused), status, offer));
  PutAnswer put;
  const std::string failed = std::string("\0\x01\0\0\0\0\0\0\0", 9);
  EXPECT_FALSE(Decode(AsBytes(failed), status, put));
}

}  // namespace
}  // namespace mnemo::stream

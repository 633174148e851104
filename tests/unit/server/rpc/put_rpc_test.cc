#include <algorithm>
#include <functional>
#include <thread>

#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

v1::PutRequest DataOf(uint32_t index, uint64_t offset, const std::string& bytes) {
  v1::PutRequest request;
  request.mutable_data()->set_index(index);
  request.mutable_data()->set_offset(offset);
  request.mutable_data()->set_data(bytes);
  return request;
}

class PutRpcTest : public RpcTest {
 protected:
  PutRpcTest() {
    Open(OpaqueSpace());
    Open(KvSpace());
  }
  // Sends these messages, whatever they are, then ends the stream and reads.
  PutAnswer Send(const std::vector<v1::PutRequest>& messages, bool half_close = true) {
    PutAnswer answer;
    grpc::ClientContext context;
    auto stream = blocks_->Put(&context);
    for (const v1::PutRequest& message : messages) {
      if (!stream->Write(message)) break;
    }
    if (half_close) stream->WritesDone();
    v1::PutResponse response;
    while (stream->Read(&response)) {
      if (response.has_grant()) answer.grants.push_back(response.grant());
      if (response.has_result()) answer.results[response.result().index()] = response.result();
    }
    answer.status = stream->Finish();
    return answer;
  }
  v1::PutRequest Start(const std::vector<ClientPart>& parts) {
    v1::PutRequest request;
    *request.mutable_start() = StartOf("opaque", parts);
    return request;
  }
  // Offers an opaque part; the reservation that it was given.
  uint64_t Reserve(const std::string& key, uint64_t size) {
    grpc::ClientContext context;
    v1::OfferRequest offer;
    *offer.mutable_space() = Ref("opaque");
    offer.add_parts()->set_key(key);
    offer.mutable_parts(0)->set_size(size);
    v1::OfferResponse offered;
    EXPECT_THAT(blocks_->Offer(&context, offer, &offered), GrpcOk());
    EXPECT_NE(offered.reservation(), 0u);
    return offered.reservation();
  }
  std::string Read(const std::string& key) {
    GetAnswer answer = Get(GetOf("opaque", {key}));
    return answer.bytes[0];
  }
  bool Present(const std::string& key) {
    return Get(GetOf("opaque", {key})).headers[0].error().code() == 0;
  }
  void ExpectNothingHeld() {
    EXPECT_EQ(node_.store().parts(), 0u);
    EXPECT_EQ(node_.store().Levels()[0].stats.used_bytes, 0u);
  }
};

TEST_F(PutRpcTest, StoresWhatComesAndGivesItBack) {
  // Over the window of a grant, over a message, and not a multiple of either.
  const std::string bytes = Bytes(1, 20 * kMiB + 12345);
  const PutAnswer answer = Put("opaque", {{.key = "k", .bytes = bytes}});
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  EXPECT_EQ(answer.grants[0].verdicts(0).verdict(), v1::VERDICT_WANT);
  EXPECT_GE(answer.grants.size(), 3u);
  EXPECT_EQ(answer.grants.back().bytes_granted(), bytes.size());
  EXPECT_EQ(Read("k"), bytes);
  const Digest128 digest = DigestOf(AsBytes(bytes));
  EXPECT_EQ(answer.results.at(0).digest().high(), digest.high);
  EXPECT_EQ(answer.results.at(0).digest().low(), digest.low);
}

TEST_F(PutRpcTest, StoresManyPartsOfOneStream) {
  std::vector<ClientPart> parts;
  for (uint32_t i = 0; i < 100; ++i) {
    parts.push_back({.key = "k" + std::to_string(i), .bytes = Bytes(i, 1 + i * 997)});
  }
  const PutAnswer answer = Put("opaque", parts);
  ASSERT_THAT(answer.status, GrpcOk());
  ASSERT_EQ(answer.results.size(), parts.size());
  for (const ClientPart& part : parts) EXPECT_EQ(Read(part.key), part.bytes);
}

TEST_F(PutRpcTest, AcceptsAMegabyteBeforeTheGrant) {
  const std::string bytes = Bytes(1, kMiB);
  const PutAnswer answer = Send({Start({{.key = "k", .bytes = bytes}}), DataOf(0, 0, bytes)});
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
}

TEST_F(PutRpcTest, DropsWhatCameEarlyForAPartThatIsHere) {
  const std::string first = Bytes(1, kMiB);
  const std::string second = Bytes(2, 2 * kMiB);
  PutOpaque("first", first);
  // A client that did not wait for the grant cannot know that the first is here.
  const PutAnswer answer =
      Send({Start({{.key = "first", .bytes = first}, {.key = "second", .bytes = second}}),
            DataOf(0, 0, first), DataOf(1, 0, second.substr(0, kMiB)),
            DataOf(1, kMiB, second.substr(kMiB))});
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_ALREADY_PRESENT);
  EXPECT_EQ(answer.results.at(1).outcome(), v1::PUT_OUTCOME_STORED);
  EXPECT_EQ(Read("second"), second);
}

TEST_F(PutRpcTest, KeepsTheFirstBytesAndSaysSo) {
  const std::string first = Bytes(1, 1000);
  PutOpaque("k", first);
  std::vector<ClientPart> again = {{.key = "k", .bytes = Bytes(2, 1000)}};
  v1::PutStart start = StartOf("opaque", again);
  const Digest128 digest = DigestOf(AsBytes(again[0].bytes));
  start.mutable_parts(0)->mutable_digest()->set_high(digest.high);
  start.mutable_parts(0)->mutable_digest()->set_low(digest.low);
  const PutAnswer answer = Put(start, again);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_CONFLICT);
  EXPECT_EQ(answer.results.at(0).digest().high(), DigestOf(AsBytes(first)).high);
  EXPECT_EQ(Read("k"), first);
}

TEST_F(PutRpcTest, BytesWithAnotherDigestAreNotStored) {
  std::vector<ClientPart> parts = {{.key = "k", .bytes = Bytes(1, 1000)}};
  v1::PutStart start = StartOf("opaque", parts);
  start.mutable_parts(0)->mutable_digest()->set_high(1);
  const PutAnswer answer = Put(start, parts);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).error().code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_FALSE(Present("k"));
}

TEST_F(PutRpcTest, AStreamThatEndsEarlyLeavesWholePartsOnly) {
  const std::string whole = Bytes(1, 5000);
  const PutAnswer answer = Send({Start({{.key = "whole", .bytes = whole},
                                        {.key = "half", .bytes = Bytes(2, 5000)},
                                        {.key = "none", .bytes = Bytes(3, 5000)}}),
                                 DataOf(0, 0, whole), DataOf(1, 0, Bytes(2, 2500))});
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  EXPECT_THAT(answer.results.at(1).error().message(), HasSubstr("2500 of 5000 bytes"));
  EXPECT_THAT(answer.results.at(2).error().message(), HasSubstr("0 of 5000 bytes"));
  EXPECT_TRUE(Present("whole"));
  EXPECT_FALSE(Present("half"));
  EXPECT_EQ(node_.store().parts(), 1u);
}

TEST_F(PutRpcTest, ACancelledStreamLeavesNothingHalfApplied) {
  {
    grpc::ClientContext context;
    auto stream = blocks_->Put(&context);
    stream->Write(Start({{.key = "k", .bytes = Bytes(1, 4 * kMiB)}}));
    v1::PutResponse response;
    ASSERT_TRUE(stream->Read(&response));
    stream->Write(DataOf(0, 0, Bytes(1, kMiB)));
    EXPECT_EQ(node_.gate().bytes().used(), 4 * kMiB);
    context.TryCancel();
    stream->Finish();
  }
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Put", absl::StatusCode::kCancelled, 1);
  EXPECT_EQ(node_.gate().bytes().used(), 0u);
  ExpectNothingHeld();
}

TEST_F(PutRpcTest, TwoWritersOfOnePartStoreItOnce) {
  grpc::ClientContext context;
  auto stream = blocks_->Put(&context);
  const std::string bytes = Bytes(1, 2 * kMiB);
  stream->Write(Start({{.key = "k", .bytes = bytes}}));
  v1::PutResponse response;
  ASSERT_TRUE(stream->Read(&response));
  stream->Write(DataOf(0, 0, bytes.substr(0, kMiB)));
  // Until then another writer would be the first one.
  v1::MatchRequest match;
  *match.mutable_space() = Ref("opaque");
  match.add_keys("k");
  v1::MatchResponse matched;
  do {
    grpc::ClientContext match_context;
    ASSERT_THAT(blocks_->Match(&match_context, match, &matched), GrpcOk());
  } while (matched.pending().empty());
  const PutAnswer other = Put("opaque", {{.key = "k", .bytes = bytes.substr(0, 1)}});
  EXPECT_EQ(other.grants.at(0).verdicts(0).verdict(), v1::VERDICT_PENDING);
  EXPECT_EQ(other.results.at(0).error().code(), static_cast<int>(absl::StatusCode::kAborted));
  stream->Write(DataOf(0, kMiB, bytes.substr(kMiB)));
  while (stream->Read(&response)) {
  }
  EXPECT_THAT(stream->Finish(), GrpcOk());
  EXPECT_EQ(Read("k"), bytes);
}

struct BadPut {
  const char* name;
  std::function<std::vector<v1::PutRequest>(v1::PutRequest start)> messages;
  std::vector<std::string> says;
};

class BadPutTest : public PutRpcTest, public ::testing::WithParamInterface<BadPut> {};

TEST_P(BadPutTest, IsRefusedNamingFieldAndRangeAndNothingStays) {
  const v1::PutRequest start =
      Start({{.key = "a", .bytes = Bytes(1, 3 * kMiB)}, {.key = "b", .bytes = Bytes(2, 100)}});
  const PutAnswer answer = Send(GetParam().messages(start));
  for (const std::string& word : GetParam().says) {
    EXPECT_THAT(answer.status, GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr(word)));
  }
  ExpectNothingHeld();
}

std::vector<BadPut> BadPuts() {
  using Messages = std::vector<v1::PutRequest>;
  const std::string piece(1000, 'x');
  const auto changed = [](auto change) {
    return [change](v1::PutRequest start) {
      change(*start.mutable_start());
      return Messages{start};
    };
  };
  // The start, and these behind it.
  const auto then = [](const Messages& more) {
    return [more](const v1::PutRequest& start) {
      Messages all = {start};
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
  };
  return {
      {"DataFirst",
       [=](auto) { return Messages{DataOf(0, 0, piece)}; },
       {"data came before start"}},
      {"NoMessage", [=](auto) { return Messages{v1::PutRequest()}; }, {"start or data"}},
      {"Nothing", [=](auto) { return Messages{}; }, {"ended before start"}},
      {"StartTwice",
       [](auto start) {
         return Messages{start, start};
       },
       {"start came twice"}},
      {"WrongPart",
       then({DataOf(1, 0, piece)}),
       {"data is of part 1", "part 0 at offset 0 comes next"}},
      {"Gap", then({DataOf(0, 5, piece)}), {"at offset 5", "part 0 at offset 0 comes next"}},
      {"Again",
       then({DataOf(0, 0, piece), DataOf(0, 0, piece)}),
       {"part 0 at offset 1000 comes next"}},
      {"HugeOffset", then({DataOf(0, ~uint64_t{0}, piece)}), {"comes next"}},
      {"NoSuchPart", then({DataOf(7, 0, piece)}), {"data is of part 7"}},
      {"Empty", then({DataOf(0, 0, "")}), {"data is 0 bytes long", "1 to 1048576"}},
      {"TooLargeAPiece",
       then({DataOf(0, 0, std::string(kMiB + 1, 'x'))}),
       {"data is 1048577 bytes long", "1 to 1048576"}},
      {"NoSpace", changed([](v1::PutStart& s) { s.clear_space(); }), {"space is absent"}},
      {"NoParts",
       changed([](v1::PutStart& s) { s.clear_parts(); }),
       {"parts holds 0", "1 to 1024"}},
      {"TooManyParts",
       changed([](v1::PutStart& s) {
         while (s.parts_size() < 1025) *s.add_parts() = s.parts(0);
       }),
       {"parts holds 1025", "1 to 1024"}},
      {"UnknownDurability",
       changed([](v1::PutStart& s) { s.set_durability(static_cast<v1::Durability>(9)); }),
       {"durability is 9", "0 to 3"}},
      {"LongLife",
       changed([](v1::PutStart& s) { s.set_time_to_live_seconds(uint64_t{1} << 40); }),
       {"time_to_live_seconds"}},
      {"LongSalt", changed([](v1::PutStart& s) { s.set_salt(std::string(129, 's')); }), {"salt"}},
      {"GroupOutOfRange",
       changed([](v1::PutStart& s) { s.mutable_parts(1)->mutable_part()->set_group(32); }),
       {"parts[1].group is 32", "at most 31"}},
      {"RankOutOfRange",
       changed([](v1::PutStart& s) { s.mutable_parts(0)->mutable_part()->set_tp_rank(70000); }),
       {"parts[0].tp_rank is 70000", "at most 1023"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Puts, BadPutTest, ::testing::ValuesIn(BadPuts()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(PutRpcTest, DataBeyondTheGrantEndsTheStream) {
  const PutAnswer answer =
      Send({Start({{.key = "k", .bytes = Bytes(1, 3 * kMiB)}}), DataOf(0, 0, Bytes(1, kMiB)),
            DataOf(0, kMiB, Bytes(1, kMiB)), DataOf(0, 2 * kMiB, Bytes(1, 1000)),
            DataOf(0, 2 * kMiB + 1000, Bytes(1, kMiB))});
  EXPECT_THAT(answer.status,
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT,
                     HasSubstr("3146728 bytes of payload were sent; 3145728 were granted")));
  ExpectNothingHeld();
}

TEST_F(PutRpcTest, TheGrantOfOnePartDoesNotPayForAnotherThatIsUnwanted) {
  PutOpaque("here", Bytes(1, 2 * kMiB));
  const PutAnswer answer = Send({Start({{.key = "here", .bytes = Bytes(1, 2 * kMiB)},
                                        {.key = "k", .bytes = Bytes(2, 4 * kMiB)}}),
                                 DataOf(0, 0, Bytes(1, kMiB)), DataOf(0, kMiB, Bytes(1, kMiB))});
  EXPECT_THAT(answer.status, GrpcIs(grpc::StatusCode::INVALID_ARGUMENT,
                                    HasSubstr("part 1 at offset 0 comes next")));
}

TEST_F(PutRpcTest, NoMoreThanAMegabyteOfAnUnwantedPartIsDropped) {
  PutOpaque("here", Bytes(1, 2 * kMiB));
  const PutAnswer answer =
      Send({Start({{.key = "here", .bytes = Bytes(1, 2 * kMiB)}, {.key = "k", .bytes = "x"}}),
            DataOf(0, 0, Bytes(1, kMiB)), DataOf(0, kMiB, Bytes(1, kMiB))});
  EXPECT_THAT(answer.status, GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("granted")));
  EXPECT_FALSE(Present("k"));
}

// Parts that cannot be stored are answered one by one; the others go on.
struct BadPart {
  const char* name;
  std::function<void(v1::PartOffer&)> change;
  std::vector<std::string> says;
};

class BadPartTest : public PutRpcTest, public ::testing::WithParamInterface<BadPart> {};

TEST_P(BadPartTest, IsRefusedAloneNamingFieldAndRange) {
  const std::vector<ClientPart> parts = {{.key = "bad", .bytes = Bytes(1, kPartBytes)},
                                         {.key = "good", .bytes = Bytes(2, kPartBytes)}};
  v1::PutStart start = StartOf("kv", parts);
  GetParam().change(*start.mutable_parts(0));
  const PutAnswer answer = Put(start, parts);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.grants[0].verdicts(0).verdict(), v1::VERDICT_REFUSED);
  EXPECT_EQ(answer.results.at(0).error().code(),
            static_cast<int>(absl::StatusCode::kInvalidArgument));
  for (const std::string& word : GetParam().says) {
    EXPECT_THAT(answer.results.at(0).error().message(), HasSubstr(word));
    EXPECT_THAT(answer.grants[0].verdicts(0).reason().message(), HasSubstr(word));
  }
  EXPECT_EQ(answer.results.at(1).outcome(), v1::PUT_OUTCOME_STORED);
  EXPECT_EQ(node_.store().parts(), 1u);
}

INSTANTIATE_TEST_SUITE_P(
    Parts, BadPartTest,
    ::testing::Values(
        BadPart{"LongKey",
                [](v1::PartOffer& p) { p.set_key(std::string(65, 'k')); },
                {"key is 65 bytes long", "1 to 64"}},
        BadPart{"EmptyKey", [](v1::PartOffer& p) { p.clear_key(); }, {"key is 0 bytes", "1 to 64"}},
        BadPart{"LongParent",
                [](v1::PartOffer& p) { p.set_parent(std::string(65, 'k')); },
                {"parent is 65 bytes long", "0 to 64"}},
        BadPart{"Stretch",
                [](v1::PartOffer& p) { p.set_stretch("s"); },
                {"stretch", "no chain affinity"}},
        BadPart{"NoSuchGroup",
                [](v1::PartOffer& p) { p.mutable_part()->set_group(2); },
                {"group", "2"}},
        BadPart{"NoSuchRank",
                [](v1::PartOffer& p) { p.mutable_part()->set_tp_rank(1); },
                {"tp_rank", "1"}},
        BadPart{"NoSuchStage",
                [](v1::PartOffer& p) { p.mutable_part()->set_pp_rank(1); },
                {"pp_rank", "1"}},
        BadPart{"SizeThatLies",
                [](v1::PartOffer& p) { p.set_size(kMiB); },
                {"size is 1048576", "is 32768 bytes"}},
        BadPart{
            "SizeZero", [](v1::PartOffer& p) { p.set_size(0); }, {"size is 0", "is 32768 bytes"}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(PutRpcTest, AMissingSaltIsRefusedWhereItIsRequired) {
  v1::Space salted = OpaqueSpace("salted");
  salted.set_salt_required(true);
  Open(salted);
  const PutAnswer answer = Put("salted", {{.key = "k", .bytes = "x"}});
  EXPECT_THAT(answer.status, GrpcIs(grpc::StatusCode::INVALID_ARGUMENT,
                                    AllOf(HasSubstr("salt"), HasSubstr("1 to 128"))));
}

TEST_F(PutRpcTest, OpaqueSizesHaveTheirRange) {
  std::vector<ClientPart> parts = {{.key = "k", .bytes = "x"}};
  v1::PutStart start = StartOf("opaque", parts);
  start.mutable_parts(0)->set_size(kMaxPartBytes + 1);
  const PutAnswer answer = Put(start, parts);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_THAT(answer.results.at(0).error().message(),
              AllOf(HasSubstr("size is 67108865"), HasSubstr("1 to 67108864")));
}

TEST_F(PutRpcTest, MoreThanAGigabyteIsRefusedBeforeAnyOfItComes) {
  v1::PutStart start = StartOf("opaque", {});
  for (int i = 0; i < 17; ++i) {
    v1::PartOffer* part = start.add_parts();
    part->set_key("k" + std::to_string(i));
    part->set_size(kMaxPartBytes);
  }
  const PutAnswer answer = Put(start, {});
  EXPECT_THAT(answer.status, GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("1073741824")));
}

TEST_F(PutRpcTest, AReservationIsKeptPartByPart) {
  grpc::ClientContext context;
  v1::OfferRequest offer;
  *offer.mutable_space() = Ref("opaque");
  for (const char* key : {"a", "b"}) {
    v1::PartOffer* part = offer.add_parts();
    part->set_key(key);
    part->set_size(10);
  }
  v1::OfferResponse offered;
  ASSERT_THAT(blocks_->Offer(&context, offer, &offered), GrpcOk());
  EXPECT_EQ(offered.verdicts(0).verdict(), v1::VERDICT_WANT);
  EXPECT_NE(offered.reservation(), 0u);

  // Others see both as being written.
  const std::vector<ClientPart> a = {{.key = "a", .bytes = "0123456789"}};
  EXPECT_EQ(Put("opaque", a).grants.at(0).verdicts(0).verdict(), v1::VERDICT_PENDING);
  // The holder stores one; the other stays reserved.
  v1::PutStart start = StartOf("opaque", a);
  start.set_reservation(offered.reservation());
  EXPECT_EQ(Put(start, a).results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  const std::vector<ClientPart> b = {{.key = "b", .bytes = "0123456789"}};
  EXPECT_EQ(Put("opaque", b).grants.at(0).verdicts(0).verdict(), v1::VERDICT_PENDING);
  node_.clock().Advance(std::chrono::seconds(6));
  node_.blocks().ExpireReservations();
  EXPECT_EQ(Put("opaque", b).results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
}

TEST_F(PutRpcTest, AReservationEndsWithItsPart) {
  const std::vector<ClientPart> a = {{.key = "a", .bytes = "0123456789"}};
  v1::PutStart start = StartOf("opaque", a);
  start.set_reservation(Reserve("a", 10));
  ASSERT_EQ(Put(start, a).results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  grpc::ClientContext context;
  v1::DeleteRequest request;
  *request.mutable_space() = Ref("opaque");
  request.mutable_keys()->add_keys("a");
  v1::DeleteResponse response;
  ASSERT_THAT(blocks_->Delete(&context, request, &response), GrpcOk());
  EXPECT_EQ(Put("opaque", a).results.at(0).outcome(), v1::PUT_OUTCOME_STORED)
      << "nobody writes it any more";
}

TEST_F(PutRpcTest, AStreamThatBreaksOffGivesBackWhatWasReserved) {
  const std::vector<ClientPart> a = {{.key = "a", .bytes = "0123456789"}};
  {
    grpc::ClientContext context;
    auto stream = blocks_->Put(&context);
    v1::PutRequest request;
    *request.mutable_start() = StartOf("opaque", a);
    request.mutable_start()->set_reservation(Reserve("a", 10));
    stream->Write(request);
    v1::PutResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  // Whether the server saw the cancellation or the end of the input first.
  while (node_.gate().watchdog().streams() != 0) std::this_thread::yield();
  EXPECT_EQ(Put("opaque", a).results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
}

TEST_F(PutRpcTest, ThePutsOwnTimeToLiveWinsOverItsSpaces) {
  v1::Space space = OpaqueSpace("short-lived");
  space.mutable_policy()->set_time_to_live_seconds(1000);
  Open(space);
  const std::vector<ClientPart> own = {{.key = "own", .bytes = "x"}};
  v1::PutStart start = StartOf("short-lived", own);
  start.set_time_to_live_seconds(50);
  ASSERT_EQ(Put(start, own).results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  ASSERT_THAT(Put("short-lived", {{.key = "plain", .bytes = "x"}}).status, GrpcOk());

  grpc::ClientContext context;
  v1::DescribeRequest request;
  *request.mutable_space() = Ref("short-lived");
  request.mutable_keys()->add_keys("own");
  request.mutable_keys()->add_keys("plain");
  v1::DescribeResponse described;
  ASSERT_THAT(blocks_->Describe(&context, request, &described), GrpcOk());
  ASSERT_EQ(described.parts_size(), 2);
  const int64_t now_us = node_.clock().Wall().nanos / 1000;
  EXPECT_EQ(described.parts(0).expires_unix_us(), now_us + 50'000'000);
  EXPECT_EQ(described.parts(1).expires_unix_us(), now_us + 1000'000'000);
}

}  // namespace
}  // namespace mnemo

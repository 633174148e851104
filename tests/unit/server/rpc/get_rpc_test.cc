#include <thread>

#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kRun = 4096;     // K or V of one layer of KvSpace
constexpr uint64_t kLayer = 2 * kRun;

class GetRpcTest : public RpcTest {
 protected:
  GetRpcTest() {
    Open(OpaqueSpace());
    Open(KvSpace());
    v1::Space kv_major = KvSpace("kv-major");
    for (auto& group : *kv_major.mutable_groups()) group.set_layout(v1::LAYOUT_KV_MAJOR);
    Open(kv_major);
    v1::Space token_major = KvSpace("token-major");
    for (auto& group : *token_major.mutable_groups()) group.set_layout(v1::LAYOUT_TOKEN_MAJOR);
    Open(token_major);
  }
  void PutKv(const std::string& space, const std::string& key, const std::string& bytes) {
    const PutAnswer answer = Put(space, {{.key = key, .bytes = bytes}});
    ASSERT_THAT(answer.status, GrpcOk());
    ASSERT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_STORED);
  }
  void ExpectRefused(const v1::GetRequest& request, grpc::StatusCode code,
                     const std::string& says) {
    EXPECT_THAT(Get(request).status, GrpcIs(code, HasSubstr(says)));
  }
};

TEST_F(GetRpcTest, OneMissFailsAlone) {
  PutOpaque("a", Bytes(1, 1000));
  PutOpaque("c", Bytes(3, 2 * kMiB + 5));
  const GetAnswer answer = Get(GetOf("opaque", {"a", "b", "c"}));
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.bytes.at(0), Bytes(1, 1000));
  EXPECT_EQ(answer.headers.at(1).error().code(), static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_EQ(answer.bytes.count(1), 0u);
  EXPECT_EQ(answer.bytes.at(2), Bytes(3, 2 * kMiB + 5));
  const v1::GetHeader& header = answer.headers.at(2);
  EXPECT_EQ(header.size(), 2 * kMiB + 5);
  EXPECT_EQ(header.bytes_following(), 2 * kMiB + 5);
  EXPECT_EQ(header.level(), v1::LEVEL_L1);
  EXPECT_EQ(header.digest().high(), DigestOf(AsBytes(Bytes(3, 2 * kMiB + 5))).high);
}

TEST_F(GetRpcTest, OffsetsAndSizesOfPiecesAreThoseOfTheContract) {
  PutOpaque("k", Bytes(1, 3 * kMiB + 7));
  const GetAnswer answer = Get(GetOf("opaque", {"k"}));
  uint64_t next = 0;
  for (const v1::GetResponse& message : answer.messages) {
    if (!message.has_data()) continue;
    EXPECT_EQ(message.data().offset(), next);
    EXPECT_LE(message.data().data().size(), kMiB);
    next += message.data().data().size();
  }
  EXPECT_EQ(next, 3 * kMiB + 7);
}

TEST_F(GetRpcTest, ReadsALayerRange) {
  const std::string bytes = Bytes(1, kPartBytes);
  PutKv("kv", "k", bytes);
  v1::GetRequest request = GetOf("kv", {"k"});
  request.set_first_layer(1);
  request.set_layer_count(2);
  const GetAnswer answer = Get(request);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.bytes.at(0), bytes.substr(kLayer, 2 * kLayer));
  EXPECT_EQ(answer.headers.at(0).bytes_following(), 2 * kLayer);
  EXPECT_EQ(answer.headers.at(0).size(), kPartBytes);
  EXPECT_EQ(answer.messages[1].data().offset(), kLayer);
}

TEST_F(GetRpcTest, ALayerOfAKvMajorPartIsTwoRuns) {
  const std::string bytes = Bytes(1, kPartBytes);
  PutKv("kv-major", "k", bytes);
  v1::GetRequest request = GetOf("kv-major", {"k"});
  request.set_first_layer(3);
  const GetAnswer answer = Get(request);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.bytes.at(0), bytes.substr(3 * kRun, kRun) + bytes.substr(7 * kRun, kRun));
  EXPECT_EQ(answer.messages[1].data().offset(), 3 * kRun);
  EXPECT_EQ(answer.messages[2].data().offset(), 7 * kRun);
}

TEST_F(GetRpcTest, LayerMajorSendsAllHeadersThenLayerByLayer) {
  PutKv("kv", "a", Bytes(1, kPartBytes));
  PutKv("kv", "b", Bytes(2, kPartBytes));
  v1::GetRequest request = GetOf("kv", {"a", "miss", "b"});
  request.set_order(v1::READ_ORDER_LAYER_MAJOR);
  const GetAnswer answer = Get(request);
  ASSERT_THAT(answer.status, GrpcOk());
  ASSERT_EQ(answer.messages.size(), 3u + 4 * 2);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(answer.messages[i].has_header());
  for (uint32_t layer = 0; layer < 4; ++layer) {
    EXPECT_EQ(answer.messages[3 + 2 * layer].data().index(), 0u);
    EXPECT_EQ(answer.messages[4 + 2 * layer].data().index(), 2u);
    EXPECT_EQ(answer.messages[4 + 2 * layer].data().offset(), layer * kLayer);
  }
  EXPECT_EQ(answer.bytes.at(0), Bytes(1, kPartBytes));
  EXPECT_EQ(answer.bytes.at(2), Bytes(2, kPartBytes));
}

TEST_F(GetRpcTest, LayerMajorReadsAPartOnDiskOnce) {
  PutKv("kv", "a", Bytes(1, kPartBytes));
  grpc::ClientContext context;
  v1::FlushResponse flushed;
  ASSERT_THAT(blocks_->Flush(&context, {}, &flushed), GrpcOk());
  v1::GetRequest request = GetOf("kv", {"a"});
  request.set_order(v1::READ_ORDER_LAYER_MAJOR);
  request.set_first_layer(1);
  const GetAnswer answer = Get(request);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.bytes.at(0), Bytes(1, kPartBytes).substr(kLayer));
}

TEST_F(GetRpcTest, PartsComeByKeyThenPart) {
  v1::PartId window;
  window.set_group(1);
  const std::vector<ClientPart> parts = {{.key = "a", .bytes = Bytes(1, kPartBytes)},
                                         {.key = "a", .part = window, .bytes = Bytes(2, kPartBytes)},
                                         {.key = "b", .part = window, .bytes = Bytes(3, kPartBytes)}};
  ASSERT_THAT(Put("kv", parts).status, GrpcOk());
  v1::GetRequest request = GetOf("kv", {"a", "b"});
  request.add_parts();
  *request.add_parts() = window;
  const GetAnswer answer = Get(request);
  ASSERT_THAT(answer.status, GrpcOk());
  EXPECT_EQ(answer.bytes.at(0), Bytes(1, kPartBytes));
  EXPECT_EQ(answer.bytes.at(1), Bytes(2, kPartBytes));
  EXPECT_NE(answer.headers.at(2).error().code(), 0);
  EXPECT_EQ(answer.bytes.at(3), Bytes(3, kPartBytes));
}

TEST_F(GetRpcTest, BadRequestsNameFieldAndRange) {
  constexpr auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;
  ExpectRefused(GetOf("opaque", {}), kInvalid, "keys holds 0; it must hold 1 to 4096");
  ExpectRefused(GetOf("opaque", std::vector<std::string>(4097, "k")), kInvalid, "keys holds 4097");
  ExpectRefused(GetOf("opaque", {"a", ""}), kInvalid, "keys[1] is 0 bytes long; it must be 1 to 64");
  ExpectRefused(GetOf("opaque", {std::string(65, 'k')}), kInvalid, "keys[0] is 65 bytes long");
  ExpectRefused(GetOf("nowhere", {"a"}), grpc::StatusCode::NOT_FOUND, "nowhere");
  v1::GetRequest request = GetOf("kv", {"k"});
  request.set_first_layer(4);
  ExpectRefused(request, kInvalid, "the part has 4");
  request.set_first_layer(1);
  request.set_layer_count(0xffffffff);
  ExpectRefused(request, kInvalid, "the part has 4");
  request = GetOf("token-major", {"k"});
  request.set_first_layer(1);
  ExpectRefused(request, grpc::StatusCode::FAILED_PRECONDITION, "read whole");
  request = GetOf("kv", {"k"});
  request.add_parts()->set_group(2);
  ExpectRefused(request, kInvalid, "group");
  request.mutable_parts(0)->set_group(40);
  ExpectRefused(request, kInvalid, "parts[0].group is 40");
  request = GetOf("kv", {"k"});
  request.set_order(static_cast<v1::ReadOrder>(3));
  ExpectRefused(request, kInvalid, "order is 3; it must be 0 to 2");
  request = GetOf("kv", {"k"});
  request.add_stretches("s");
  ExpectRefused(request, kInvalid, "stretches holds 1; it must hold 0");
  request = GetOf("kv", {"k"});
  for (int i = 0; i < 1025; ++i) request.add_parts();
  ExpectRefused(request, kInvalid, "parts holds 1025; it must hold at most 1024");
  request = GetOf("kv", std::vector<std::string>(100, "k"));
  for (int i = 0; i < 200; ++i) request.add_parts();
  ExpectRefused(request, kInvalid, "keys times parts is 20000; it must be at most 16384");
}

TEST_F(GetRpcTest, AMessageThatIsNoRequestIsRefused) {
  grpc::ClientContext context;
  v1::GetRequest request;
  request.mutable_space()->set_name("\xff\xfe");  // not UTF-8
  auto stream = blocks_->Get(&context, request);
  v1::GetResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("GetRequest")));
}

TEST_F(GetRpcTest, AReadEndsTheLeaseThatItFulfils) {
  PutOpaque("k", Bytes(1, 1000));
  v1::MatchRequest match;
  *match.mutable_space() = Ref("opaque");
  match.add_keys("k");
  match.set_lease_ms(60000);
  v1::MatchResponse matched;
  ASSERT_THAT(Match(match, &matched), GrpcOk());
  ASSERT_NE(matched.lease(), 0u);
  v1::GetRequest request = GetOf("opaque", {"k"});
  request.set_lease(matched.lease());
  ASSERT_THAT(Get(request).status, GrpcOk());
  grpc::ClientContext context;
  v1::RenewRequest renew;
  renew.set_lease(matched.lease());
  renew.set_lease_ms(1000);
  v1::RenewResponse renewed;
  EXPECT_THAT(blocks_->Renew(&context, renew, &renewed),
              GrpcIs(grpc::StatusCode::NOT_FOUND, testing::_));
}

TEST_F(GetRpcTest, ACancelledReadGivesBackWhatItClaimed) {
  PutOpaque("k", Bytes(1, 40 * kMiB));
  const auto narrow = v1::BlockService::NewStub(node_.NewChannel(/*small_windows=*/true));
  grpc::ClientContext context;
  auto stream = narrow->Get(&context, GetOf("opaque", {"k"}));
  v1::GetResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(node_.gate().bytes().used(), 40 * kMiB);
  context.TryCancel();
  stream->Finish();
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Get", absl::StatusCode::kCancelled, 1);
  EXPECT_EQ(node_.gate().bytes().used(), 0u);
}

// With a budget of one large read.
class NarrowGateTest : public GetRpcTest {
 protected:
  void Occupy() {
    ASSERT_EQ(held_.Acquire(node_.gate().bytes().capacity(), [] {}),
              ByteBudget::Claim::Outcome::kGranted);
  }
  ByteBudget::Claim held_{node_.gate().bytes()};
};

TEST_F(NarrowGateTest, ReadsAndWritesWaitForBytesAndGoOn) {
  PutOpaque("k", Bytes(1, 1000));
  Occupy();
  grpc::ClientContext get_context;
  auto get = blocks_->Get(&get_context, GetOf("opaque", {"k"}));
  grpc::ClientContext put_context;
  auto put = blocks_->Put(&put_context);
  v1::PutRequest start;
  *start.mutable_start() = StartOf("opaque", {{.key = "other", .bytes = "x"}});
  put->Write(start);
  held_.Release();
  v1::GetResponse read;
  EXPECT_TRUE(get->Read(&read));
  v1::PutResponse granted;
  EXPECT_TRUE(put->Read(&granted));
  while (get->Read(&read)) {
  }
  EXPECT_THAT(get->Finish(), GrpcOk());
  put->WritesDone();
  while (put->Read(&granted)) {
  }
  EXPECT_THAT(put->Finish(), GrpcOk());
}

TEST_F(NarrowGateTest, ACallThatWaitsForBytesEndsWhenItIsCancelled) {
  PutOpaque("k", Bytes(1, 1000));
  Occupy();
  grpc::ClientContext get_context;
  auto get = blocks_->Get(&get_context, GetOf("opaque", {"k"}));
  grpc::ClientContext put_context;
  auto put = blocks_->Put(&put_context);
  v1::PutRequest start;
  *start.mutable_start() = StartOf("opaque", {{.key = "other", .bytes = "x"}});
  put->Write(start);
  while (node_.gate().watchdog().streams() < 2) std::this_thread::yield();
  get_context.TryCancel();
  put_context.TryCancel();
  EXPECT_THAT(get->Finish(), GrpcIs(grpc::StatusCode::CANCELLED, testing::_));
  EXPECT_THAT(put->Finish(), GrpcIs(grpc::StatusCode::CANCELLED, testing::_));
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Get", absl::StatusCode::kCancelled, 1);
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Put", absl::StatusCode::kCancelled, 1);
}

TEST_F(NarrowGateTest, ShutdownEndsCallsThatWaitForBytes) {
  PutOpaque("k", Bytes(1, 1000));
  Occupy();
  grpc::ClientContext context;
  auto get = blocks_->Get(&context, GetOf("opaque", {"k"}));
  // A unary call behind it tells that the read has reached the server.
  grpc::ClientContext flush_context;
  v1::FlushResponse flushed;
  ASSERT_THAT(blocks_->Flush(&flush_context, {}, &flushed), GrpcOk());
  node_.Shutdown();
  EXPECT_FALSE(get->Finish().ok());
}

}  // namespace
}  // namespace mnemo

// Clients that stand still, with a clock that only the test turns.
#include <thread>

#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr Nanos kLong = std::chrono::seconds(11);
constexpr Nanos kShort = std::chrono::seconds(9);

class StallRpcTest : public RpcTest {
 protected:
  StallRpcTest() { Open(OpaqueSpace()); }
  // Time passes, and the watchdog looks.
  void Pass(Nanos time) {
    node_.clock().Advance(time);
    node_.gate().watchdog().Scan();
  }
  // Until one stream waits for its client to send.
  void AwaitReading() {
    while (node_.gate().watchdog().waiting().for_input != 1) std::this_thread::yield();
  }
  // Until the server knows that all it wrote was taken.
  void AwaitWritten() {
    while (node_.gate().watchdog().waiting().for_output != 0) std::this_thread::yield();
  }
};

TEST_F(StallRpcTest, AWriterThatNeverSendsIsToldWhyItsStreamEnds) {
  grpc::ClientContext context;
  auto stream = blocks_->Put(&context);
  v1::PutRequest start;
  *start.mutable_start() = StartOf("opaque", {{.key = "k", .bytes = Bytes(1, 4 * kMiB)}});
  stream->Write(start);
  v1::PutResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(node_.gate().bytes().used(), 4 * kMiB);
  AwaitReading();
  AwaitWritten();  // an answer under way would be cut off, and the reason with it
  Pass(kShort);
  EXPECT_EQ(node_.observer().shed("stalled"), 0u);
  Pass(kLong - kShort);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_THAT(stream->Finish(),
              GrpcIs(grpc::StatusCode::DEADLINE_EXCEEDED, HasSubstr("sent nothing")));
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Put", absl::StatusCode::kDeadlineExceeded,
                                 1);
  EXPECT_EQ(node_.gate().bytes().used(), 0u);
  EXPECT_EQ(node_.store().Levels()[0].stats.used_bytes, 0u);
}

TEST_F(StallRpcTest, AWriterThatTricklesDoesNotLiveForEver) {
  grpc::ClientContext context;
  LiveLong(context);
  auto stream = blocks_->Put(&context);
  std::vector<ClientPart> parts;
  for (int i = 0; i < 100; ++i) parts.push_back({.key = "k" + std::to_string(i), .bytes = "x"});
  v1::PutRequest request;
  *request.mutable_start() = StartOf("opaque", parts);
  stream->Write(request);
  v1::PutResponse response;
  ASSERT_TRUE(stream->Read(&response));
  uint32_t sent = 0;
  // A byte every 3 s: none is late, but together they are hardly anything.
  for (; sent < parts.size(); ++sent) {
    request.mutable_data()->set_index(sent);
    request.mutable_data()->set_data("x");
    // The result says that it has arrived.
    if (!stream->Write(request) || !stream->Read(&response)) break;
    AwaitReading();
    Pass(std::chrono::seconds(3));
  }
  EXPECT_GE(sent, 3u);
  EXPECT_LT(sent, 20u);
  EXPECT_EQ(node_.observer().shed("stalled"), 1u);
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(StallRpcTest, AReaderThatNeverReadsIsCut) {
  PutOpaque("k", Bytes(1, 40 * kMiB));
  const auto narrow = v1::BlockService::NewStub(node_.NewChannel(/*small_windows=*/true));
  grpc::ClientContext context;
  LiveLong(context);
  auto stream = narrow->Get(&context, GetOf("opaque", {"k"}));
  v1::GetResponse response;
  ASSERT_TRUE(stream->Read(&response));
  PassUntilStalled(node_.clock(), node_.gate(), node_.observer());
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Get", absl::StatusCode::kDeadlineExceeded,
                                 1);
  EXPECT_EQ(node_.gate().bytes().used(), 0u);
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(StallRpcTest, AStreamThatGoesOnIsLeftAlone) {
  grpc::ClientContext context;
  LiveLong(context);
  auto stream = blocks_->Put(&context);
  const std::string bytes = Bytes(1, 24 * kMiB);
  v1::PutRequest request;
  *request.mutable_start() = StartOf("opaque", {{.key = "k", .bytes = bytes}});
  stream->Write(request);
  v1::PutResponse response;
  ASSERT_TRUE(stream->Read(&response));
  uint64_t granted = response.grant().bytes_granted();
  for (uint64_t at = 0; at < bytes.size(); at += kMiB) {
    request.mutable_data()->set_index(0);
    request.mutable_data()->set_offset(at);
    request.mutable_data()->set_data(bytes.substr(at, kMiB));
    ASSERT_TRUE(stream->Write(request));
    // Every 4 MiB a grant says that all of it has arrived.
    if ((at / kMiB) % 4 != 3 || granted == bytes.size()) continue;
    ASSERT_TRUE(stream->Read(&response));
    ASSERT_TRUE(response.has_grant());
    granted = response.grant().bytes_granted();
    Pass(kShort);
  }
  while (stream->Read(&response)) {
  }
  EXPECT_THAT(stream->Finish(), GrpcOk());
  EXPECT_EQ(node_.observer().shed("stalled"), 0u);
}

TEST_F(StallRpcTest, AWatchWithoutEventsIsLeftAlone) {
  grpc::ClientContext context;
  v1::WatchRequest request;
  *request.mutable_space() = Ref("opaque");
  auto watch = blocks_->Watch(&context, request);
  v1::WatchResponse events;
  ASSERT_TRUE(watch->Read(&events));
  for (int i = 0; i < 5; ++i) {
    AwaitWritten();
    Pass(kLong);
  }
  PutOpaque("k", "x");
  ASSERT_TRUE(watch->Read(&events));
  EXPECT_EQ(events.events(0).key(), "k");
  EXPECT_EQ(node_.observer().shed("stalled"), 0u);
  context.TryCancel();
  watch->Finish();
}

TEST_F(StallRpcTest, AWatchThatIsReadNowAndThenIsLeftAlone) {
  grpc::ClientContext context;
  v1::WatchRequest request;
  *request.mutable_space() = Ref("opaque");
  auto watch = blocks_->Watch(&context, request);
  v1::WatchResponse events;
  ASSERT_TRUE(watch->Read(&events));
  // An event is sent only when the one before was taken, so each wait is short,
  // though together they are long.
  for (int i = 0; i < 5; ++i) {
    Pass(kShort);
    PutOpaque("k" + std::to_string(i), "x");
    ASSERT_TRUE(watch->Read(&events));
    EXPECT_EQ(events.events(0).key(), "k" + std::to_string(i));
  }
  EXPECT_EQ(node_.observer().shed("stalled"), 0u);
  context.TryCancel();
  watch->Finish();
}

TEST_F(StallRpcTest, AWatchThatIsNotReadIsCut) {
  for (int i = 0; i < 20; ++i) {
    std::vector<ClientPart> parts;
    for (int j = 0; j < 1000; ++j) {
      parts.push_back({.key = std::string(50, 'k') + std::to_string(i * 1000 + j), .bytes = "x"});
    }
    ASSERT_THAT(Put("opaque", parts).status, GrpcOk());
  }
  const auto narrow = v1::BlockService::NewStub(node_.NewChannel(/*small_windows=*/true));
  grpc::ClientContext context;
  v1::WatchRequest request;
  *request.mutable_space() = Ref("opaque");
  auto watch = narrow->Watch(&context, request);
  v1::WatchResponse events;
  ASSERT_TRUE(watch->Read(&events));
  PassUntilStalled(node_.clock(), node_.gate(), node_.observer());
  node_.observer().AwaitFinished("mnemo.v1.BlockService/Watch",
                                 absl::StatusCode::kResourceExhausted, 1);
  while (watch->Read(&events)) {
  }
  EXPECT_FALSE(watch->Finish().ok());
}

}  // namespace
}  // namespace mnemo

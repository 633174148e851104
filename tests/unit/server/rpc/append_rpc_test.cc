// Append over real sockets: order, acknowledgement, refusals, flow, ends.
#include <absl/synchronization/notification.h>

#include <atomic>
#include <thread>

#include "tests/unit/server/rpc/context_rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr char kAppend[] = "mnemo.v1.ContextService/Append";

class AppendRpcTest : public ContextRpcTest {
 protected:
  using ContextRpcTest::ContextRpcTest;

  // Starts a stream that has been answered.
  std::unique_ptr<Stream> Open(grpc::ClientContext& context, const std::string& name,
                               uint64_t writer = 7) {
    auto stream = contexts_->Append(&context);
    EXPECT_TRUE(stream->Write(StartOf(name, writer)));
    EXPECT_TRUE(Answer(*stream).has_ready());
    return stream;
  }

  // Sends one message on a stream of its own, behind a start where `started`,
  // and expects to be refused.
  void ExpectRefused(const v1::AppendRequest& request, bool started, grpc::StatusCode code,
                     const std::string& why) {
    grpc::ClientContext context;
    auto stream = started ? Open(context, "c") : contexts_->Append(&context);
    EXPECT_TRUE(stream->Write(request));
    const v1::AppendResponse refusal = Answer(*stream);
    EXPECT_EQ(refusal.refusal().error().code(), code);
    EXPECT_THAT(refusal.refusal().error().message(), HasSubstr(why));
    v1::AppendResponse more;
    EXPECT_FALSE(stream->Read(&more));
    EXPECT_THAT(stream->Finish(), GrpcIs(code, HasSubstr(why)));
  }
};

TEST_F(AppendRpcTest, BatchesAreAcknowledgedInOrderWithoutWaiting) {
  const v1::Context made = Create("c");
  grpc::ClientContext context;
  auto stream = contexts_->Append(&context);
  ASSERT_TRUE(stream->Write(StartOf("c")));
  for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(stream->Write(BatchOf(i * 10, 10)));
  stream->WritesDone();
  const v1::AppendResponse ready = Answer(*stream);
  EXPECT_EQ(ready.ready().context_id(), made.id());
  EXPECT_EQ(ready.ready().next_position(), 0u);
  for (uint64_t i = 0; i < 5; ++i) {
    const v1::AppendResponse ack = Answer(*stream);
    EXPECT_EQ(ack.ack().next_position(), (i + 1) * 10);
    EXPECT_FALSE(ack.ack().repeated_batch());
  }
  EXPECT_THAT(stream->Finish(), GrpcOk());
  EXPECT_EQ(engine_.last_start().writer_id, 7u);
}

TEST_F(AppendRpcTest, AnotherStreamGoesOnWhereTheFirstStood) {
  Fill("c", 10);
  grpc::ClientContext context;
  auto stream = contexts_->Append(&context);
  ASSERT_TRUE(stream->Write(StartOf("c", 8)));
  EXPECT_EQ(Answer(*stream).ready().next_position(), 10u);
  ASSERT_TRUE(stream->Write(BatchOf(0, 10)));
  EXPECT_TRUE(Answer(*stream).ack().repeated_batch());
  ASSERT_TRUE(stream->Write(BatchOf(10, 1)));
  EXPECT_EQ(Answer(*stream).ack().next_position(), 11u);
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), GrpcOk());
}

TEST_F(AppendRpcTest, AGapIsRefusedWithThePositionThatIsExpected) {
  Fill("c", 10);
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  ASSERT_TRUE(stream->Write(BatchOf(20, 1)));
  const v1::AppendResponse refusal = Answer(*stream);
  EXPECT_EQ(refusal.refusal().error().code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(refusal.refusal().next_position(), 10u);
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::OUT_OF_RANGE, HasSubstr("expected 10")));
}

TEST_F(AppendRpcTest, ALaterStreamFencesTheEarlierOne) {
  Create("c");
  grpc::ClientContext first;
  auto earlier = Open(first, "c", 1);
  grpc::ClientContext second;
  auto later = Open(second, "c", 2);
  ASSERT_TRUE(earlier->Write(BatchOf(0, 1)));
  EXPECT_TRUE(Answer(*earlier).has_refusal());
  EXPECT_THAT(earlier->Finish(), GrpcIs(grpc::StatusCode::ABORTED, HasSubstr("later stream")));
  ASSERT_TRUE(later->Write(BatchOf(0, 1)));
  EXPECT_EQ(Answer(*later).ack().next_position(), 1u);
  later->WritesDone();
  EXPECT_THAT(later->Finish(), GrpcOk());
}

TEST_F(AppendRpcTest, MessagesOutOfTurnAreRefused) {
  Create("c");
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  ExpectRefused(BatchOf(0, 1), false, invalid, "tokens came before start");
  ExpectRefused(StartOf("c"), true, invalid, "start came twice");
  ExpectRefused({}, true, invalid, "it must be start or tokens");
  ExpectRefused(StartOf("nobody"), false, grpc::StatusCode::NOT_FOUND, "no such context");
  grpc::ClientContext context;
  auto stream = contexts_->Append(&context);
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), GrpcIs(invalid, HasSubstr("ended before start")));
}

TEST_F(AppendRpcTest, ColumnsThatDoNotFitAreRefusedByName) {
  Create("c");
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  const auto refused = [&](const char* why, auto&& spoil) {
    v1::AppendRequest request = BatchOf(0, 3);
    spoil(*request.mutable_tokens());
    ExpectRefused(request, true, invalid, why);
  };
  refused("tokens.embeddings is 12 bytes long; it must be 48",
          [](v1::TokenBatch& b) { b.set_embeddings(std::string(12, 0)); });
  refused("tokens.embeddings is absent", [](v1::TokenBatch& b) { b.clear_embeddings(); });
  refused("tokens.ids is 11", [](v1::TokenBatch& b) { b.set_ids(std::string(11, 0)); });
  refused("tokens.kinds is 2", [](v1::TokenBatch& b) { b.set_kinds("ab"); });
  refused("tokens.importances is 3", [](v1::TokenBatch& b) { b.set_importances("abc"); });
  refused("tokens.times_unix_us is 8",
          [](v1::TokenBatch& b) { b.set_times_unix_us(std::string(8, 0)); });
  refused("tokens.count is 0", [](v1::TokenBatch& b) { b.set_count(0); });
  refused("tokens.count is 8193", [](v1::TokenBatch& b) { b.set_count(8193); });
  refused("tokens.embedding_dtype is 6; it must be F32, F16 or BF16",
          [](v1::TokenBatch& b) { b.set_embedding_dtype(v1::DTYPE_INT8); });
  refused("tokens.kind is 9", [](v1::TokenBatch& b) { b.set_kind(static_cast<v1::TokenKind>(9)); });
}

TEST_F(AppendRpcTest, TheNextBatchIsReadWhenTheOneBeforeIsStored) {
  Create("c", 4096);
  absl::Notification entered;
  absl::Notification go_on;
  engine_.on_append = [&](const TokenColumns& tokens) {
    if (tokens.first_position == 0) {
      entered.Notify();
      go_on.WaitForNotification();
    }
    return absl::OkStatus();
  };
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  ASSERT_TRUE(stream->Write(BatchOf(0, 64, 4096)));
  entered.WaitForNotification();
  // One batch is here, and what is claimed is that one.
  const uint64_t claimed = gate_.bytes().used();
  EXPECT_GE(claimed, kMiB);
  EXPECT_LT(claimed, kMiB + 4096);
  go_on.Notify();
  EXPECT_TRUE(Answer(*stream).has_ack());
  EXPECT_EQ(gate_.bytes().used(), 0u);
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), GrpcOk());
}

TEST_F(AppendRpcTest, AClientThatReadsNoAnswersIsHeldBack) {
  Create("c");
  std::atomic<uint64_t> stored{0};
  engine_.on_append = [&](const TokenColumns&) {
    ++stored;
    return absl::OkStatus();
  };
  const auto narrow = v1::ContextService::NewStub(NewChannel(/*small_windows=*/true));
  grpc::ClientContext context;
  auto stream = narrow->Append(&context);
  ASSERT_TRUE(stream->Write(StartOf("c")));
  // An answer is some bytes: the client's window and the queue hold a few thousand.
  constexpr uint64_t kBatches = 200'000;
  std::atomic<uint64_t> written{0};
  std::thread writer([&] {
    v1::AppendRequest batch = BatchOf(0, 1);
    while (written < kBatches) {
      batch.mutable_tokens()->set_first_position(written);
      if (!stream->Write(batch)) break;
      ++written;
    }
  });
  while (stored == 0) std::this_thread::yield();
  // The watchdog ends an open stream only when an answer waits for its client.
  PassUntilStalled(clock_, gate_, observer_);
  writer.join();
  EXPECT_LT(stored, kBatches);
  v1::AppendResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(AppendRpcTest, AnOpenStreamMayBeSilentForAsLongAsItLikes) {
  Create("c");
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  for (int i = 0; i < 3; ++i) {
    // The answer is with the client a moment before the server knows it.
    while (gate_.watchdog().waiting().for_output > 0) std::this_thread::yield();
    clock_.Advance(std::chrono::hours(1));
    gate_.watchdog().Scan();
    ASSERT_TRUE(stream->Write(BatchOf(i, 1)));
    EXPECT_TRUE(Answer(*stream).has_ack());
  }
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), GrpcOk());
}

TEST_F(AppendRpcTest, AStreamThatNeverStartsIsEnded) {
  grpc::ClientContext context;
  auto stream = contexts_->Append(&context);
  PassUntilStalled(clock_, gate_, observer_);
  EXPECT_THAT(stream->Finish(),
              GrpcIs(grpc::StatusCode::DEADLINE_EXCEEDED, HasSubstr("sent nothing")));
}

TEST_F(AppendRpcTest, AStreamInWaitingEndsAtShutdown) {
  Create("c");
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  gate_.StopAdmitting();
  v1::AppendResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::UNAVAILABLE, HasSubstr("shutting down")));
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
}

TEST_F(AppendRpcTest, ACancelledStreamStoresNoMore) {
  Create("c");
  absl::Notification entered;
  absl::Notification go_on;
  std::atomic<int> batches{0};
  engine_.on_append = [&](const TokenColumns&) {
    if (++batches == 1) {
      entered.Notify();
      go_on.WaitForNotification();
    }
    return absl::OkStatus();
  };
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  ASSERT_TRUE(stream->Write(BatchOf(0, 1)));
  ASSERT_TRUE(stream->Write(BatchOf(1, 1)));
  entered.WaitForNotification();
  context.TryCancel();
  go_on.Notify();
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::CANCELLED, ::testing::_));
  observer_.AwaitFinished(kAppend, absl::StatusCode::kCancelled, 1);
  EXPECT_LE(batches, 2);
}

class SmallBudgetAppendTest : public AppendRpcTest {
 protected:
  SmallBudgetAppendTest() : AppendRpcTest({.inflight_bytes = 16 * kMiB}) {}
};

TEST_F(SmallBudgetAppendTest, ABatchWaitsForTheBytesOfOthers) {
  Create("c");
  grpc::ClientContext context;
  auto stream = Open(context, "c");
  ByteBudget::Claim other(gate_.bytes());
  ASSERT_EQ(other.Acquire(16 * kMiB, [] {}), ByteBudget::Claim::Outcome::kGranted);
  std::atomic<bool> stored{false};
  engine_.on_append = [&](const TokenColumns&) {
    stored = true;
    return absl::OkStatus();
  };
  ASSERT_TRUE(stream->Write(BatchOf(0, 10)));
  // A unary call passes meanwhile.
  Create("other");
  EXPECT_FALSE(stored);
  other.Release();
  EXPECT_EQ(Answer(*stream).ack().next_position(), 10u);
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), GrpcOk());
}

}  // namespace
}  // namespace mnemo

// Contexts against a daemon whose answers are made up.
#include "mnemo/contexts.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "mnemo/client.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using AppendStream = grpc::ServerReaderWriter<v1::AppendResponse, v1::AppendRequest>;

std::vector<float> Rows(size_t count, uint32_t dimension, float first = 0) {
  std::vector<float> rows(count * dimension, 1);
  for (size_t i = 0; i < count; ++i) rows[i * dimension] = first + static_cast<float>(i);
  return rows;
}
Bytes BytesOf(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}
v1::AppendResponse Ready(uint64_t next) {
  v1::AppendResponse response;
  response.mutable_ready()->set_context_id(5);
  response.mutable_ready()->set_next_position(next);
  return response;
}
v1::AppendResponse Ack(const v1::TokenBatch& batch, bool repeated = false) {
  v1::AppendResponse response;
  response.mutable_ack()->set_next_position(batch.first_position() + batch.count());
  response.mutable_ack()->set_repeated_batch(repeated);
  return response;
}

class ContextsTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kDimension = 4;
  ContextsTest() {
    daemon_.contexts.describe = [](const auto&, v1::DescribeContextResponse& response) {
      response.mutable_context()->set_id(5);
      response.mutable_context()->set_dimension(kDimension);
      return grpc::Status::OK;
    };
  }

  FakeDaemon daemon_;
  std::unique_ptr<Client> client_ = ConnectTo(daemon_);
};

TEST_F(ContextsTest, AWriterSendsAllColumnsAndIsAcknowledged) {
  std::vector<v1::TokenBatch> batches;
  v1::AppendStart start;
  daemon_.contexts.append = [&](auto&, AppendStream& stream) {
    v1::AppendRequest request;
    stream.Read(&request);
    start = request.start();
    stream.Write(Ready(100));
    while (stream.Read(&request)) {
      batches.push_back(request.tokens());
      stream.Write(Ack(request.tokens()));
    }
    return grpc::Status::OK;
  };
  auto writer = client_->contexts().Write("c", {.writer_id = 7, .durability = Durability::kSync});
  ASSERT_OK(writer.status());
  EXPECT_EQ((*writer)->acknowledged(), 100u);
  const std::vector<float> rows = Rows(3, kDimension);
  const std::vector<uint32_t> ids = {1, 2, 3};
  const std::vector<float> importances = {0, 0.5F, 1};
  const std::vector<int64_t> times = {10, 20, 30};
  const std::vector<PayloadView> payloads = {{.first = 1, .count = 2, .data = "text"}};
  ASSERT_OK((*writer)->Append({.count = 3,
                               .embeddings = BytesOf(rows),
                               .ids = ids,
                               .kind = TokenKind::kTool,
                               .importances = importances,
                               .times_unix_us = times,
                               .payloads = payloads}));
  const auto next = (*writer)->Flush();
  ASSERT_OK(next.status());
  EXPECT_EQ(*next, 103u);
  EXPECT_EQ(start.writer_id(), 7u);
  EXPECT_EQ(start.context().id(), 5u);
  EXPECT_EQ(start.durability(), v1::DURABILITY_SYNC);
  ASSERT_EQ(batches.size(), 1u);
  const v1::TokenBatch& batch = batches[0];
  EXPECT_EQ(batch.first_position(), 100u);
  EXPECT_EQ(batch.count(), 3u);
  EXPECT_EQ(batch.kind(), v1::TOKEN_KIND_TOOL);
  EXPECT_EQ(batch.embeddings().size(), 48u);
  EXPECT_EQ(batch.ids(), std::string(reinterpret_cast<const char*>(ids.data()), 12));
  EXPECT_EQ(batch.importances().size(), 12u);
  EXPECT_EQ(batch.times_unix_us().size(), 24u);
  ASSERT_EQ(batch.payloads_size(), 1);
  EXPECT_EQ(batch.payloads(0).first_position(), 101u);
  EXPECT_EQ(batch.payloads(0).data(), "text");
}

TEST_F(ContextsTest, LongColumnsAreCutAndNoPayloadIs) {
  std::vector<std::pair<uint64_t, uint32_t>> cuts;
  daemon_.contexts.append = [&](auto&, AppendStream& stream) {
    v1::AppendRequest request;
    stream.Read(&request);
    stream.Write(Ready(0));
    while (stream.Read(&request)) {
      cuts.emplace_back(request.tokens().first_position(), request.tokens().count());
      stream.Write(Ack(request.tokens()));
    }
    return grpc::Status::OK;
  };
  auto writer = client_->contexts().Write("c");
  ASSERT_OK(writer.status());
  const std::vector<float> rows = Rows(20'000, kDimension);
  const std::vector<PayloadView> payloads = {{.first = 8190, .count = 10, .data = "a"}};
  ASSERT_OK(
      (*writer)->Append({.count = 20'000, .embeddings = BytesOf(rows), .payloads = payloads}));
  ASSERT_OK((*writer)->Flush().status());
  EXPECT_THAT(cuts, ElementsAre(std::pair(0, 8190), std::pair(8190, 8192), std::pair(16382, 3618)));
}

TEST_F(ContextsTest, AfterALostConnectionTheLastStoredBatchProvesWhoseTheyAre) {
  std::map<uint64_t, uint32_t> stored;  // count by first position
  std::vector<uint64_t> sent_in_second_try;
  int tries = 0;
  daemon_.contexts.append = [&](auto&, AppendStream& stream) {
    ++tries;
    uint64_t next = 0;
    for (const auto& [first, count] : stored) next = first + count;
    v1::AppendRequest request;
    stream.Read(&request);
    stream.Write(Ready(next));
    while (stream.Read(&request)) {
      const v1::TokenBatch& batch = request.tokens();
      if (tries == 2) sent_in_second_try.push_back(batch.first_position());
      const bool repeated = !stored.emplace(batch.first_position(), batch.count()).second;
      // Of the first try nothing is answered, though three batches are stored.
      if (tries == 1 && stored.size() == 3) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
      }
      if (tries > 1) stream.Write(Ack(batch, repeated));
    }
    return grpc::Status::OK;
  };
  auto writer = client_->contexts().Write("c");
  ASSERT_OK(writer.status());
  const std::vector<float> rows = Rows(2, kDimension);
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK((*writer)->Append({.count = 2, .embeddings = BytesOf(rows)}));
  }
  const auto next = (*writer)->Flush();
  ASSERT_OK(next.status());
  EXPECT_EQ(*next, 10u);
  EXPECT_EQ((*writer)->acknowledged(), 10u);
  EXPECT_EQ((*writer)->repeated_batches(), 3u);
  EXPECT_EQ(tries, 2);
  EXPECT_EQ(sent_in_second_try.front(), 4u);
  EXPECT_EQ(stored.size(), 5u);
}

TEST_F(ContextsTest, ARefusalEndsTheWriterWithItsReason) {
  daemon_.contexts.append = [&](auto&, AppendStream& stream) {
    v1::AppendRequest request;
    stream.Read(&request);
    stream.Write(Ready(0));
    stream.Read(&request);
    v1::AppendResponse refusal;
    refusal.mutable_refusal()->mutable_error()->set_code(10);
    stream.Write(refusal);
    return grpc::Status(grpc::StatusCode::ABORTED, "a later stream has claimed it");
  };
  auto writer = client_->contexts().Write("c");
  ASSERT_OK(writer.status());
  const std::vector<float> rows = Rows(2, kDimension);
  ASSERT_OK((*writer)->Append({.count = 2, .embeddings = BytesOf(rows)}));
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT((*writer)->Flush().status(),
                StatusIs(absl::StatusCode::kAborted, HasSubstr("later stream")));
  }
  EXPECT_EQ((*writer)->acknowledged(), 0u);
}

TEST_F(ContextsTest, ColumnsOfTheWrongLengthAreRefusedBeforeTheyAreSent) {
  daemon_.contexts.append = [&](auto&, AppendStream& stream) {
    v1::AppendRequest request;
    stream.Read(&request);
    stream.Write(Ready(0));
    while (stream.Read(&request)) stream.Write(Ack(request.tokens()));
    return grpc::Status::OK;
  };
  auto writer = client_->contexts().Write("c");
  ASSERT_OK(writer.status());
  const std::vector<float> rows = Rows(3, kDimension);
  const std::vector<uint32_t> ids = {1, 2};
  EXPECT_THAT(
      (*writer)->Append({.count = 2, .embeddings = BytesOf(rows)}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("48 values; it must have 32")));
  EXPECT_THAT((*writer)->Append({.count = 3, .embeddings = BytesOf(rows), .ids = ids}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ids has 2")));
  const std::vector<PayloadView> outside = {{.first = 2, .count = 2, .data = "x"}};
  EXPECT_THAT((*writer)->Append({.count = 3, .embeddings = BytesOf(rows), .payloads = outside}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 tokens at 2")));
  // The writer is as good as before.
  ASSERT_OK((*writer)->Append({.count = 3, .embeddings = BytesOf(rows)}));
  EXPECT_EQ(*(*writer)->Flush(), 3u);
}

TEST_F(ContextsTest, ASilentDaemonIsLeftByCancelling) {
  CancelSource cancel;
  daemon_.contexts.append = [&](grpc::ServerContext& context, AppendStream& stream) {
    v1::AppendRequest request;
    stream.Read(&request);
    stream.Write(Ready(0));
    stream.Read(&request);
    cancel.Cancel();
    while (!context.IsCancelled()) {
    }
    return grpc::Status::CANCELLED;
  };
  auto writer = client_->contexts().Write("c", {.cancel = &cancel});
  ASSERT_OK(writer.status());
  const std::vector<float> rows = Rows(2, kDimension);
  ASSERT_OK((*writer)->Append({.count = 2, .embeddings = BytesOf(rows)}));
  EXPECT_THAT((*writer)->Flush().status(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(ContextsTest, AReadShowsEachRunUntilItIsToldToStop) {
  daemon_.contexts.read = [](const v1::ReadContextRequest& request, auto& writer) {
    EXPECT_EQ(request.count(), 500u);
    for (uint64_t first = 0; first < 500; first += 100) {
      v1::ReadContextResponse response;
      response.mutable_tokens()->set_level(v1::LEVEL_L3);
      response.mutable_tokens()->mutable_tokens()->set_first_position(first);
      response.mutable_tokens()->mutable_tokens()->set_count(100);
      response.mutable_tokens()->mutable_tokens()->set_embeddings(std::string(1600, 'e'));
      writer.Write(response);
    }
    return grpc::Status::OK;
  };
  std::vector<uint64_t> firsts;
  const auto show = [&](const TokenRun& run) {
    EXPECT_EQ(run.embeddings.size(), 1600u);
    EXPECT_EQ(run.level, Level::kL3);
    firsts.push_back(run.first_position);
    return firsts.size() == 3 ? absl::OutOfRangeError("enough") : absl::OkStatus();
  };
  EXPECT_THAT(client_->contexts().Read({.context = "c", .count = 500}, show),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("enough")));
  EXPECT_THAT(firsts, ElementsAre(0, 100, 200));
}

TEST_F(ContextsTest, ASearchCarriesRequestAndAnswer) {
  v1::SearchRequest seen;
  daemon_.contexts.search = [&](const v1::SearchRequest& request, v1::SearchResponse& response) {
    seen = request;
    v1::SearchHit& hit = *response.add_results()->add_hits();
    hit.set_context_id(5);
    hit.set_position(9);
    hit.set_count(1);
    hit.set_score(0.5F);
    hit.set_kind(v1::TOKEN_KIND_CODE);
    hit.set_level(v1::LEVEL_L1);
    hit.mutable_payload()->set_data("text");
    response.mutable_work()->set_engine_us(42);
    return grpc::Status::OK;
  };
  const std::vector<float> query = {1, 2, 3, 4};
  const auto result = client_->contexts().Search(
      {.contexts = {"c", uint64_t{5}},
       .dimension = kDimension,
       .queries = query,
       .k = 3,
       .filter = {.kinds = {TokenKind::kCode}, .from_unix_us = 0, .has_payload = true},
       .with_payloads = true});
  ASSERT_OK(result.status());
  ASSERT_EQ(result->hits.size(), 1u);
  const SearchHit& hit = result->hits[0][0];
  EXPECT_EQ(hit.position, 9u);
  EXPECT_EQ(hit.kind, TokenKind::kCode);
  EXPECT_EQ(hit.level, Level::kL1);
  EXPECT_EQ(hit.payload->data, "text");
  EXPECT_EQ(result->work.engine_us, 42u);
  EXPECT_EQ(seen.contexts(0).name(), "c");
  EXPECT_EQ(seen.contexts(1).id(), 5u);
  EXPECT_EQ(seen.queries().size(), 16u);
  EXPECT_EQ(seen.k(), 3u);
  EXPECT_TRUE(seen.filter().has_from_unix_us());
  EXPECT_FALSE(seen.filter().has_until_unix_us());
  EXPECT_TRUE(seen.filter().has_payload());
  EXPECT_TRUE(seen.with_payloads());
}

}  // namespace
}  // namespace mnemo::client

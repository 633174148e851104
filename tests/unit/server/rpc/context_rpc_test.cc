// The unary methods and Read of ContextService over real sockets.
#include "tests/unit/server/rpc/context_rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using ReadMessages = std::vector<v1::ReadContextResponse>;

class ContextServiceTest : public ContextRpcTest {
 protected:
  grpc::Status ReadAll(const v1::ReadContextRequest& request, ReadMessages& messages) {
    grpc::ClientContext context;
    auto stream = contexts_->Read(&context, request);
    v1::ReadContextResponse response;
    while (stream->Read(&response)) messages.push_back(response);
    return stream->Finish();
  }
  static v1::ReadContextRequest ReadOf(const std::string& name) {
    v1::ReadContextRequest request;
    *request.mutable_context() = Ref(name);
    return request;
  }
  static std::string Floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }
  static v1::SearchRequest SearchOf(const std::string& name, const std::vector<float>& queries) {
    v1::SearchRequest request;
    *request.add_contexts() = Ref(name);
    request.set_dimension(kDimension);
    request.set_queries(Floats(queries));
    return request;
  }
  grpc::Status Search(const v1::SearchRequest& request, v1::SearchResponse* response) {
    grpc::ClientContext context;
    return contexts_->Search(&context, request, response);
  }
};

TEST_F(ContextServiceTest, CreateAnswersTheContextWhoeverMadeIt) {
  const v1::Context first = Create("c");
  EXPECT_EQ(first.name(), "c");
  EXPECT_EQ(first.dimension(), kDimension);
  EXPECT_EQ(first.metric(), v1::METRIC_COSINE);
  EXPECT_EQ(first.stored_dtype(), v1::DTYPE_F16);
  EXPECT_EQ(first.durability(), v1::DURABILITY_SYNC);
  EXPECT_EQ(Create("c").id(), first.id());
  grpc::ClientContext context;
  v1::CreateContextRequest request;
  request.mutable_context()->set_name("c");
  request.mutable_context()->set_dimension(kDimension + 1);
  v1::CreateContextResponse response;
  EXPECT_THAT(contexts_->Create(&context, request, &response),
              GrpcIs(grpc::StatusCode::FAILED_PRECONDITION, HasSubstr("dimension")));
}

TEST_F(ContextServiceTest, ReadGivesBackWhatWasAppended) {
  Fill("c", 250);
  ReadMessages messages;
  ASSERT_THAT(ReadAll(ReadOf("c"), messages), GrpcOk());
  ASSERT_EQ(messages.size(), 3u);
  const v1::TokenBatch all = BatchOf(0, 250).tokens();
  std::string embeddings;
  std::string ids;
  uint64_t next = 0;
  for (const auto& message : messages) {
    const v1::TokenBatch& batch = message.tokens().tokens();
    EXPECT_EQ(batch.first_position(), next);
    EXPECT_EQ(message.tokens().level(), v1::LEVEL_L3);
    EXPECT_EQ(message.tokens().bits_per_value(), 16u);
    EXPECT_EQ(batch.embedding_dtype(), v1::DTYPE_F32);
    EXPECT_EQ(batch.times_unix_us().size(), batch.count() * 8u);
    embeddings += batch.embeddings();
    ids += batch.ids();
    next += batch.count();
  }
  EXPECT_EQ(embeddings, all.embeddings());
  EXPECT_EQ(ids, all.ids());
  observer_.AwaitFinished("mnemo.v1.ContextService/Read", absl::StatusCode::kOk, 1);
  while (engine_.live_steps() > 0) std::this_thread::yield();
}

TEST_F(ContextServiceTest, ReadOfARangeWithoutEmbeddings) {
  Fill("c", 50);
  v1::ReadContextRequest request = ReadOf("c");
  request.set_first_position(10);
  request.set_count(5);
  request.set_without_embeddings(true);
  ReadMessages messages;
  ASSERT_THAT(ReadAll(request, messages), GrpcOk());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].tokens().tokens().first_position(), 10u);
  EXPECT_EQ(messages[0].tokens().tokens().count(), 5u);
  EXPECT_TRUE(messages[0].tokens().tokens().embeddings().empty());
}

TEST_F(ContextServiceTest, ReadOfSummaries) {
  Fill("c", 300);
  v1::ReadContextRequest request = ReadOf("c");
  request.set_resolution(128);
  ReadMessages messages;
  ASSERT_THAT(ReadAll(request, messages), GrpcOk());
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[2].summaries().summaries(0).first_position(), 256u);
  EXPECT_EQ(messages[2].summaries().summaries(0).count(), 44u);
  EXPECT_EQ(messages[2].summaries().summaries(0).mean(), Floats({1, 2}));
}

TEST_F(ContextServiceTest, ReadRefusesWhatIsNotThere) {
  Fill("c", 1);
  ReadMessages messages;
  EXPECT_THAT(ReadAll(ReadOf("nobody"), messages),
              GrpcIs(grpc::StatusCode::NOT_FOUND, HasSubstr("no such")));
  v1::ReadContextRequest request = ReadOf("c");
  request.set_first_position(1);
  EXPECT_THAT(ReadAll(request, messages),
              GrpcIs(grpc::StatusCode::OUT_OF_RANGE, HasSubstr("behind the end")));
  request = ReadOf("c");
  request.set_embedding_dtype(v1::DTYPE_BF16);
  EXPECT_THAT(ReadAll(request, messages),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("embedding_dtype is 3")));
  EXPECT_TRUE(messages.empty());
}

TEST_F(ContextServiceTest, AReaderThatNeverReadsIsCut) {
  Create("c", 4096);
  {
    grpc::ClientContext context;
    auto stream = contexts_->Append(&context);
    ASSERT_TRUE(stream->Write(StartOf("c")));
    for (uint64_t i = 0; i < 8; ++i) ASSERT_TRUE(stream->Write(BatchOf(i * 100, 100, 4096)));
    stream->WritesDone();
    v1::AppendResponse response;
    while (stream->Read(&response)) {
    }
    ASSERT_THAT(stream->Finish(), GrpcOk());
  }
  const auto narrow = v1::ContextService::NewStub(NewChannel(/*small_windows=*/true));
  grpc::ClientContext context;
  LiveLong(context);
  auto stream = narrow->Read(&context, ReadOf("c"));
  v1::ReadContextResponse response;
  ASSERT_TRUE(stream->Read(&response));
  PassUntilStalled(clock_, gate_, observer_);
  observer_.AwaitFinished("mnemo.v1.ContextService/Read", absl::StatusCode::kDeadlineExceeded, 1);
  EXPECT_EQ(gate_.bytes().used(), 0u);
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(ContextServiceTest, SearchAnswersEachQueryInOrder) {
  Fill("c", 20);
  v1::SearchResponse response;
  ASSERT_THAT(Search(SearchOf("c", {1, 0, 0, 0, -1, 0, 0, 0}), &response), GrpcOk());
  ASSERT_EQ(response.results_size(), 2);
  EXPECT_EQ(response.results(0).hits_size(), 10);
  EXPECT_EQ(response.results(0).hits(0).position(), 19u);
  EXPECT_EQ(response.results(0).hits(0).token_id(), 19u);
  EXPECT_EQ(response.results(0).hits(0).count(), 1u);
  EXPECT_EQ(response.results(0).hits(0).score(), 19.0F);
  EXPECT_EQ(response.results(0).hits(0).level(), v1::LEVEL_L1);
  EXPECT_FALSE(response.results(0).hits(0).has_payload());
  EXPECT_EQ(response.results(1).hits(0).position(), 0u);
  EXPECT_EQ(response.work().contexts(), 1u);
  EXPECT_EQ(response.work().segments(), 2u);
  EXPECT_EQ(response.work().distances(), 3u);
  EXPECT_EQ(response.work().reranked(), 4u);
  EXPECT_EQ(response.work().unindexed_tokens(), 5u);
}

TEST_F(ContextServiceTest, SearchHandsOnWhatWasAsked) {
  Fill("c", 1);
  v1::SearchRequest request = SearchOf("c", {1, 0, 0, 0});
  request.set_k(3);
  request.set_ef_search(11);
  request.set_nprobe(12);
  request.set_resolution(512);
  request.set_target_recall(0.75F);
  request.set_with_payloads(true);
  v1::TokenFilter& filter = *request.mutable_filter();
  filter.add_kinds(v1::TOKEN_KIND_USER);
  filter.add_kinds(v1::TOKEN_KIND_CODE);
  filter.set_first_position(13);
  filter.set_end_position(14);
  filter.set_from_unix_us(-15);
  filter.set_until_unix_us(16);
  filter.set_has_payload(false);
  v1::SearchResponse response;
  ASSERT_THAT(Search(request, &response), GrpcOk());
  const ContextSearchRequest asked = engine_.last_search();
  EXPECT_EQ(asked.k, 3u);
  EXPECT_EQ(asked.ef, 11u);
  EXPECT_EQ(asked.nprobe, 12u);
  EXPECT_EQ(asked.resolution, 512u);
  EXPECT_EQ(asked.target_recall, 0.75F);
  EXPECT_TRUE(asked.want_payload);
  EXPECT_EQ(asked.filter.kinds, (1U << 2) | (1U << 6));
  EXPECT_EQ(asked.filter.first_position, 13u);
  EXPECT_EQ(asked.filter.end_position, 14u);
  EXPECT_EQ(asked.filter.from_unix_us, -15);
  EXPECT_EQ(asked.filter.until_unix_us, 16);
  EXPECT_EQ(asked.filter.has_payload, false);
}

TEST_F(ContextServiceTest, SearchWithoutAWordHasTheContractsDefaults) {
  Fill("c", 1);
  v1::SearchResponse response;
  ASSERT_THAT(Search(SearchOf("c", {1, 0, 0, 0}), &response), GrpcOk());
  const ContextSearchRequest asked = engine_.last_search();
  EXPECT_EQ(asked.k, 10u);
  EXPECT_EQ(asked.resolution, 1u);
  EXPECT_EQ(asked.target_recall, 0.95F);
  EXPECT_EQ(asked.filter.kinds, 0u);
  EXPECT_FALSE(asked.filter.from_unix_us || asked.filter.until_unix_us);
  EXPECT_FALSE(asked.filter.has_payload.has_value());
}

TEST_F(ContextServiceTest, SearchRefusesQueriesThatAreNoRows) {
  Fill("c", 1);
  v1::SearchResponse response;
  const auto refused = [&](v1::SearchRequest request, const char* why) {
    EXPECT_THAT(Search(request, &response),
                GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr(why)));
  };
  refused(SearchOf("c", {}), "queries is 0 bytes long; it must be 1 to 64 rows of 16 bytes");
  refused(SearchOf("c", {1, 2, 3}), "queries is 12 bytes long");
  refused(SearchOf("c", std::vector<float>(65 * kDimension)), "queries is 1040 bytes long");
  v1::SearchRequest request = SearchOf("c", {1, 0, 0, 0});
  request.set_dimension(0);
  refused(request, "queries is 16 bytes long");
  request = SearchOf("c", {1, 0, 0, 0});
  request.mutable_filter()->add_kinds(static_cast<v1::TokenKind>(77));
  refused(request, "filter.kinds is 77");
}

TEST_F(ContextServiceTest, SearchBringsPayloads) {
  Create("c");
  grpc::ClientContext context;
  auto stream = contexts_->Append(&context);
  ASSERT_TRUE(stream->Write(StartOf("c")));
  v1::AppendRequest batch = BatchOf(0, 4);
  v1::RangePayload* payload = batch.mutable_tokens()->add_payloads();
  payload->set_first_position(2);
  payload->set_count(2);
  payload->set_data("in the beginning");
  ASSERT_TRUE(stream->Write(batch));
  stream->WritesDone();
  Answer(*stream);
  Answer(*stream);
  ASSERT_THAT(stream->Finish(), GrpcOk());
  v1::SearchRequest request = SearchOf("c", {1, 0, 0, 0});
  request.set_k(1);
  v1::SearchResponse response;
  ASSERT_THAT(Search(request, &response), GrpcOk());
  const v1::RangePayload& found = response.results(0).hits(0).payload();
  EXPECT_EQ(found.first_position(), 2u);
  EXPECT_EQ(found.count(), 2u);
  EXPECT_EQ(found.data(), "in the beginning");
  ReadMessages messages;
  v1::ReadContextRequest read = ReadOf("c");
  read.set_with_payloads(true);
  ASSERT_THAT(ReadAll(read, messages), GrpcOk());
  ASSERT_EQ(messages[0].tokens().tokens().payloads_size(), 1);
  EXPECT_EQ(messages[0].tokens().tokens().payloads(0).data(), "in the beginning");
}

TEST_F(ContextServiceTest, SummarizeAnswersEveryFieldOfTheSummary) {
  Create("c");
  grpc::ClientContext context;
  v1::SummarizeRequest request;
  *request.mutable_context() = Ref("c");
  request.set_first_position(100);
  request.set_count(200);
  v1::SummarizeResponse response;
  ASSERT_THAT(contexts_->Summarize(&context, request, &response), GrpcOk());
  const v1::RangeSummary& summary = response.summary();
  EXPECT_EQ(summary.first_position(), 100u);
  EXPECT_EQ(summary.count(), 200u);
  EXPECT_EQ(summary.mean(), Floats({0.5F}));
  EXPECT_EQ(summary.minimum(), Floats({-1}));
  EXPECT_EQ(summary.maximum(), Floats({2}));
  EXPECT_EQ(summary.mean_square_norm(), 3);
  EXPECT_EQ(summary.largest_importance(), 0.25F);
  EXPECT_EQ(summary.medoid_position(), 101u);
  EXPECT_THAT(summary.top_ids(), ElementsAre(7u, 9u));
  EXPECT_EQ(summary.level(), v1::LEVEL_L2);
}

TEST_F(ContextServiceTest, LinksComeBackAsTheyWereGiven) {
  Create("c");
  grpc::ClientContext context;
  v1::LinkRequest request;
  *request.mutable_context() = Ref("c");
  request.mutable_link()->set_first_position(32);
  request.mutable_link()->mutable_space()->set_name("llama");
  request.mutable_link()->add_keys("k0");
  request.mutable_link()->add_keys("k1");
  v1::LinkResponse linked;
  ASSERT_THAT(contexts_->Link(&context, request, &linked), GrpcOk());
  grpc::ClientContext again;
  v1::ListLinksRequest ask;
  *ask.mutable_context() = Ref("c");
  v1::ListLinksResponse links;
  ASSERT_THAT(contexts_->ListLinks(&again, ask, &links), GrpcOk());
  EXPECT_EQ(links.next_position(), 99u);
  ASSERT_EQ(links.links_size(), 1);
  EXPECT_EQ(links.links(0).SerializeAsString(), request.link().SerializeAsString());
}

TEST_F(ContextServiceTest, ASealedContextRefusesTokens) {
  Fill("c", 3);
  grpc::ClientContext context;
  v1::SealRequest request;
  *request.mutable_context() = Ref("c");
  v1::SealResponse response;
  ASSERT_THAT(contexts_->Seal(&context, request, &response), GrpcOk());
  EXPECT_EQ(response.tokens(), 3u);
  grpc::ClientContext writer;
  auto stream = contexts_->Append(&writer);
  stream->Write(StartOf("c"));
  Answer(*stream);
  stream->Write(BatchOf(3, 1));
  EXPECT_EQ(Answer(*stream).refusal().next_position(), 3u);
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::FAILED_PRECONDITION, HasSubstr("sealed")));
}

TEST_F(ContextServiceTest, DeleteIsIdempotent) {
  Fill("c", 3);
  v1::DeleteContextRequest request;
  *request.mutable_context() = Ref("c");
  request.set_wait(true);
  v1::DeleteContextResponse response;
  grpc::ClientContext first;
  ASSERT_THAT(contexts_->Delete(&first, request, &response), GrpcOk());
  EXPECT_EQ(response.tokens_deleted(), 3u);
  EXPECT_TRUE(engine_.last_wait());
  grpc::ClientContext second;
  ASSERT_THAT(contexts_->Delete(&second, request, &response), GrpcOk());
  EXPECT_EQ(response.tokens_deleted(), 0u);
}

TEST_F(ContextServiceTest, DescribeSaysWhatLiesWhere) {
  Fill("c", 3);
  grpc::ClientContext context;
  v1::DescribeContextRequest request;
  *request.mutable_context() = Ref("c");
  request.set_max_runs(9);
  v1::DescribeContextResponse response;
  ASSERT_THAT(contexts_->Describe(&context, request, &response), GrpcOk());
  EXPECT_EQ(response.context().tokens(), 3u);
  EXPECT_EQ(response.writer_id(), 7u);
  ASSERT_EQ(response.levels_size(), 1);
  EXPECT_EQ(response.levels(0).level(), v1::LEVEL_L3);
  EXPECT_EQ(response.levels(0).tokens(), 3u);
  EXPECT_EQ(response.levels(0).bytes(), 48u);
  EXPECT_EQ(response.indexed_tokens(), 1u);
  EXPECT_EQ(response.index_bytes(), 2u);
  EXPECT_EQ(response.summaries(), 3u);
  ASSERT_EQ(response.summary_shares_size(), 2);
  EXPECT_EQ(response.summary_shares(0).resolution(), 128u);
  EXPECT_EQ(response.summary_shares(0).count(), 2u);
  EXPECT_EQ(response.summary_shares(1).resolution(), 2048u);
  EXPECT_EQ(response.summary_shares(1).count(), 1u);
  EXPECT_EQ(response.segments(), 9u);
  ASSERT_EQ(response.runs_size(), 1);
  EXPECT_EQ(response.runs(0).count(), 3u);
  EXPECT_EQ(response.runs(0).level(), v1::LEVEL_L3);
  EXPECT_EQ(response.runs(0).bits_per_value(), 32u);
  EXPECT_EQ(response.runs(0).index(), "growing");
}

TEST_F(ContextServiceTest, ListGoesByLabelAndPage) {
  for (const char* name : {"a", "b", "c"}) {
    grpc::ClientContext context;
    v1::CreateContextRequest request;
    request.mutable_context()->set_name(name);
    request.mutable_context()->set_dimension(kDimension);
    v1::Label* label = request.mutable_context()->add_labels();
    label->set_key("user");
    label->set_value(name == std::string("b") ? "eve" : "ann");
    v1::CreateContextResponse response;
    ASSERT_THAT(contexts_->Create(&context, request, &response), GrpcOk());
  }
  v1::ListContextsRequest request;
  v1::Label* label = request.add_labels();
  label->set_key("user");
  label->set_value("ann");
  request.set_page_size(1);
  std::vector<std::string> names;
  v1::ListContextsResponse response;
  do {
    grpc::ClientContext context;
    ASSERT_THAT(contexts_->List(&context, request, &response), GrpcOk());
    for (const v1::Context& found : response.contexts()) {
      names.push_back(found.name());
      EXPECT_EQ(found.labels(0).value(), "ann");
    }
    request.set_page_token(response.next_page_token());
  } while (!response.next_page_token().empty());
  EXPECT_THAT(names, ElementsAre("a", "c"));
}

}  // namespace
}  // namespace mnemo

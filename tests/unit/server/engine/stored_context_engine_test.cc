#include "server/engine/stored_context_engine.h"

#include <map>

#include "storage/base/half.h"
#include "storage/context/chunk_mover.h"
#include "storage/context/consolidator.h"
#include "tests/unit/server/engine/context_engine_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StoredContextEngineTest : public ContextEngineTest {
 protected:
  // All steps of a read.
  absl::StatusOr<std::vector<ContextReadStep>> ReadAll(const ContextReadRequest& request) {
    std::vector<ContextReadStep> steps;
    MNEMO_ASSIGN_OR_RETURN(const auto session, engine_->Read(call_, request));
    for (;;) {
      const uint64_t announced = session->NextBytes();
      MNEMO_ASSIGN_OR_RETURN(auto step, session->Next());
      EXPECT_EQ(announced == 0, !step.has_value());
      if (!step) return steps;
      EXPECT_LE(step->tokens.embeddings.size(), announced);
      steps.push_back(*std::move(step));
    }
  }
  uint64_t OpenSpace(const std::string& name) {
    SpaceSpec spec{.name = name, .tokens_per_block = 16};
    spec.groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}};
    const auto opened = spaces_->Open(call_, spec, false);
    EXPECT_OK(opened.status());
    return opened.ok() ? opened->space->scope.space : 0;
  }
};

TEST_F(StoredContextEngineTest, AContextIsFoundByIdAndNameWithinItsTenant) {
  const uint64_t id = Create("c");
  EXPECT_EQ(Create("c"), id);
  for (const ContextRef& ref : {ContextRef("c"), ContextRef(id)}) {
    const auto found = engine_->Describe(call_, ref, 0);
    ASSERT_OK(found.status());
    EXPECT_EQ(found->info.id, id);
    EXPECT_EQ(found->info.spec.name, "c");
  }
  EXPECT_THAT(engine_->Describe(call_, "x", 0).status(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(engine_->Describe(call_, ContextRef(), 0).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("context is absent")));
  call_.identity.tenant = 99;
  EXPECT_THAT(engine_->Describe(call_, id, 0).status(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(engine_->Describe(call_, "c", 0).status(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(StoredContextEngineTest, ASessionGoesOnUntilALaterOneClaimsTheContext) {
  Create("c");
  auto first = engine_->Append(call_, {.context = "c", .writer_id = 1});
  ASSERT_OK(first.status());
  EXPECT_EQ((*first)->dimension(), kDimension);
  EXPECT_EQ((*first)->next_position(), 0u);
  const TestTokens tokens(0, 10, kDimension);
  ASSERT_OK((*first)->Append(tokens.columns()).status());
  EXPECT_EQ((*first)->next_position(), 10u);
  auto second = engine_->Append(call_, {.context = "c", .writer_id = 1});
  ASSERT_OK(second.status());
  EXPECT_EQ((*second)->next_position(), 10u);
  const TestTokens more(10, 5, kDimension);
  EXPECT_THAT((*first)->Append(more.columns()).status(), StatusIs(absl::StatusCode::kAborted));
  const auto repeated = (*second)->Append(tokens.columns());
  ASSERT_OK(repeated.status());
  EXPECT_TRUE(repeated->repeated);
  ASSERT_OK((*second)->Append(more.columns()).status());
  const TestTokens beyond(99, 5, kDimension);
  EXPECT_THAT((*second)->Append(beyond.columns()).status(),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("15")));
  EXPECT_EQ((*second)->next_position(), 15u);
}

TEST_F(StoredContextEngineTest, ReadGivesBackWhatWasAppended) {
  Create("c");
  Append("c", 0, 20'000);
  const auto steps = ReadAll({.context = "c", .first_position = 100, .count = 19'000});
  ASSERT_OK(steps.status());
  EXPECT_GT(steps->size(), 1u);
  uint64_t next = 100;
  for (const ContextReadStep& step : *steps) {
    ASSERT_EQ(step.tokens.first_position, next);
    EXPECT_EQ(step.fidelity_bits, 16u);
    for (uint32_t i = 0; i < step.tokens.count; ++i, ++next) {
      ASSERT_EQ(LoadLittle<uint32_t>(step.tokens.ids.data() + i * 4), TestTokens::Id(next));
      ASSERT_EQ(step.tokens.kinds[i], static_cast<uint8_t>(TestTokens::Kind(next)));
      ASSERT_EQ(LoadLittle<int64_t>(step.tokens.times_unix_us.data() + i * 8),
                TestTokens::Time(next));
      for (uint32_t d = 0; d < kDimension; ++d) {
        ASSERT_EQ(LoadLittle<float>(step.tokens.embeddings.data() + (i * kDimension + d) * 4),
                  TestTokens::Value(next, d));
      }
    }
  }
  EXPECT_EQ(next, 19'100u);
}

TEST_F(StoredContextEngineTest, ReadConvertsToTheTypeThatIsAskedFor) {
  const std::map<ElementType, std::pair<uint32_t, double>> bits_and_errors = {
      {ElementType::kFloat16, {16, 0}},
      {ElementType::kInt8, {8, 0.02}},
      {ElementType::kRotated4, {4, 0.8}}};
  for (const auto& [stored, expected] : bits_and_errors) {
    ContextSpec spec = TestContext("c" + std::to_string(static_cast<int>(stored)), kDimension);
    spec.stored = stored;
    ASSERT_OK(engine_->Create(call_, spec).status());
    Append(spec.name, 0, 10);
    const auto steps =
        ReadAll({.context = spec.name, .count = 10, .embedding_type = ElementType::kFloat16});
    ASSERT_OK(steps.status());
    ASSERT_EQ(steps->size(), 1u);
    EXPECT_EQ((*steps)[0].fidelity_bits, expected.first);
    for (uint32_t i = 0; i < 10 * kDimension; ++i) {
      const float value =
          HalfToFloat(LoadLittle<uint16_t>((*steps)[0].tokens.embeddings.data() + i * 2));
      EXPECT_NEAR(value, TestTokens::Value(i / kDimension, i % kDimension), expected.second);
    }
  }
  const auto without = ReadAll({.context = "c1", .want_embeddings = false});
  ASSERT_OK(without.status());
  EXPECT_TRUE((*without)[0].tokens.embeddings.empty());
}

TEST_F(StoredContextEngineTest, ReadOfSummariesCoversTheRangeOnce) {
  Create("c");
  Append("c", 0, 700);
  const auto steps = ReadAll({.context = "c", .first_position = 100, .resolution = 128});
  ASSERT_OK(steps.status());
  uint64_t next = 100;
  for (const ContextReadStep& step : *steps) {
    for (const RangeSummary& summary : step.summaries) {
      EXPECT_EQ(summary.first_position, next);
      next += summary.count;
      EXPECT_TRUE(next % 128 == 0 || next == 700) << next;
      double mean = 0;
      for (uint64_t p = summary.first_position; p < next; ++p) mean += TestTokens::Value(p, 0);
      EXPECT_NEAR(summary.mean[0], mean / static_cast<double>(summary.count), 1e-4);
    }
  }
  EXPECT_EQ(next, 700u);
  EXPECT_THAT(ReadAll({.context = "c", .resolution = 100}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("resolution is 100")));
  EXPECT_THAT(ReadAll({.context = "c", .first_position = 700}).status(),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("the context has 700 tokens")));
}

TEST_F(StoredContextEngineTest, ReadGivesEachPayloadOnce) {
  Create("c");
  auto session = engine_->Append(call_, {.context = "c", .writer_id = 7});
  ASSERT_OK(session.status());
  const TestTokens tokens(0, 600, kDimension);
  TokenColumns columns = tokens.columns();
  columns.payloads = {{.first_position = 5, .count = 500, .bytes = "long"},
                      {.first_position = 505, .count = 1, .bytes = "short"}};
  ASSERT_OK((*session)->Append(columns).status());
  const auto steps = ReadAll({.context = "c", .want_payloads = true});
  ASSERT_OK(steps.status());
  std::vector<std::string> found;
  for (const ContextReadStep& step : *steps) {
    for (const PayloadView& payload : step.tokens.payloads) found.emplace_back(payload.bytes);
  }
  EXPECT_THAT(found, ElementsAre("long", "short"));
}

TEST_F(StoredContextEngineTest, SummarizeAnswersAnyRange) {
  Create("c");
  Append("c", 0, 1000);
  const auto summary = engine_->Summarize(call_, "c", 10, 800);
  ASSERT_OK(summary.status());
  EXPECT_EQ(summary->count, 800u);
  double square = 0;
  float least = 10;
  for (uint64_t p = 10; p < 810; ++p) {
    for (uint32_t d = 0; d < kDimension; ++d) {
      square += std::pow(TestTokens::Value(p, d), 2);
    }
    least = std::min(least, TestTokens::Value(p, 0));
  }
  EXPECT_NEAR(summary->mean_square_norm, square / 800, 1e-3);
  EXPECT_EQ(summary->min[0], least);
  EXPECT_LE(summary->top_ids.size(), 8u);
  EXPECT_FLOAT_EQ(summary->largest_importance, 0.99F);
  EXPECT_THAT(engine_->Summarize(call_, "c", 1000, 0).status(),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(StoredContextEngineTest, LinksAreFoundByTheRangeThatTheyTouch) {
  Create("c");
  Append("c", 0, 200);
  const uint64_t space = OpenSpace("llama");
  ASSERT_OK(
      engine_->Link(call_, "c", {.first_position = 32, .space = "llama", .keys = {"k0", "k1"}}));
  ASSERT_OK(engine_->Link(call_, "c", {.first_position = 64, .space = space, .keys = {"k2"}}));
  EXPECT_THAT(engine_->Link(call_, "c", {.space = "nobody", .keys = {"k"}}),
              StatusIs(absl::StatusCode::kNotFound));
  uint64_t next = 1;
  const auto links = engine_->Links(call_, "c", 40, 10, next);
  ASSERT_OK(links.status());
  EXPECT_EQ(next, 0u);
  ASSERT_EQ(links->size(), 1u);
  EXPECT_EQ((*links)[0].first_position, 32u);
  EXPECT_EQ((*links)[0].space, SpaceRef(space));
  EXPECT_THAT((*links)[0].keys, ElementsAre("k0", "k1"));
  const auto all = engine_->Links(call_, "c", 0, 0, next);
  ASSERT_OK(all.status());
  EXPECT_EQ(all->size(), 2u);
}

TEST_F(StoredContextEngineTest, ManyLinksComeInPages) {
  Create("c");
  Append("c", 0, 8000);
  OpenSpace("llama");
  for (uint64_t i = 0; i < 400; ++i) {
    ASSERT_OK(
        engine_->Link(call_, "c", {.first_position = i * 16, .space = "llama", .keys = {"k"}}));
  }
  std::vector<uint64_t> found;
  uint64_t next = 0;
  do {
    const auto links = engine_->Links(call_, "c", next, 0, next);
    ASSERT_OK(links.status());
    for (const BlockLink& link : *links) found.push_back(link.first_position);
  } while (next != 0);
  ASSERT_EQ(found.size(), 400u);
  for (uint64_t i = 0; i < 400; ++i) EXPECT_EQ(found[i], i * 16);
}

TEST_F(StoredContextEngineTest, ASealedContextTakesNoMore) {
  Create("c");
  Append("c", 0, 5);
  for (int i = 0; i < 2; ++i) {
    const auto tokens = engine_->Seal(call_, "c");
    ASSERT_OK(tokens.status());
    EXPECT_EQ(*tokens, 5u);
  }
  EXPECT_THAT(engine_->Append(call_, {.context = "c", .writer_id = 1}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(engine_->Describe(call_, "c", 0)->info.sealed);
}

TEST_F(StoredContextEngineTest, WhatIsDeletedIsGone) {
  const uint64_t id = Create("c");
  Append("c", 0, 2000);
  ASSERT_OK(engine_->Search(call_, SearchOf("c", query_)).status());
  for (const uint64_t expected : {2000u, 0u}) {
    const auto tokens = engine_->Delete(call_, id, /*wait=*/true);
    ASSERT_OK(tokens.status());
    EXPECT_EQ(*tokens, expected);
  }
  EXPECT_THAT(engine_->Search(call_, SearchOf("c", query_)).status(),
              StatusIs(absl::StatusCode::kNotFound));
  const uint64_t again = Create("c");
  EXPECT_NE(again, id);
  const auto answer = engine_->Search(call_, SearchOf("c", query_));
  ASSERT_OK(answer.status());
  EXPECT_TRUE(answer->hits[0].empty());
}

TEST_F(StoredContextEngineTest, DescribeSaysWhatLiesWhere) {
  Create("c");
  Append("c", 0, 10'000);
  ASSERT_OK(engine_->Search(call_, SearchOf("c", query_)).status());
  const auto found = engine_->Describe(call_, "c", 4);
  ASSERT_OK(found.status());
  EXPECT_EQ(found->info.tokens, 10'000u);
  EXPECT_EQ(found->writer_id, 7u);
  EXPECT_EQ(found->segments, 1u);
  EXPECT_GE(found->index_bytes, 10'000u * kDimension * 2);
  uint64_t tokens = 0;
  for (const uint64_t of_level : found->level_tokens) tokens += of_level;
  EXPECT_EQ(tokens, 10'000u);
  EXPECT_LE(found->runs.size(), 4u);
  uint64_t next = 0;
  for (const ContextRun& run : found->runs) {
    EXPECT_EQ(run.first_position, next);
    next += run.count;
  }
  EXPECT_EQ(next, 10'000u);
  EXPECT_THAT(engine_->Describe(call_, "c", 1025).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_runs is 1025")));
}

TEST_F(StoredContextEngineTest, DescribeSeesWhatWasArchivedAndSummarised) {
  const uint64_t id = Create("c");
  Append("c", 0, 10'000);
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ById(call_.identity.tenant, id));
  ChunkMover mover(*contexts_);
  ASSERT_OK(mover.Demote(context, 1));
  ASSERT_OK(mover.Demote(context, 2));
  ASSERT_OK(Consolidator(*contexts_, clock_).Step(context));
  // One chunk of it is in RAM as well.
  ASSERT_OK(contexts_->reader().ReadRows(context, 17 * kChunkTokens));
  ASSERT_OK_AND_ASSIGN(const ContextDescription found, engine_->Describe(call_, "c", 1000));
  EXPECT_EQ(found.level_tokens[Index(Level::kL1)], kChunkTokens);
  EXPECT_EQ(found.level_tokens[Index(Level::kDisk)], 2 * kRunTokens - kChunkTokens);
  EXPECT_EQ(found.level_tokens[Index(Level::kL3)], 10'000 - 2 * kRunTokens);
  EXPECT_EQ(found.level_bytes[Index(Level::kDisk)],
            found.level_tokens[Index(Level::kDisk)] * (kDimension * 2 + 17));
  EXPECT_THAT(found.summaries, ElementsAre(16, 4, 1));
  std::vector<std::pair<uint64_t, Level>> begins;
  for (const ContextRun& run : found.runs) begins.emplace_back(run.first_position, run.level);
  EXPECT_THAT(begins, ElementsAre(std::pair(0, Level::kL3), std::pair(2048, Level::kDisk),
                                  std::pair(17 * 128, Level::kL1),
                                  std::pair(18 * 128, Level::kDisk), std::pair(6144, Level::kL3)));
}

TEST_F(StoredContextEngineTest, DescribeCountsGroupsInRamAndDrawsWholeChunks) {
  // 32 tokens of dimension 128 are a group.
  const ContextSpec spec = TestContext("c", 128);
  ASSERT_OK_AND_ASSIGN(const auto made, contexts_->Create(call_.identity.tenant, spec));
  const ContextRecord& context = made.first;
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts_->Claim(context, 1));
  const TestTokens tokens(0, 400, 128);
  ASSERT_OK(contexts_->Append(context, claim, tokens.columns(), Durability::kSync));
  for (const uint64_t position : {0U, 33U, 64U, 127U, 200U}) {
    ASSERT_OK(contexts_->reader().ReadRows(context, position));
  }
  ASSERT_OK_AND_ASSIGN(const ContextDescription found, engine_->Describe(call_, "c", 1000));
  EXPECT_EQ(found.level_tokens[Index(Level::kL1)], 160U);
  EXPECT_EQ(found.level_tokens[Index(Level::kL3)], 240U);
  ASSERT_EQ(found.runs.size(), 2U);
  EXPECT_EQ(found.runs[0].count, 128U);
  EXPECT_EQ(found.runs[0].level, Level::kL1);
  EXPECT_EQ(found.runs[1].level, Level::kL3);
}

TEST_F(StoredContextEngineTest, SummariesNameTheirMedoidOnceConsolidated) {
  const uint64_t id = Create("c");
  Append("c", 0, 700);
  ContextReadRequest request{.context = "c", .resolution = 512};
  auto steps = ReadAll(request);
  ASSERT_OK(steps.status());
  EXPECT_FALSE(steps->front().summaries.front().medoid);
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ById(call_.identity.tenant, id));
  ASSERT_OK(Consolidator(*contexts_, clock_).Step(context));
  steps = ReadAll(request);
  ASSERT_OK(steps.status());
  ASSERT_EQ(steps->front().summaries.size(), 2U);
  ASSERT_OK_AND_ASSIGN(const auto summary, contexts_->reader().summaries().At(context, 1, 0));
  EXPECT_EQ(steps->front().summaries[0].medoid, summary->medoid_position);
  EXPECT_FALSE(steps->front().summaries[1].medoid);
}

TEST_F(StoredContextEngineTest, AReadIsOneUseOfEachRunAndOnlyOfEmbeddings) {
  const uint64_t id = Create("c");
  Append("c", 0, 3 * kRunTokens);
  const KeyScope scope{.tenant = call_.identity.tenant, .space = id};
  ASSERT_OK(ReadAll({.context = "c", .want_embeddings = false}).status());
  EXPECT_EQ(contexts_->uses().noted(), 0U);
  ASSERT_OK(ReadAll({.context = "c", .first_position = 100, .count = kRunTokens}).status());
  ASSERT_TRUE(contexts_->uses().Find(scope, 0) && contexts_->uses().Find(scope, 1));
  EXPECT_EQ(contexts_->uses().Find(scope, 0)->uses, 1U);
  EXPECT_FALSE(contexts_->uses().Find(scope, 2));
}

TEST_F(StoredContextEngineTest, ListGoesByLabelAndPage) {
  Create("a", Metric::kCosine, {{"user", "ann"}});
  Create("b", Metric::kCosine, {{"user", "eve"}});
  Create("c", Metric::kCosine, {{"user", "ann"}});
  Append("c", 0, 3);
  std::vector<std::string> names;
  std::string token;
  do {
    const auto page = engine_->List(call_, {{"user", "ann"}}, 1, token, token);
    ASSERT_OK(page.status());
    for (const ContextInfo& info : *page) {
      names.push_back(info.spec.name);
      EXPECT_EQ(info.tokens, info.spec.name == "c" ? 3u : 0u);
    }
  } while (!token.empty());
  EXPECT_THAT(names, ElementsAre("a", "c"));
  EXPECT_THAT(engine_->List(call_, {}, 1001, "", token).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page_size")));
}

}  // namespace
}  // namespace mnemo

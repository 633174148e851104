#include "server/engine/context_search.h"

#include <fmt/format.h>

#include <limits>
#include <map>
#include <set>

#include "storage/context/chunk_mover.h"
#include "storage/context/consolidator.h"
#include "storage/context/context_keys.h"
#include "tests/unit/server/engine/context_engine_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ContextSearchTest : public ContextEngineTest {
 protected:
  using ContextEngineTest::ContextEngineTest;

  std::vector<uint64_t> Found(const ContextSearchRequest& request) {
    const auto answer = engine_->Search(call_, request);
    EXPECT_OK(answer.status());
    return answer.ok() ? PositionsOf(answer->hits.at(0)) : std::vector<uint64_t>();
  }
  void ExpectRefused(const ContextSearchRequest& request, const std::string& why) {
    EXPECT_THAT(engine_->Search(call_, request).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  }
};

TEST_F(ContextSearchTest, FindsTheNearestOfEveryMetric) {
  for (const Metric metric : {Metric::kCosine, Metric::kInnerProduct, Metric::kL2}) {
    const std::string name = "metric" + std::to_string(static_cast<int>(metric));
    Create(name, metric);
    Append(name, 0, 3000);
    EXPECT_THAT(Found(SearchOf(name, query_)),
                ElementsAreArray(Expected(metric, query_, 0, 3000, 10, All)));
  }
}

TEST_F(ContextSearchTest, AHitTellsWhatItsTokenIs) {
  const uint64_t id = Create("c");
  Append("c", 0, 500);
  const auto answer = engine_->Search(call_, SearchOf("c", query_));
  ASSERT_OK(answer.status());
  for (const ContextHit& hit : answer->hits[0]) {
    EXPECT_EQ(hit.context_id, id);
    EXPECT_EQ(hit.first_position, hit.position);
    EXPECT_EQ(hit.count, 1u);
    EXPECT_EQ(hit.token_id, TestTokens::Id(hit.position));
    EXPECT_EQ(hit.kind, TestTokens::Kind(hit.position));
    EXPECT_EQ(hit.time_unix_us, TestTokens::Time(hit.position));
    EXPECT_FALSE(hit.payload.has_value());
  }
  EXPECT_EQ(answer->contexts, 1u);
  EXPECT_EQ(answer->segments, 1u);
  EXPECT_EQ(answer->unindexed, 500u);
  EXPECT_EQ(answer->distances, 500u);
}

TEST_F(ContextSearchTest, SeesWhatWasAppendedSinceTheLastSearch) {
  Create("c");
  Append("c", 0, 200);
  EXPECT_THAT(Found(SearchOf("c", query_)),
              ElementsAreArray(Expected(Metric::kCosine, query_, 0, 200, 10, All)));
  Append("c", 200, 1);
  Append("c", 201, 900);
  EXPECT_THAT(Found(SearchOf("c", query_)),
              ElementsAreArray(Expected(Metric::kCosine, query_, 0, 1101, 10, All)));
}

TEST_F(ContextSearchTest, FindsTheSameAfterARestart) {
  Create("c");
  Append("c", 0, 1000);
  const auto before = Found(SearchOf("c", query_));
  Restart();
  EXPECT_THAT(Found(SearchOf("c", query_)), ElementsAreArray(before));
}

TEST_F(ContextSearchTest, SearchesAcrossRanges) {
  Create("c");
  const uint64_t tokens = kRangeTokens + 700;
  Append("c", 0, tokens);
  EXPECT_THAT(Found(SearchOf("c", query_)),
              ElementsAreArray(Expected(Metric::kCosine, query_, 0, tokens, 10, All)));
  ContextSearchRequest request = SearchOf("c", query_);
  request.filter.first_position = kRangeTokens - 50;
  request.filter.end_position = kRangeTokens + 60;
  EXPECT_THAT(Found(request), ElementsAreArray(Expected(Metric::kCosine, query_, kRangeTokens - 50,
                                                        kRangeTokens + 60, 10, All)));
}

TEST_F(ContextSearchTest, EveryFilterLeavesOutTheRest) {
  Create("c");
  Append("c", 0, 2000);
  const auto expect = [&](const TokenFilter& filter, auto keep) {
    ContextSearchRequest request = SearchOf("c", query_);
    request.filter = filter;
    EXPECT_THAT(Found(request),
                ElementsAreArray(Expected(Metric::kCosine, query_, 0, 2000, 10, keep)));
  };
  expect({.kinds = 1U << 2 | 1U << 5}, [](uint64_t p) {
    return TestTokens::Kind(p) == TokenKind::kUser || TestTokens::Kind(p) == TokenKind::kDocument;
  });
  expect({.first_position = 130, .end_position = 1500},
         [](uint64_t p) { return p >= 130 && p < 1500; });
  expect({.from_unix_us = TestTokens::Time(777), .until_unix_us = TestTokens::Time(999)},
         [](uint64_t p) { return p >= 777 && p < 999; });
  expect({.kinds = 1U << 1, .first_position = 150, .end_position = 5000},
         [](uint64_t p) { return p >= 150 && TestTokens::Kind(p) == TokenKind::kSystem; });
}

TEST_F(ContextSearchTest, FiltersKnowWholeRunsAndWhatLiesAroundThem) {
  constexpr uint64_t kTokens = 4 * kRunTokens + 300;
  Create("c");
  Append("c", 0, kTokens);
  const std::pair<uint64_t, uint64_t> stretches[] = {
      {0, kTokens},
      {1, kTokens - 1},
      {kRunTokens, 2 * kRunTokens},
      {kRunTokens + 63, 3 * kRunTokens + 65},
      {100, 200},                                  // within a run
      {kRunTokens - 10, kRunTokens + 10},          // around a bound
      {4 * kRunTokens + 10, 4 * kRunTokens + 200}  // behind the last
  };
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& [first, end] : stretches) {
      ContextSearchRequest request = SearchOf("c", query_);
      request.filter = {.kinds = 1U << 2 | 1U << 5, .first_position = first, .end_position = end};
      EXPECT_THAT(Found(request),
                  ElementsAreArray(Expected(Metric::kCosine, query_, first, end, 10,
                                            [](uint64_t p) {
                                              return TestTokens::Kind(p) == TokenKind::kUser ||
                                                     TestTokens::Kind(p) == TokenKind::kDocument;
                                            })))
          << first << " to " << end;
      request.filter = {.first_position = first,
                        .end_position = end,
                        .from_unix_us = TestTokens::Time(first + 5),
                        .until_unix_us = TestTokens::Time(end - 5)};
      EXPECT_THAT(Found(request),
                  ElementsAreArray(Expected(Metric::kCosine, query_, first + 5, end - 5, 10, All)))
          << first << " to " << end;
    }
  }
}

TEST_F(ContextSearchTest, WhatADamagedChunkLeavesOutOfSummariesIsFoundByNodes) {
  const uint64_t id = Create("c");
  Append("c", 0, kRunTokens);
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ById(call_.identity.tenant, id));
  const StoredKey key = ChunkKey(context.scope, ChunkPart::kRows, 5, 0);
  StoreBatch batch;
  batch.Put(key, "damaged beyond recognition");
  batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  ASSERT_OK(contexts_->stores().Of(context).Apply(batch, false));
  ASSERT_OK(Consolidator(*contexts_, clock_).Step(context));
  ContextSearchRequest request = SearchOf("c", query_);
  request.resolution = 128;
  request.k = 100;
  ASSERT_OK_AND_ASSIGN(const ContextSearchAnswer answer, engine_->Search(call_, request));
  std::set<uint64_t> stretches;
  int medoids = 0;
  for (const ContextHit& hit : answer.hits[0]) {
    stretches.insert(hit.first_position);
    medoids += hit.position != hit.first_position ? 1 : 0;
  }
  EXPECT_EQ(answer.hits[0].size(), 16U);
  EXPECT_EQ(stretches.size(), 16U);
  // Those behind it too are stored ones.
  EXPECT_GE(medoids, 12);
}

TEST_F(ContextSearchTest, AFilterByPayloadKnowsWhoIsCovered) {
  Create("c");
  auto session = engine_->Append(call_, {.context = "c", .writer_id = 7});
  ASSERT_OK(session.status());
  const TestTokens tokens(0, 300, kDimension);
  TokenColumns columns = tokens.columns();
  columns.payloads = {{.first_position = 20, .count = 30, .bytes = "twenty"},
                      {.first_position = 200, .count = 10, .bytes = "two hundred"}};
  ASSERT_OK((*session)->Append(columns).status());
  const auto covered = [](uint64_t p) { return (p >= 20 && p < 50) || (p >= 200 && p < 210); };
  ContextSearchRequest request = SearchOf("c", query_);
  request.filter.has_payload = true;
  request.want_payload = true;
  const auto answer = engine_->Search(call_, request);
  ASSERT_OK(answer.status());
  EXPECT_THAT(PositionsOf(answer->hits[0]),
              ElementsAreArray(Expected(Metric::kCosine, query_, 0, 300, 10, covered)));
  for (const ContextHit& hit : answer->hits[0]) {
    ASSERT_TRUE(hit.payload.has_value());
    EXPECT_EQ(hit.payload->bytes, hit.position < 100 ? "twenty" : "two hundred");
    EXPECT_EQ(hit.payload->count, hit.position < 100 ? 30u : 10u);
  }
  request.filter.has_payload = false;
  EXPECT_THAT(Found(request), ElementsAreArray(Expected(Metric::kCosine, query_, 0, 300, 10,
                                                        [&](uint64_t p) { return !covered(p); })));
}

TEST_F(ContextSearchTest, WhatHasNothingAnswersNothing) {
  Create("empty");
  EXPECT_THAT(Found(SearchOf("empty", query_)), IsEmpty());
  Create("c");
  Append("c", 0, 100);
  ContextSearchRequest request = SearchOf("c", query_);
  request.filter.first_position = 100;
  EXPECT_THAT(Found(request), IsEmpty());
  request.filter = {.from_unix_us = TestTokens::Time(5000)};
  EXPECT_THAT(Found(request), IsEmpty());
  request = SearchOf("", query_);
  request.contexts.clear();
  request.labels = {{"nobody", "has it"}};
  EXPECT_THAT(Found(request), IsEmpty());
}

TEST_F(ContextSearchTest, SeveralQueriesAndContextsInOneCall) {
  const uint64_t a = Create("a", Metric::kCosine, {{"user", "ann"}});
  const uint64_t b = Create("b", Metric::kCosine, {{"book", "genesis"}, {"user", "ann"}});
  Create("c", Metric::kCosine, {{"user", "eve"}});
  Append("a", 0, 400, /*seed=*/1);
  Append("b", 0, 400, /*seed=*/2);
  Append("c", 0, 400, /*seed=*/3);
  std::vector<float> queries = query_;
  for (const float value : query_) queries.push_back(-value);
  ContextSearchRequest by_label = SearchOf("", queries);
  by_label.contexts.clear();
  by_label.labels = {{"user", "ann"}};
  by_label.k = 400;
  ContextSearchRequest by_name = SearchOf("a", queries);
  by_name.contexts = {"a", b, "a"};
  by_name.k = 400;
  for (const ContextSearchRequest& request : {by_label, by_name}) {
    const auto answer = engine_->Search(call_, request);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->contexts, 2u);
    ASSERT_EQ(answer->hits.size(), 2u);
    for (size_t q = 0; q < 2; ++q) {
      std::vector<uint64_t> of_a, of_b;
      for (size_t i = 0; i < answer->hits[q].size(); ++i) {
        const ContextHit& hit = answer->hits[q][i];
        (hit.context_id == a ? of_a : of_b).push_back(hit.position);
        EXPECT_TRUE(hit.context_id == a || hit.context_id == b);
        if (i > 0) {
          EXPECT_LE(hit.score, answer->hits[q][i - 1].score);
        }
      }
      EXPECT_EQ(of_a.size() + of_b.size(), 400u);
      const auto query = std::span<const float>(queries).subspan(q * kDimension, kDimension);
      EXPECT_THAT(of_a,
                  ElementsAreArray(Expected(Metric::kCosine, query, 0, 400, of_a.size(), All, 1)));
      EXPECT_THAT(of_b,
                  ElementsAreArray(Expected(Metric::kCosine, query, 0, 400, of_b.size(), All, 2)));
    }
  }
}

TEST_F(ContextSearchTest, SummariesAreFoundByTheirMeans) {
  Create("c");
  Append("c", 0, 1000);
  ContextSearchRequest request = SearchOf("c", query_);
  request.resolution = 128;
  const auto answer = engine_->Search(call_, request);
  ASSERT_OK(answer.status());
  ASSERT_EQ(answer->hits[0].size(), 8u);
  double last = std::numeric_limits<double>::infinity();
  for (const ContextHit& hit : answer->hits[0]) {
    EXPECT_EQ(hit.first_position % 128, 0u);
    EXPECT_EQ(hit.count, std::min<uint64_t>(128, 1000 - hit.first_position));
    double dot = 0;
    double norm = 0;
    double query_norm = 0;
    for (uint32_t i = 0; i < kDimension; ++i) {
      double mean = 0;
      for (uint64_t p = 0; p < hit.count; ++p) {
        mean += TestTokens::Value(hit.first_position + p, i);
      }
      mean /= static_cast<double>(hit.count);
      dot += mean * query_[i];
      norm += mean * mean;
      query_norm += double{query_[i]} * query_[i];
    }
    EXPECT_NEAR(hit.score, dot / std::sqrt(norm * query_norm), 1e-4);
    EXPECT_LE(hit.score, last);
    last = hit.score;
  }
}

TEST_F(ContextSearchTest, StoredSummariesAreFoundAsNodesAreAndTellTheirMedoid) {
  for (const auto& [metric, type] : {std::pair(Metric::kCosine, ElementType::kFloat16),
                                     std::pair(Metric::kL2, ElementType::kFloat16),
                                     std::pair(Metric::kL2, ElementType::kRotated4)}) {
    ContextSpec spec = TestContext(
        fmt::format("{} {}", static_cast<int>(metric), static_cast<int>(type)), kDimension);
    spec.metric = metric;
    spec.stored = type;
    const std::string& name = spec.name;
    ASSERT_OK_AND_ASSIGN(const auto created, engine_->Create(call_, spec));
    const uint64_t id = created.info.id;
    Append(name, 0, 3000);
    ContextSearchRequest request = SearchOf(name, query_);
    request.resolution = 128;
    request.k = 100;
    request.filter = {.first_position = 100, .end_position = 2900};
    ASSERT_OK_AND_ASSIGN(const ContextSearchAnswer nodes, engine_->Search(call_, request));
    for (const ContextHit& hit : nodes.hits[0]) EXPECT_EQ(hit.position, hit.first_position);
    ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ById(call_.identity.tenant, id));
    // The first block of 2,048 is consolidated, the rest is not.
    ASSERT_OK(Consolidator(*contexts_, clock_).Step(context));
    ASSERT_OK_AND_ASSIGN(const ContextSearchAnswer stored, engine_->Search(call_, request));
    ASSERT_EQ(stored.hits[0].size(), nodes.hits[0].size());
    std::map<uint64_t, float> scores;
    for (const ContextHit& hit : nodes.hits[0]) scores[hit.first_position] = hit.score;
    int medoids = 0;
    for (const ContextHit& hit : stored.hits[0]) {
      ASSERT_TRUE(scores.contains(hit.first_position));
      EXPECT_NEAR(hit.score, scores[hit.first_position], 1e-2);
      ASSERT_OK_AND_ASSIGN(const auto summary,
                           contexts_->reader().summaries().At(context, 0, hit.first_position));
      EXPECT_EQ(hit.position, summary ? summary->medoid_position : hit.first_position);
      EXPECT_EQ(hit.token_id, TestTokens::Id(hit.position));
      medoids += summary && hit.position != hit.first_position ? 1 : 0;
    }
    // All of the block but the stretch that the filter cuts.
    EXPECT_GE(medoids, 12);
    // What a filter asks of tokens only nodes know.
    request.filter.kinds = 1U << static_cast<int>(TestTokens::Kind(0));
    ASSERT_OK_AND_ASSIGN(const ContextSearchAnswer filtered, engine_->Search(call_, request));
    EXPECT_LT(filtered.hits[0].size(), stored.hits[0].size());
    for (const ContextHit& hit : filtered.hits[0]) {
      bool kept = false;
      for (uint64_t p = hit.first_position; p < hit.first_position + hit.count; ++p) {
        kept |= TestTokens::Kind(p) == TestTokens::Kind(0);
      }
      EXPECT_TRUE(kept) << hit.first_position;
    }
  }
}

TEST_F(ContextSearchTest, HitsTellTheirLevelAndAreOneUseOfTheirRun) {
  const uint64_t id = Create("c");
  Append("c", 0, 2 * kRunTokens);
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ById(call_.identity.tenant, id));
  ASSERT_OK(ChunkMover(*contexts_).Demote(context, 1));
  const auto answer = engine_->Search(call_, SearchOf("c", query_));
  ASSERT_OK(answer.status());
  std::set<uint64_t> runs;
  for (const ContextHit& hit : answer->hits[0]) {
    EXPECT_EQ(hit.level, hit.position < kRunTokens ? Level::kL3 : Level::kDisk);
    runs.insert(hit.position / kRunTokens);
  }
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(contexts_->uses().noted(), 2U);
}

TEST_F(ContextSearchTest, FieldsOutOfTheirRangesAreRefusedByName) {
  Create("c");
  Append("c", 0, 10);
  const auto refused = [&](const std::string& why, auto&& spoil) {
    ContextSearchRequest request = SearchOf("c", query_);
    spoil(request);
    ExpectRefused(request, why);
  };
  refused("k is 0; it must be 1 to 1024", [](auto& r) { r.k = 0; });
  refused("k is 1025", [](auto& r) { r.k = 1025; });
  refused("target_recall is 0.4; it must be 0.5 to 1", [](auto& r) { r.target_recall = 0.4F; });
  refused("target_recall is nan", [](auto& r) { r.target_recall = NAN; });
  refused("resolution is 129", [](auto& r) { r.resolution = 129; });
  refused("ef_search is 65537", [](auto& r) { r.ef = 65537; });
  refused("nprobe is 65537", [](auto& r) { r.nprobe = 65537; });
  refused("context is absent", [](auto& r) { r.contexts = {std::monostate()}; });
  refused("labels go with contexts", [](auto& r) { r.labels = {{"a", "b"}}; });
  std::vector<float> bad = query_;
  bad[3] = std::numeric_limits<float>::quiet_NaN();
  refused("queries[0]", [&](auto& r) { r.queries = bad; });
  const std::vector<float> zeros(kDimension);
  refused("queries[0]", [&](auto& r) { r.queries = zeros; });
  const std::vector<float> short_query(4, 1.0F);
  refused("dimension is 4; that of contexts[0], 'c', is 8", [&](auto& r) {
    r.dimension = 4;
    r.queries = short_query;
  });
  Create("other", Metric::kL2);
  Append("other", 0, 10);
  refused("'c' and 'other' have different metrics", [](auto& r) { r.contexts = {"c", "other"}; });
  ContextSearchRequest unknown = SearchOf("nobody", query_);
  EXPECT_THAT(engine_->Search(call_, unknown).status(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ContextSearchTest, ACancelledSearchEnds) {
  Create("c");
  Append("c", 0, 10);
  call_.cancelled = true;
  EXPECT_THAT(engine_->Search(call_, SearchOf("c", query_)).status(),
              StatusIs(absl::StatusCode::kCancelled));
}

// Less memory than one range takes: every search reads from the store anew.
class NarrowContextSearchTest : public ContextSearchTest {
 protected:
  NarrowContextSearchTest() : ContextSearchTest({.search_memory_bytes = 1}) {}
};

TEST_F(NarrowContextSearchTest, FindsTheSameAndHoldsNothing) {
  Create("c");
  Append("c", 0, 3000);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Found(SearchOf("c", query_)),
                ElementsAreArray(Expected(Metric::kCosine, query_, 0, 3000, 10, All)));
    const auto description = engine_->Describe(call_, "c", 0);
    ASSERT_OK(description.status());
    EXPECT_EQ(description->index_bytes, 0u);
    EXPECT_EQ(description->segments, 0u);
  }
}

}  // namespace
}  // namespace mnemo

#include "server/engine/context_indexer.h"

#include <functional>
#include <map>
#include <set>
#include <thread>

#include "absl/synchronization/notification.h"
#include "storage/context/context_keys.h"
#include "storage/context/embedding.h"
#include "tests/unit/server/engine/context_engine_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Lt;

constexpr uint64_t kRun = SegmentSet::kRunRows;
// Of lists over random vectors of eight dimensions, which one bit a dimension
// hardly tells apart: tests/contract/index has what they reach on vectors like
// a model's.
constexpr double kListRecall = 0.85;

class ContextIndexerTest : public ContextEngineTest {
 protected:
  // Lists for everything, which are built quickly, unless told otherwise.
  explicit ContextIndexerTest(const ContextEngineOptions& options = {.search_memory_bytes = 64 *
                                                                                            kMiB,
                                                                     .index = {.graph_tokens = 0}},
                              const Kernels& kernels = BestKernels())
      : ContextEngineTest(options, kernels) {}

  // Until there is nothing more to do.
  void IndexAll() {
    bool more = true;
    while (more) {
      ASSERT_OK_AND_ASSIGN(more, engine_->IndexStep());
    }
  }
  ContextIndexerFigures built() const { return engine_->index_figures().built; }
  ContextDescription Describe(const std::string& name) {
    auto described = engine_->Describe(call_, name, 0);
    EXPECT_OK(described.status());
    return described.ok() ? *std::move(described) : ContextDescription{};
  }
  ContextSearchAnswer Search(const ContextSearchRequest& request) {
    auto answer = engine_->Search(call_, request);
    EXPECT_OK(answer.status());
    return answer.ok() ? *std::move(answer) : ContextSearchAnswer{.hits = {{}}};
  }
  // Of the true ten nearest that `keep` keeps, the share that is found, over
  // some queries.
  template <typename Keep>
  double Recall(const std::string& name, uint64_t tokens, const TokenFilter& filter, Keep keep) {
    size_t found = 0;
    size_t wanted = 0;
    for (uint64_t seed = 100; seed < 120; ++seed) {
      std::vector<float> query;
      for (uint32_t i = 0; i < kDimension; ++i) query.push_back(TestTokens::Value(3, i, seed));
      ContextSearchRequest request = SearchOf(name, query);
      request.filter = filter;
      const auto positions = PositionsOf(Search(request).hits[0]);
      const std::set<uint64_t> got(positions.begin(), positions.end());
      for (const uint64_t position : Expected(Metric::kCosine, query, 0, tokens, 10, keep)) {
        ++wanted;
        found += got.contains(position) ? 1 : 0;
      }
    }
    return static_cast<double>(found) / static_cast<double>(wanted);
  }
  double Recall(const std::string& name, uint64_t tokens) { return Recall(name, tokens, {}, All); }

  ContextRecord Record(const std::string& name) {
    const auto record = contexts_->ByName(call_.identity.tenant, name);
    EXPECT_OK(record.status());
    return record.ok() ? *record : ContextRecord{};
  }
  SegmentRecord Stored(const std::string& name, uint64_t range = 0) {
    const auto record = ContextSegments(*contexts_).Read(Record(name), range);
    EXPECT_OK(record.status());
    return record.ok() ? *record : SegmentRecord{};
  }
  size_t SegmentKeys(const ContextRecord& context) {
    size_t keys = 0;
    const StoredKey prefix(HomeShard(context.scope), KeyKind::kSegment, context.scope, "");
    EXPECT_OK(contexts_->stores().Of(context).Scan(
        prefix.bytes(), PrefixEnd(prefix.bytes()),
        [&](const StoredKey&, std::string_view) { return ++keys, true; }));
    return keys;
  }
  void Overwrite(const ContextRecord& context, const StoredKey& key, const std::string& value) {
    StoreBatch batch;
    batch.Put(key, value);
    batch.Log({.shard = key.shard(), .kind = OperationKind::kPutSegment, .key = key.bytes()});
    ASSERT_OK(contexts_->stores().Of(context).Apply(batch, false));
  }
};

// Graphs up to 40,000 tokens.
class GraphContextIndexerTest : public ContextIndexerTest {
 protected:
  explicit GraphContextIndexerTest(const Kernels& kernels = BestKernels())
      : ContextIndexerTest({.search_memory_bytes = 64 * kMiB, .index = {.graph_tokens = 40000}},
                           kernels) {}
};

TEST_F(GraphContextIndexerTest, SealedSegmentsFindWhatAScanFinds) {
  Create("c");
  constexpr uint64_t kTokens = 2 * kRun + 500;
  Append("c", 0, kTokens);
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, kTokens);
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  EXPECT_EQ(built().rows, 2 * kRun);
  EXPECT_EQ(built().waiting, 0U);
  const ContextSearchAnswer answer = Search(SearchOf("c", query_));
  EXPECT_EQ(answer.unindexed, 500U);
  EXPECT_EQ(answer.segments, 2U);
  EXPECT_THAT(answer.distances, Lt(kTokens / 2));
  EXPECT_THAT(answer.reranked, Gt(0U));
  for (const ContextHit& hit : answer.hits[0]) EXPECT_EQ(hit.indexed, hit.position < 2 * kRun);
  EXPECT_GE(Recall("c", kTokens), 0.95);
  // What comes after is found as well, at once.
  Append("c", kTokens, 100);
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 600U);
  EXPECT_GE(Recall("c", kTokens + 100), 0.95);
}

TEST_F(ContextIndexerTest, MoreWorkFindsMore) {
  Create("c");
  Append("c", 0, 2 * kRun);
  IndexAll();
  ContextSearchRequest request = SearchOf("c", query_);
  request.nprobe = 1;
  const ContextSearchAnswer little = Search(request);
  request.nprobe = 65536;
  const ContextSearchAnswer all = Search(request);
  EXPECT_LT(little.distances, all.distances);
  EXPECT_GE(all.distances, 2 * kRun);
  request.nprobe = 0;
  request.target_recall = 0.5F;
  const ContextSearchAnswer half = Search(request);
  request.target_recall = 1;
  const ContextSearchAnswer whole = Search(request);
  EXPECT_LT(half.distances, whole.distances);
}

TEST_F(GraphContextIndexerTest, FiltersKeepTheirRecall) {
  Create("c");
  constexpr uint64_t kTokens = 2 * kRun;
  Append("c", 0, kTokens);
  IndexAll();
  for (const uint64_t share : {2, 10, 100, 1000}) {
    const uint64_t count = kTokens / share;
    const auto first = static_cast<uint64_t>(5000);
    TokenFilter filter{.from_unix_us = TestTokens::Time(first),
                       .until_unix_us = TestTokens::Time(first + count)};
    EXPECT_GE(
        Recall("c", kTokens, filter, [&](uint64_t p) { return p >= first && p < first + count; }),
        0.95)
        << "one of " << share;
  }
  EXPECT_GE(Recall("c", kTokens, {.kinds = 1U << 2},
                   [](uint64_t p) { return TestTokens::Kind(p) == TokenKind::kUser; }),
            0.95);
  EXPECT_GE(Recall("c", kTokens, {.first_position = 77, .end_position = 20000},
                   [](uint64_t p) { return p >= 77 && p < 20000; }),
            0.95);
}

TEST_F(ContextIndexerTest, ContextsThatStoreOtherTypesAreSearchedTogether) {
  const std::map<std::string, ElementType> contexts = {{"half", ElementType::kFloat16},
                                                       {"byte", ElementType::kInt8},
                                                       {"code", ElementType::kRotated4}};
  std::map<uint64_t, ElementType> by_id;
  for (const auto& [name, stored] : contexts) {
    ContextSpec spec = TestContext(name, kDimension);
    spec.stored = stored;
    ASSERT_OK_AND_ASSIGN(const auto created, engine_->Create(call_, spec));
    by_id[created.info.id] = stored;
    Append(name, 0, 2 * kRun);
  }
  // Scores are those of rows as they are stored, from segments that grow and from those
  // that were built.
  for (const uint64_t unindexed : {3 * 2 * kRun, uint64_t{0}}) {
    if (unindexed == 0) IndexAll();
    for (const auto& names : std::vector<std::vector<std::string>>{
             {"half", "byte", "code"}, {"code", "byte", "half"}, {"byte", "code", "half"}}) {
      ContextSearchRequest request = SearchOf("half", query_);
      request.contexts = {names.begin(), names.end()};
      request.k = 60;
      const ContextSearchAnswer answer = Search(request);
      EXPECT_EQ(answer.unindexed, unindexed);
      ASSERT_EQ(answer.hits[0].size(), 60U);
      std::set<uint64_t> seen;
      for (const ContextHit& hit : answer.hits[0]) {
        seen.insert(hit.context_id);
        const TestTokens token(hit.position, 1, kDimension);
        const ElementType stored = by_id.at(hit.context_id);
        std::string row;
        EncodeRows(ElementType::kFloat32, token.columns().embeddings, 1, kDimension, stored, row);
        std::vector<float> values(kDimension);
        DecodeRows(stored, AsBytes(row).data(), 1, kDimension, values.data());
        double dot = 0, norm = 0, query_norm = 0;
        for (uint32_t i = 0; i < kDimension; ++i) {
          dot += double{values[i]} * query_[i];
          norm += double{values[i]} * values[i];
          query_norm += double{query_[i]} * query_[i];
        }
        EXPECT_NEAR(hit.score, dot / std::sqrt(norm * query_norm), 0.002);
      }
      EXPECT_EQ(seen.size(), 3U);
    }
  }
}

TEST_F(ContextIndexerTest, SmallContextsStayFlat) {
  Create("c");
  Append("c", 0, 2 * kRun - 1);
  IndexAll();
  EXPECT_EQ(built().builds, 0U);
  EXPECT_EQ(SegmentKeys(Record("c")), 0U);
}

TEST_F(ContextIndexerTest, ARestartLoadsWhatWasBuilt) {
  Create("c");
  constexpr uint64_t kTokens = 2 * kRun + 9;
  Append("c", 0, kTokens);
  IndexAll();
  const auto before = PositionsOf(Search(SearchOf("c", query_)).hits[0]);
  Restart();
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 9U);
  EXPECT_THAT(PositionsOf(Search(SearchOf("c", query_)).hits[0]), ElementsAreArray(before));
  IndexAll();
  EXPECT_EQ(built().builds, 0U);
  EXPECT_EQ(built().load_failures, 0U);
}

TEST_F(ContextIndexerTest, WhatWasAppendedBeforeAStartIsFoundByTheSweep) {
  Create("c");
  Append("c", 0, 2 * kRun);
  Create("d");
  Append("d", 0, 10);
  Restart();
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 0U);
}

TEST_F(ContextIndexerTest, ADamagedSegmentIsLeftOutAndBuiltAgain) {
  Create("c");
  Append("c", 0, 2 * kRun);
  IndexAll();
  const ContextRecord context = Record("c");
  const StoredKey part = SegmentPartKey(context.scope, 0, Stored("c").segments[0].number, 0);
  ASSERT_OK_AND_ASSIGN(std::string value, contexts_->stores().Of(context).Get(part));
  value[1000] ^= 1;
  Overwrite(context, part, value);
  Restart();
  const ContextSearchAnswer flat = Search(SearchOf("c", query_));
  EXPECT_EQ(flat.unindexed, 2 * kRun);
  EXPECT_THAT(PositionsOf(flat.hits[0]),
              ElementsAreArray(Expected(Metric::kCosine, query_, 0, 2 * kRun, 10, All)));
  EXPECT_EQ(built().load_failures, 1U);
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 0U);
  Restart();
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 0U);
  EXPECT_EQ(built().load_failures, 0U);
}

TEST_F(ContextIndexerTest, ABuildThatFailedIsTriedAgainLessAndLessOften) {
  Create("c");
  Append("c", 0, 2 * kRun);
  const ContextRecord context = Record("c");
  const StoredKey key = ChunkKey(context.scope, ChunkPart::kRows, 40, 0);
  ASSERT_OK_AND_ASSIGN(const std::string sound, contexts_->stores().Of(context).Get(key));
  Overwrite(context, key, "damaged beyond recognition");
  ASSERT_OK(engine_->IndexStep().status());  // the sweep
  EXPECT_THAT(engine_->IndexStep(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("'c'")));
  uint64_t tokens = 2 * kRun;
  for (const int minutes : {1, 2, 4, 8, 16, 32, 60, 60}) {
    const uint64_t failed = built().failed;
    // Whatever is noted of it.
    Append("c", tokens, kMaxTokensPerAppend);
    tokens += kMaxTokensPerAppend;
    clock_.Advance(std::chrono::minutes(minutes) - Nanos(1));
    ASSERT_OK_AND_ASSIGN(const bool more, engine_->IndexStep());
    EXPECT_FALSE(more);
    EXPECT_EQ(built().failed, failed) << minutes;
    EXPECT_EQ(built().waiting, 1U);
    clock_.Advance(Nanos(1));
    EXPECT_THAT(engine_->IndexStep(), StatusIs(absl::StatusCode::kDataLoss)) << minutes;
    EXPECT_EQ(built().failed, failed + 1);
  }
  // Others do not wait for it.
  Create("d");
  Append("d", 0, 2 * kRun);
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  Overwrite(context, key, sound);
  clock_.Advance(std::chrono::hours(1));
  IndexAll();
  EXPECT_GT(built().builds, 1U);
  EXPECT_EQ(built().waiting, 0U);
  EXPECT_LT(Search(SearchOf("c", query_)).unindexed, 2 * kRun);
}

TEST_F(ContextIndexerTest, ADeletedContextWhoseBuildFailedIsNotTriedAgain) {
  Create("c");
  Append("c", 0, 2 * kRun);
  const ContextRecord context = Record("c");
  Overwrite(context, ChunkKey(context.scope, ChunkPart::kRows, 40, 0), "damaged");
  ASSERT_OK(engine_->IndexStep().status());
  EXPECT_THAT(engine_->IndexStep(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(built().waiting, 1U);
  ASSERT_OK(engine_->Delete(call_, "c", /*wait=*/true).status());
  EXPECT_EQ(built().waiting, 0U);
}

TEST_F(ContextIndexerTest, BytesOfAnotherDigestAreNotLoaded) {
  Create("c");
  Append("c", 0, 2 * kRun);
  IndexAll();
  const ContextRecord context = Record("c");
  SegmentRecord record = Stored("c");
  ++record.segments[0].digest;
  const StoredKey key = SegmentsKey(context.scope, 0);
  Overwrite(context, key, EncodeSegments(record, SeedOf(key)));
  Restart();
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 2 * kRun);
  EXPECT_EQ(built().load_failures, 1U);
  IndexAll();
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 0U);
}

TEST_F(ContextIndexerTest, ARecordOfMoreTokensThanThereAreIsNotBelieved) {
  Create("c");
  Append("c", 0, 2 * kRun);
  Create("d");
  Append("d", 0, 2 * kRun - 1);
  IndexAll();
  // As it would be if the index were ahead of the store.
  const SegmentRecord ahead = Stored("c");
  const auto bytes = ContextSegments(*contexts_).Look(Record("c"), 0).Load(ahead.segments[0]);
  ASSERT_OK(bytes.status());
  const std::atomic<bool> not_cancelled{false};
  ContextSegments segments(*contexts_);
  ASSERT_OK(
      segments.Replace(Record("d"), 0, {}, {}, ahead.segments[0], AsBytes(*bytes), not_cancelled)
          .status());
  EXPECT_EQ(Search(SearchOf("d", query_)).unindexed, 2 * kRun - 1);
  EXPECT_EQ(built().load_failures, 1U);
}

TEST_F(ContextIndexerTest, ADeletedContextIsNotBuiltAndLeavesNothing) {
  Create("c");
  Append("c", 0, 2 * kRun);
  IndexAll();
  const ContextRecord built_context = Record("c");
  EXPECT_GT(SegmentKeys(built_context), 1U);
  ASSERT_OK(engine_->Delete(call_, "c", /*wait=*/true).status());
  EXPECT_EQ(SegmentKeys(built_context), 0U);
  EXPECT_EQ(engine_->index_figures().held[Index(SegmentKind::kIvf)].segments, 0U);
  Create("d");
  Append("d", 0, 2 * kRun);
  const ContextRecord context = Record("d");
  // Past the engine, so that the indexer finds out by itself.
  ASSERT_OK(contexts_->Delete(context).status());
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  EXPECT_EQ(SegmentKeys(context), 0U);
}

TEST_F(ContextIndexerTest, AfterTheStopNothingIsBuilt) {
  Create("c");
  Append("c", 0, 2 * kRun);
  engine_->StopIndexing();
  IndexAll();
  EXPECT_EQ(built().builds, 0U);
}

// Holds a build at the first row that it decodes.
class HeldBuild {
 public:
  HeldBuild() { next_ = this; }
  ~HeldBuild() { next_ = nullptr; }

  // Kernels of which the next build is held.
  static const Kernels& HoldingKernels() {
    static const Kernels kernels = [] {
      Kernels holding = BestKernels();
      holding.decode[static_cast<size_t>(kStored)] = HoldAndDecode;
      return holding;
    }();
    return kernels;
  }

  void WaitUntilBegun() { begun_.WaitForNotification(); }
  void GoOn() { go_on_.Notify(); }

 private:
  // Of TestContext.
  static constexpr ElementType kStored = ElementType::kFloat16;

  static void HoldAndDecode(const uint8_t* row, size_t dimension, float* out) {
    if (HeldBuild* const held = next_.exchange(nullptr)) {
      held->begun_.Notify();
      held->go_on_.WaitForNotification();
    }
    BestKernels().DecodeRow(kStored)(row, dimension, out);
  }

  static inline std::atomic<HeldBuild*> next_{nullptr};
  absl::Notification begun_;
  absl::Notification go_on_;
};

class GivenUpBuildTest : public GraphContextIndexerTest {
 protected:
  GivenUpBuildTest() : GraphContextIndexerTest(HeldBuild::HoldingKernels()) {}

  // Starts to build the graph of a context, does `meanwhile`, and returns when
  // the build has ended.
  void During(const std::function<void()>& meanwhile) {
    Create("c");
    Append("c", 0, 2 * kRun);
    // The sweep.
    ASSERT_OK(engine_->IndexStep().status());
    ASSERT_EQ(built().waiting, 1U);
    HeldBuild build;
    std::thread indexer([&] { EXPECT_OK(engine_->IndexStep().status()); });
    build.WaitUntilBegun();
    meanwhile();
    build.GoOn();
    indexer.join();
    EXPECT_EQ(built().cancelled, 1U);
    EXPECT_EQ(built().builds, 0U);
  }
};

TEST_F(GivenUpBuildTest, WhereTheContextOutgrowsGraphs) {
  During([&] { Append("c", 2 * kRun, kMaxTokensPerAppend); });
  IndexAll();
  EXPECT_EQ(built().builds, 1U);
  EXPECT_EQ(static_cast<SegmentKind>(Stored("c").segments.at(0).kind), SegmentKind::kIvf);
}

TEST_F(GivenUpBuildTest, WhereTheContextIsDeleted) {
  ContextRecord context;
  During([&] {
    context = Record("c");
    ASSERT_OK(engine_->Delete(call_, "c", /*wait=*/true).status());
  });
  IndexAll();
  EXPECT_EQ(built().builds, 0U);
  EXPECT_EQ(SegmentKeys(context), 0U);
}

TEST_F(GivenUpBuildTest, AtTheEnd) {
  During([&] { engine_->StopIndexing(); });
  EXPECT_EQ(SegmentKeys(Record("c")), 0U);
}

TEST_F(GraphContextIndexerTest, ALongContextExchangesGraphsForLists) {
  Create("c");
  Append("c", 0, 2 * kRun);
  IndexAll();
  const auto kind_of = [](const SegmentRecord& record) {
    return static_cast<SegmentKind>(record.segments.at(0).kind);
  };
  EXPECT_EQ(kind_of(Stored("c")), SegmentKind::kHnsw);
  EXPECT_GE(Recall("c", 2 * kRun), 0.95);
  ContextDescription described = Describe("c");
  EXPECT_EQ(described.indexed_tokens, 2 * kRun);
  for (const ContextRun& run : described.runs) EXPECT_EQ(run.index, "hnsw");
  const uint64_t tokens = kRangeTokens + 300;
  Append("c", 2 * kRun, tokens - 2 * kRun);
  IndexAll();
  const SegmentRecord record = Stored("c");
  ASSERT_EQ(record.segments.size(), 1U);
  EXPECT_EQ(kind_of(record), SegmentKind::kIvf);
  EXPECT_EQ(record.rows(), kRangeTokens);
  EXPECT_GE(Recall("c", tokens), kListRecall);
  described = Describe("c");
  EXPECT_EQ(described.indexed_tokens, kRangeTokens);
  EXPECT_EQ(described.segments, 2U);
  EXPECT_EQ(described.runs.front().index, "ivf");
  EXPECT_EQ(described.runs.back().index, "flat");
}

// Less memory than a run takes.
class NarrowContextIndexerTest : public ContextIndexerTest {
 protected:
  NarrowContextIndexerTest()
      : ContextIndexerTest({.search_memory_bytes = 1, .index = {.graph_tokens = 0}}) {}
};

TEST_F(NarrowContextIndexerTest, SealsRunByRunAndMakesAFullRangeOne) {
  Create("c");
  Append("c", 0, 3 * kRun);
  IndexAll();
  EXPECT_EQ(Stored("c").segments.size(), 3U);
  EXPECT_EQ(Search(SearchOf("c", query_)).unindexed, 0U);
  EXPECT_GE(Recall("c", 3 * kRun), kListRecall);
  EXPECT_EQ(Describe("c").index_bytes, 0U);
  Append("c", 3 * kRun, kRangeTokens - 3 * kRun);
  IndexAll();
  EXPECT_EQ(Stored("c").segments.size(), 1U);
  EXPECT_GE(Recall("c", kRangeTokens), kListRecall);
}

}  // namespace
}  // namespace mnemo

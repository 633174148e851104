// The machine loses power amid appends, builds, publishing and deletions of
// contexts that are indexed.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "index/vector/rerank.h"
#include "server/engine/context_indexer.h"
#include "server/engine/context_range_cache.h"
#include "server/engine/context_vectors.h"
#include "storage/base/units.h"
#include "tests/fault/context/power_loss_fixture.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 8;
constexpr size_t kQueries = 10;
constexpr size_t kResults = 10;
// Ten among the best hundred of all lists: nearly certain.
constexpr size_t kAsked = 100;
constexpr double kLeastRecall = 0.9;

// What the engine puts on a node for searches.
struct NodeIndex {
  NodeIndex(ContextStore& contexts, const Clock& clock)
      : segments(contexts),
        ranges(contexts.reader(), segments, contexts.cache(), clock, BestKernels(), 64 * kMiB,
               [this](const ContextRecord& context, uint64_t range) {
                 indexer.NoteDamage(context, range);
               }),
        indexer(contexts, segments, ranges, clock, BestKernels(), {.graph_tokens = 0}) {}

  ContextSegments segments;
  ContextRangeCache ranges;
  ContextIndexer indexer;
};

class IndexPowerLossTest : public ContextPowerLossTest {
 protected:
  struct Known {
    uint64_t acknowledged = 0;
    uint64_t offered = 0;  // with what was never answered
    Durability durability = Durability::kSync;
  };

  void Open() {
    ASSERT_OK(TryOpen());
    index_ = std::make_unique<NodeIndex>(store(), clock_);
  }

  // Appends, indexes and now and then deletes until something fails.
  void WorkUntilPowerFails(std::mt19937_64& random) {
    for (int i = 0; i < 12; ++i) {
      const std::string name = random() % 2 == 0 ? "sync" : "interval";
      if (random() % 16 == 0) {
        if (!Delete(name)) return;
        continue;
      }
      if (!Append(name, 1 + random() % kMaxTokensPerAppend, 1 + random() % 4)) return;
      absl::StatusOr<bool> more = true;
      while (more.ok() && *more) more = index_->indexer.Step();
      if (!more.ok()) return;
    }
  }
  bool Append(const std::string& name, uint64_t batch, uint64_t batches) {
    ContextSpec spec = TestContext(name, kDimension);
    if (name == "interval") spec.durability = Durability::kInterval;
    const auto made = store().Create(kTenant, spec);
    if (!made.ok()) return false;
    Known& known = known_[name];
    known.durability = spec.durability;
    const auto claim = store().Claim(made->first, 1);
    if (!claim.ok()) return false;
    for (uint64_t i = 0; i < batches; ++i) {
      const TestTokens tokens(known.acknowledged, static_cast<uint32_t>(batch), kDimension);
      known.offered = known.acknowledged + batch;
      const auto result =
          store().Append(made->first, *claim, tokens.columns(), Durability::kInterval);
      if (!result.ok()) return false;
      index_->indexer.Note(made->first, known.acknowledged, result->next_position);
      known.acknowledged = result->next_position;
    }
    return true;
  }
  // What was there before may be found again where the answer was lost.
  bool Delete(const std::string& name) {
    const auto record = store().ByName(kTenant, name);
    if (!record.ok()) return absl::IsNotFound(record.status());
    known_[name].offered = std::max(known_[name].offered, known_[name].acknowledged);
    const bool done = store().Delete(*record).ok();
    index_->indexer.Forget(record->scope.space);
    index_->ranges.Forget(record->scope.space);
    if (done) {
      known_.erase(name);
    } else {
      known_[name].acknowledged = 0;  // or all of it is there
    }
    return done && store().EraseStep().ok();
  }

  void Verify() {
    for (auto& [name, known] : known_) {
      SCOPED_TRACE(name);
      const auto record = store().ByName(kTenant, name);
      if (absl::IsNotFound(record.status())) {
        ASSERT_EQ(known.acknowledged, 0U);
        known = {};
        continue;
      }
      ASSERT_OK(record.status());
      ASSERT_OK_AND_ASSIGN(const ContextHead head, store().reader().Head(*record));
      if (known.durability == Durability::kSync) {
        ASSERT_GE(head.next_position, known.acknowledged);
      }
      ASSERT_LE(head.next_position, known.offered);
      known.acknowledged = known.offered = head.next_position;
      for (uint64_t range = 0; range * kRangeTokens < head.next_position; ++range) {
        CheckSegments(*record, range, head.next_position);
        CheckSearch(*record, range, head.next_position);
        if (HasFatalFailure()) return;
      }
    }
    EXPECT_EQ(index_->indexer.figures().load_failures, 0U);
  }
  // What is recorded is whole, and is of tokens that are there.
  void CheckSegments(const ContextRecord& context, uint64_t range, uint64_t tokens) {
    const auto view = index_->segments.Look(context, range);
    ASSERT_OK_AND_ASSIGN(const SegmentRecord record, view.Read());
    ASSERT_LE(range * kRangeTokens + record.rows(), tokens);
    for (const StoredSegment& stored : record.segments) {
      ASSERT_OK_AND_ASSIGN(const std::string bytes, view.Load(stored));
      ASSERT_OK(LoadSegment(AsBytes(bytes), stored.digest, BestKernels()).status());
      segments_seen_ += 1;
    }
  }
  // What is found is what a scan of the tokens finds.
  void CheckSearch(const ContextRecord& context, uint64_t range, uint64_t tokens) {
    const uint64_t first = range * kRangeTokens;
    const auto rows = static_cast<uint32_t>(std::min(kRangeTokens, tokens - first));
    CallContext call;
    ASSERT_OK_AND_ASSIGN(const auto set, index_->ranges.Range(call, context, range, rows));
    const auto snapshot = set->Snapshot();
    const SearchVectors vectors(store().reader(), context, first);
    size_t right = 0;
    for (uint64_t seed = 50; seed < 50 + kQueries; ++seed) {
      std::vector<float> values;
      for (uint32_t i = 0; i < kDimension; ++i) values.push_back(TestTokens::Value(1, i, seed));
      const Query query = *Query::Prepare(ShapeOf(context.spec), values);
      TopK found(kAsked);
      TopK exact(kResults);
      ASSERT_OK(snapshot->Search(query, {.nprobe = 65536}, vectors, found, nullptr));
      ASSERT_OK(
          ScanRows(ShapeOf(context.spec), BestKernels(), query, {}, rows, vectors, exact, nullptr));
      std::set<uint64_t> ids;
      for (const Hit& hit : exact.Take()) ids.insert(hit.id);
      for (const Hit& hit : found.Take()) right += ids.contains(hit.id) ? 1 : 0;
    }
    const size_t wanted = kQueries * std::min<size_t>(kResults, rows);
    ASSERT_GE(static_cast<double>(right), kLeastRecall * static_cast<double>(wanted));
  }

  std::unique_ptr<NodeIndex> index_;
  std::map<std::string, Known> known_;
  size_t segments_seen_ = 0;
};

TEST_F(IndexPowerLossTest, IndexAndStoreAgreeIn20Cycles) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int cycle = 0; cycle < 20; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    Open();
    if (HasFatalFailure()) return;
    Verify();
    if (HasFatalFailure()) return;
    files_->FailAfter(random() % 120);
    WorkUntilPowerFails(random);
    index_.reset();
    LosePower(random());
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(segments_seen_, 0U);
  // Left alone, it ends with everything indexed.
  Open();
  Verify();
  ASSERT_TRUE(Append("sync", kMaxTokensPerAppend, 4));
  bool more = true;
  while (more) {
    ASSERT_OK_AND_ASSIGN(more, index_->indexer.Step());
  }
  Verify();
}

}  // namespace
}  // namespace mnemo

#include "server/engine/context_range_cache.h"

#include "tests/unit/server/engine/context_engine_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;

class ContextRangeCacheTest : public ContextEngineTest {
 protected:
  // The first `tokens` of a context that Append filled, as one range.
  absl::Status Use(ContextRangeCache& cache, const std::string& name, uint32_t tokens,
                   uint64_t range = 0) {
    MNEMO_ASSIGN_OR_RETURN(const ContextRecord context,
                           contexts_->ByName(call_.identity.tenant, name));
    MNEMO_ASSIGN_OR_RETURN(const auto set, cache.Range(call_, context, range, tokens));
    if (set->Snapshot()->rows() == tokens) return absl::OkStatus();
    return absl::InternalError("other rows than asked for");
  }
  uint64_t Held(const ContextRangeCache& cache, const std::string& name) {
    const auto context = contexts_->ByName(call_.identity.tenant, name);
    EXPECT_OK(context);
    return context.ok() ? cache.held(context->scope.space).bytes : 0;
  }
  ContextRangeCache Make(uint64_t capacity_bytes) {
    return {contexts_->reader(),
            segments(),
            contexts_->cache(),
            clock_,
            BestKernels(),
            capacity_bytes,
            [](const ContextRecord&, uint64_t) {}};
  }
  ContextSegments& segments() {
    if (segments_ == nullptr) segments_ = std::make_unique<ContextSegments>(*contexts_);
    return *segments_;
  }

  static constexpr uint32_t kTokens = 1000;

 private:
  std::unique_ptr<ContextSegments> segments_;
};

TEST_F(ContextRangeCacheTest, OfWhatDoesNotFitAsMuchStaysAsCan) {
  for (const char* const name : {"a", "b", "c"}) {
    Create(name);
    Append(name, 0, kTokens);
  }
  uint64_t bytes = 0;
  {
    ContextRangeCache cache = Make(64 * kMiB);
    ASSERT_OK(Use(cache, "a", kTokens));
    bytes = Held(cache, "a");
    ASSERT_GT(bytes, 0U);
  }
  ContextRangeCache cache = Make(2 * bytes);
  for (int round = 0; round < 3; ++round) {
    for (const char* const name : {"a", "b", "c"}) ASSERT_OK(Use(cache, name, kTokens));
    EXPECT_EQ(Held(cache, "a"), bytes);
    EXPECT_EQ(Held(cache, "b"), bytes);
    EXPECT_EQ(Held(cache, "c"), 0U);
  }
  // Used alone it takes the place of another.
  ASSERT_OK(Use(cache, "c", kTokens));
  EXPECT_EQ(Held(cache, "c"), bytes);
  EXPECT_EQ(Held(cache, "a") + Held(cache, "b"), bytes);
}

TEST_F(ContextRangeCacheTest, WhatIsSmallIsThereForItsSecondSearch) {
  std::vector<std::string> names;
  for (char name = 'a'; name <= 'j'; ++name) names.emplace_back(1, name);
  for (const std::string& name : names) {
    Create(name);
    Append(name, 0, kTokens);
  }
  uint64_t bytes = 0;
  {
    ContextRangeCache cache = Make(64 * kMiB);
    ASSERT_OK(Use(cache, "a", kTokens));
    bytes = Held(cache, "a");
  }
  // Room for eight: a range is an eighth.
  ContextRangeCache cache = Make(8 * bytes);
  for (const std::string& name : names) ASSERT_OK(Use(cache, name, kTokens));
  EXPECT_EQ(Held(cache, "j"), bytes);
  // Seven of those before it are there, and not the one that was on trial.
  EXPECT_EQ(Held(cache, "a"), 0U);
  EXPECT_EQ(Held(cache, "i"), 0U);
  for (const char* const name : {"b", "c", "d", "e", "f", "g", "h"}) {
    EXPECT_EQ(Held(cache, name), bytes) << name;
  }
}

TEST_F(ContextRangeCacheTest, WhatIsInRamComesFirst) {
  const uint64_t id = Create("a");
  Append("a", 0, kRangeTokens + 10);
  ContextRangeCache cache = Make(64 * kMiB);
  EXPECT_THAT(cache.InOrder(id, 0, 2), ElementsAre(0, 1));
  ASSERT_OK(Use(cache, "a", 10, 1));
  EXPECT_THAT(cache.InOrder(id, 0, 2), ElementsAre(1, 0));
  EXPECT_THAT(cache.InOrder(id, 1, 2), ElementsAre(1));
  EXPECT_THAT(cache.InOrder(id, 2, 1), ElementsAre());
}

TEST_F(ContextRangeCacheTest, TakesItsBytesFromTheCacheOfChunks) {
  Create("a");
  Append("a", 0, 2 * kTokens);
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, contexts_->ByName(call_.identity.tenant, "a"));
  ChunkCache chunks(kMiB);
  ContextRangeCache cache(contexts_->reader(), segments(), chunks, clock_, BestKernels(), 8 * kMiB,
                          [](const ContextRecord&, uint64_t) {});
  ASSERT_OK_AND_ASSIGN(const auto rows, contexts_->reader().ReadRows(context, 0));
  const auto fill = [&] {
    for (uint64_t chunk = 0; chunk < 1000; ++chunk) {
      chunks.Insert(context.scope, chunk, rows.front());
    }
    return chunks.used_bytes();
  };
  const uint64_t all = fill();
  ASSERT_OK(Use(cache, "a", 2 * kTokens));
  const uint64_t lent = Held(cache, "a");
  ASSERT_GT(lent, 0U);
  // At once, and what is put in later keeps to it.
  EXPECT_LE(chunks.used_bytes(), kMiB - std::min<uint64_t>(lent, kMiB));
  EXPECT_LE(fill(), kMiB - std::min<uint64_t>(lent, kMiB));
  cache.Forget(context.scope.space);
  EXPECT_EQ(fill(), all);
}

}  // namespace
}  // namespace mnemo

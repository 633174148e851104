// The engine of contexts over a real store on disk, and a model to hold its
// searches against.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/event_hub.h"
#include "server/engine/stored_context_engine.h"
#include "storage/block/space_registry.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {

class ContextEngineTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kDimension = 8;

  explicit ContextEngineTest(const ContextEngineOptions& options = {.search_memory_bytes = 64 *
                                                                                           kMiB},
                             const Kernels& kernels = BestKernels())
      : options_(options), kernels_(kernels) {
    Start();
  }
  ~ContextEngineTest() override { Stop(); }

  void Restart() {
    Stop();
    Start();
  }

  uint64_t Create(const std::string& name, Metric metric = Metric::kCosine, Labels labels = {}) {
    ContextSpec spec = TestContext(name, kDimension);
    spec.metric = metric;
    spec.labels = std::move(labels);
    const auto created = engine_->Create(call_, spec);
    EXPECT_OK(created.status());
    return created.ok() ? created->info.id : 0;
  }
  // Appends tokens [first, first + count) of TestTokens.
  void Append(const std::string& name, uint64_t first, uint64_t count, uint64_t seed = 1) {
    auto session = engine_->Append(call_, {.context = name, .writer_id = 7});
    ASSERT_OK(session.status());
    for (uint64_t at = first; at < first + count; at += kMaxTokensPerAppend) {
      const auto size =
          static_cast<uint32_t>(std::min<uint64_t>(kMaxTokensPerAppend, first + count - at));
      const TestTokens tokens(at, size, kDimension, seed);
      ASSERT_OK((*session)->Append(tokens.columns()).status());
    }
  }
  ContextSearchRequest SearchOf(const std::string& name, std::span<const float> queries) const {
    return {.contexts = {name}, .dimension = kDimension, .queries = queries};
  }
  static std::vector<uint64_t> PositionsOf(const std::vector<ContextHit>& hits) {
    std::vector<uint64_t> positions;
    for (const ContextHit& hit : hits) positions.push_back(hit.position);
    return positions;
  }
  // The best k of positions [first, end) that `keep` keeps, by plain loops.
  template <typename Keep>
  static std::vector<uint64_t> Expected(Metric metric, std::span<const float> query, uint64_t first,
                                        uint64_t end, size_t k, Keep keep, uint64_t seed = 1) {
    std::vector<std::pair<double, uint64_t>> scored;
    for (uint64_t position = first; position < end; ++position) {
      if (!keep(position)) continue;
      double dot = 0;
      double norm = 0;
      double distance = 0;
      for (uint32_t i = 0; i < kDimension; ++i) {
        const double value = TestTokens::Value(position, i, seed);
        dot += query[i] * value;
        norm += value * value;
        distance += (query[i] - value) * (query[i] - value);
      }
      const double score = metric == Metric::kL2             ? -distance
                           : metric == Metric::kInnerProduct ? dot
                                                             : dot / std::sqrt(norm);
      scored.emplace_back(-score, position);
    }
    std::sort(scored.begin(), scored.end());
    if (scored.size() > k) scored.resize(k);
    std::vector<uint64_t> best;
    for (const auto& [score, position] : scored) best.push_back(position);
    return best;
  }
  static bool All(uint64_t) { return true; }

  // Odd fractions, so that no two scores are equal.
  const std::vector<float> query_{0.31F, -0.57F, 0.83F, 0.11F, -0.29F, 0.47F, -0.71F, 0.05F};
  CallContext call_;
  FakeClock clock_;
  std::unique_ptr<ContextStore> contexts_;
  std::unique_ptr<StoredContextEngine> engine_;
  std::unique_ptr<SpaceEngine> spaces_;

 private:
  void Start() {
    BlockStoreOptions options = SmallStore("");
    options.directory = dir_ / "data";
    auto store = BlockStore::Open(options, files_, clock_, [](const PartEvent&) {});
    MNEMO_CHECK(store.ok());
    store_ = *std::move(store);
    auto registry = SpaceRegistry::Load(store_->state(), clock_);
    MNEMO_CHECK(registry.ok());
    registry_ = *std::move(registry);
    spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
    const ContextStores stores{
        .sync = store_->ordered_store(Level::kL3, Durability::kSync),
        .interval = store_->ordered_store(Level::kL3, Durability::kInterval),
        .sync_archive = store_->ordered_store(Level::kDisk, Durability::kSync),
        .interval_archive = store_->ordered_store(Level::kDisk, Durability::kInterval)};
    contexts_ = std::make_unique<ContextStore>(stores, clock_, ContextStoreOptions{});
    engine_ =
        std::make_unique<StoredContextEngine>(*contexts_, *spaces_, clock_, options_, kernels_);
  }
  void Stop() {
    engine_.reset();
    contexts_.reset();
    EXPECT_OK(store_->Close());
    store_.reset();
  }

  const ContextEngineOptions options_;
  const Kernels& kernels_;
  TempDir dir_;
  UnsyncedFileSystem files_;
  EventHub events_{1};
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> registry_;
};

}  // namespace mnemo

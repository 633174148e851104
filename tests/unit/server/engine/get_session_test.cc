// Gets of parts that lie on disk.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/engine/block_engine.h"
#include "server/engine/byte_budget.h"
#include "server/engine/event_hub.h"
#include "storage/block/space_registry.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/read_gate.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 1 * kMiB;
constexpr size_t kParts = 6;

class GetFromDiskTest : public ::testing::Test {
 protected:
  // kParts parts that lie at L3 alone.
  void SetUp() override {
    Start();
    SpaceSpec spec{.name = "parts", .tokens_per_block = 16};
    spec.groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}};
    ASSERT_OK(spaces_->Open(call_, spec, /*must_exist=*/false));
    for (size_t i = 0; i < kParts; ++i) names_.push_back("part-" + std::to_string(i));
    for (size_t i = 0; i < kParts; ++i) ASSERT_OK(Put(i));
    ASSERT_OK(store_->Flush({}));
    Stop();
    Start();
  }
  void TearDown() override {
    gate_.Release();
    Stop();
  }

  void Start() {
    BlockStoreOptions options = SmallStore(dir_ / "data");
    options.eviction_policy = "lru";
    auto store = BlockStore::Open(options, gate_, clock_, nullptr);
    ASSERT_OK(store);
    store_ = *std::move(store);
    auto registry = SpaceRegistry::Load(store_->state(), clock_);
    ASSERT_OK(registry);
    registry_ = *std::move(registry);
    spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
    blocks_ = std::make_unique<BlockEngine>(*spaces_, *store_, events_, clock_, observer_);
  }
  void Stop() {
    blocks_.reset();
    spaces_.reset();
    registry_.reset();
    ASSERT_OK(store_->Close());
    store_.reset();
  }

  std::string PayloadOf(size_t i) const {
    return TestPayload(TestPart(i), /*version=*/0, kPartBytes);
  }
  absl::Status Put(size_t i) {
    PutRequest request{.space = std::string("parts")};
    request.parts = {{.key = names_[i], .size = kPartBytes}};
    MNEMO_ASSIGN_OR_RETURN(const auto session, blocks_->Put(call_, request));
    std::vector<PutResult> results;
    MNEMO_RETURN_IF_ERROR(session->Data(0, 0, AsBytes(PayloadOf(i)), results));
    return results.at(0).outcome.status();
  }
  std::unique_ptr<GetSession> Get(ReadOrder order) {
    GetRequest request{.space = std::string("parts"), .order = order};
    request.keys.keys.assign(names_.begin(), names_.end());
    auto session = blocks_->Get(call_, request);
    return session.ok() ? *std::move(session) : nullptr;
  }
  // How many parts wait that follow what was read.
  uint64_t Followed() const {
    return blocks_->prefetches().figures()[static_cast<size_t>(PrefetchOrigin::kFollowed)].waiting;
  }
  // Reads on to the end, and holds the bytes against what was put.
  void ExpectTheRest(GetSession& session) {
    std::vector<std::string> got(kParts);
    while (true) {
      const auto step = session.Next();
      ASSERT_OK(step);
      if (!step->has_value()) break;
      ASSERT_OK((*step)->error);
      if ((*step)->kind == ReadStep::Kind::kData) got[(*step)->index] += (*step)->bytes.ToString();
    }
    for (size_t i = 0; i < kParts; ++i) EXPECT_TRUE(got[i] == PayloadOf(i)) << i;
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  ReadGate gate_{files_, kPartBytes};
  FakeClock clock_;
  EventHub events_{1};
  NullEngineObserver observer_;
  CallContext call_;
  std::vector<std::string> names_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> registry_;
  std::unique_ptr<SpaceEngine> spaces_;
  std::unique_ptr<BlockEngine> blocks_;
};

TEST_F(GetFromDiskTest, ReadsTheNextPartsWhileOneIsOnItsWay) {
  const auto session = Get(ReadOrder::kBlockMajor);
  ASSERT_NE(session, nullptr);
  // All but this thread: so what is held is read by others.
  gate_.Hold(std::this_thread::get_id());
  ASSERT_OK(session->Next());
  gate_.AwaitHeld();
  gate_.Release();
  ExpectTheRest(*session);
}

TEST_F(GetFromDiskTest, LayerByLayerAsWell) {
  const auto session = Get(ReadOrder::kLayerMajor);
  ASSERT_NE(session, nullptr);
  gate_.Hold(std::this_thread::get_id());
  ASSERT_OK(session->Next());
  gate_.AwaitHeld();
  gate_.Release();
  ExpectTheRest(*session);
}

TEST_F(GetFromDiskTest, GoesOnPastPartsInRam) {
  names_.insert(names_.begin() + 1, "in-ram");
  PutRequest put{.space = std::string("parts")};
  put.parts = {{.key = names_[1], .size = kPartBytes}};
  const std::string payload = PayloadOf(kParts);
  {
    ASSERT_OK_AND_ASSIGN(const auto writing, blocks_->Put(call_, put));
    std::vector<PutResult> results;
    ASSERT_OK(writing->Data(0, 0, AsBytes(payload), results));
    ASSERT_OK(results.at(0).outcome);
  }
  const auto session = Get(ReadOrder::kBlockMajor);
  ASSERT_NE(session, nullptr);
  gate_.Hold(std::this_thread::get_id());
  ASSERT_OK(session->Next());
  gate_.AwaitHeld();
}

TEST_F(GetFromDiskTest, LayerByLayerOnlyWhatCanBeHeldIsReadAhead) {
  ByteBudget memory(kPartBytes * 3 / 2);  // the first part, and no other
  call_.memory = &memory;
  auto session = Get(ReadOrder::kLayerMajor);
  ASSERT_NE(session, nullptr);
  // All headers, while whoever reads ahead stands still.
  gate_.Hold(std::this_thread::get_id());
  for (size_t i = 0; i < kParts; ++i) ASSERT_OK(session->Next());
  gate_.Release();
  ExpectTheRest(*session);
  session.reset();
  call_.memory = nullptr;
  EXPECT_EQ(gate_.reads(), static_cast<int>(kParts)) << "each is read once";
}

TEST_F(GetFromDiskTest, EndsWhileOthersRead) {
  auto session = Get(ReadOrder::kBlockMajor);
  ASSERT_NE(session, nullptr);
  gate_.Hold(std::this_thread::get_id());
  ASSERT_OK(session->Next());
  gate_.AwaitHeld();
  session.reset();
  gate_.Release();
  ExpectTheRest(*Get(ReadOrder::kBlockMajor));
}

class ChainOnDiskTest : public GetFromDiskTest {
 protected:
  void SetUp() override { Start(); }
  // A chain of `names_` in a space of this group, which lies at L3 as it lay at L2.
  void PutChain(const Group& group, const std::string& payload) {
    SpaceSpec spec{
        .name = "chain", .fingerprint = {.weights_digest = "sha256:1"}, .tokens_per_block = 16};
    spec.groups = {group};
    ASSERT_OK(spaces_->Open(call_, spec, /*must_exist=*/false));
    names_ = {"a", "b", "c", "d"};
    for (uint32_t i = 0; i < names_.size(); ++i) {
      PutRequest request{.space = std::string("chain")};
      request.parts = {{.key = names_[i], .size = payload.size(), .depth = i}};
      if (i > 0) request.parts[0].parent = names_[i - 1];
      ASSERT_OK_AND_ASSIGN(const auto session, blocks_->Put(call_, request));
      std::vector<PutResult> results;
      ASSERT_OK(session->Data(0, 0, AsBytes(payload), results));
      ASSERT_OK(results.at(0).outcome);
    }
    // Out of L1.
    for (uint64_t i = 0; i < 64; ++i) ASSERT_OK(PutChained(*store_, i, 0, kMiB));
    ASSERT_OK(store_->Flush({}));
    Stop();
    Start();
  }
  // The headers of a get of the first block.
  std::vector<ReadStep> GetFirst(GetRequest request) {
    request.space = std::string("chain");
    request.keys.keys = {names_[0]};
    std::vector<ReadStep> headers;
    const auto session = blocks_->Get(call_, request);
    EXPECT_OK(session);
    while (session.ok()) {
      const auto step = (*session)->Next();
      EXPECT_OK(step);
      if (!step.ok() || !step->has_value()) break;
      EXPECT_OK((*step)->error);
      if ((*step)->kind == ReadStep::Kind::kHeader) headers.push_back(**step);
    }
    return headers;
  }
};

TEST_F(ChainOnDiskTest, WhatIsAnsweredEncodedIsFollowed) {
  ASSERT_NO_FATAL_FAILURE(
      PutChain({.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}, std::string(kMiB, 'x')));
  const std::vector<ReadStep> headers = GetFirst({.takes = kAllCodecs});
  ASSERT_EQ(headers.size(), 1u);
  EXPECT_TRUE(headers[0].encoded);
  EXPECT_EQ(headers[0].level, Level::kL3);
  EXPECT_EQ(Followed(), 3u);
}

TEST_F(ChainOnDiskTest, AnyLayersOfAPartAreFollowed) {
  const Group group = {.name = "full",
                       .layers = 2,
                       .kv_heads = 1,
                       .k_dimension = 64,
                       .v_dimension = 64,
                       .dtype = DType::kBF16};
  ASSERT_NO_FATAL_FAILURE(PutChain(group, std::string(2 * 2 * 16 * 64 * 2, 'x')));
  const std::vector<ReadStep> headers = GetFirst({.first_layer = 1, .layer_count = 1});
  ASSERT_EQ(headers.size(), 1u);
  EXPECT_EQ(headers[0].level, Level::kL3);
  EXPECT_EQ(Followed(), 3u);
}

}  // namespace
}  // namespace mnemo

#include "storage/context/chunk_mover.h"

#include <gtest/gtest.h>

#include "storage/context/context_keys.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

constexpr uint64_t kTokens = 3 * kRunTokens + 100;

// By dimension: the embeddings of a chunk are one value, or 16.
class ChunkMoverTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), *files_, clock_));
    ASSERT_OK_AND_ASSIGN(const auto made, contexts().Create(7, TestContext("c", GetParam())));
    context_ = made.first;
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts().Claim(context_, 1));
    const TestTokens tokens(0, kTokens, GetParam());
    ASSERT_OK(contexts().Append(context_, claim, tokens.columns(), Durability::kSync));
  }
  ContextStore& contexts() { return node_->contexts(); }
  Level LevelAt(uint64_t chunk) {
    Level level = Level::kL1;
    EXPECT_OK(contexts().reader().ScanChunks(context_, chunk * kChunkTokens,
                                             chunk * kChunkTokens + 1, true, [&](ChunkPiece& p) {
                                               level = p.level;
                                               return true;
                                             }));
    return level;
  }
  size_t ArchivedChunks() {
    size_t values = 0;
    const StoredKey prefix(HomeShard(context_.scope), KeyKind::kChunk, context_.scope, "");
    EXPECT_OK(node_->archive().store().Scan(prefix.bytes(), PrefixEnd(prefix.bytes()),
                                            [&](const StoredKey&, std::string_view) {
                                              ++values;
                                              return true;
                                            }));
    const size_t in_chunk = kChunkTokens / context_.spec.group_tokens();
    EXPECT_EQ(values % in_chunk, 0U);
    return values / in_chunk;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
  ContextRecord context_;
};

TEST_P(ChunkMoverTest, EmbeddingsGoAndComeBackAsTheyWere) {
  ChunkMover mover(contexts());
  ASSERT_OK(mover.Demote(context_, 1));
  ASSERT_OK(mover.Demote(context_, 1));
  EXPECT_EQ(LevelAt(15), Level::kL3);
  EXPECT_EQ(LevelAt(16), Level::kDisk);
  EXPECT_EQ(LevelAt(32), Level::kL3);
  EXPECT_EQ(ArchivedChunks(), 16U);
  EXPECT_OK(CheckTestTokens(contexts().reader(), context_, kTokens));
  ASSERT_OK_AND_ASSIGN(const uint64_t archived, contexts().reader().ArchivedRuns(context_, 0));
  EXPECT_EQ(archived, 2U);
  Level level = Level::kL1;
  ASSERT_OK(contexts().reader().ReadRows(context_, 17 * kChunkTokens, &level));
  EXPECT_EQ(level, Level::kDisk);
  ASSERT_OK(mover.Promote(context_, 1));
  ASSERT_OK(mover.Promote(context_, 1));
  EXPECT_EQ(LevelAt(16), Level::kL3);
  EXPECT_EQ(ArchivedChunks(), 0U);
  EXPECT_OK(CheckTestTokens(contexts().reader(), context_, kTokens));
}

// What a reader sees of an archive whose runs come back and leave again between
// its looks: the first Get of a step finds nothing.
class FlickeringArchive final : public Store {
 public:
  explicit FlickeringArchive(Store& store) : store_(store) {}
  absl::StatusOr<std::string> Get(const StoredKey& key, const StoreSnapshot* s) const override {
    if (misses_ > 0) {
      --misses_;
      return absl::NotFoundError("elsewhere just now");
    }
    return store_.Get(key, s);
  }
  absl::Status Apply(const StoreBatch& batch, bool sync) override {
    return store_.Apply(batch, sync);
  }
  absl::Status Scan(std::string_view begin, std::string_view end,
                    const std::function<bool(const StoredKey&, std::string_view)>& visit,
                    const StoreSnapshot* s) const override {
    return store_.Scan(begin, end, visit, s);
  }
  std::unique_ptr<StoreSnapshot> Snapshot() const override { return store_.Snapshot(); }
  absl::Status ReadLog(uint16_t shard, uint64_t first,
                       const std::function<bool(const Operation&)>& visit) const override {
    return store_.ReadLog(shard, first, visit);
  }
  uint64_t LastSequence(uint16_t shard) const override { return store_.LastSequence(shard); }
  absl::Status TrimLog(uint16_t shard, uint64_t first) override {
    return store_.TrimLog(shard, first);
  }
  absl::Status Sync() override { return store_.Sync(); }
  absl::Status Writable() const override { return store_.Writable(); }
  void Miss(int times) { misses_ = times; }

 private:
  Store& store_;
  mutable int misses_ = 0;
};

TEST_P(ChunkMoverTest, AReadFindsWhatComesBackAndLeavesAgainMeanwhile) {
  ASSERT_OK(ChunkMover(contexts()).Demote(context_, 0));
  FlickeringArchive archive(*node_->stores().sync_archive);
  ContextStores stores = node_->stores();
  stores.sync_archive = &archive;
  ContextStore reading(stores, clock_, {});
  archive.Miss(2);
  EXPECT_OK(CheckTestTokens(reading.reader(), context_, kTokens));
  // What stays away is lost, and is not waited for.
  archive.Miss(1000);
  EXPECT_THAT(CheckTestTokens(reading.reader(), context_, kTokens),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_P(ChunkMoverTest, TheLevelOfATokenIsKnownWithoutReadingIt) {
  ASSERT_OK(ChunkMover(contexts()).Demote(context_, 1));
  const auto level_of = [&](uint64_t position) {
    const auto level = contexts().reader().LevelOf(context_, position);
    EXPECT_OK(level.status());
    return level.value_or(Level::kL2);
  };
  EXPECT_EQ(level_of(kRunTokens - 1), Level::kL3);
  EXPECT_EQ(level_of(kRunTokens), Level::kDisk);
  EXPECT_EQ(level_of(2 * kRunTokens), Level::kL3);
  ASSERT_OK(contexts().reader().ReadRows(context_, 17 * kChunkTokens));
  EXPECT_EQ(level_of(17 * kChunkTokens), Level::kL1);
}

TEST_P(ChunkMoverTest, UsesCountAnewInTheArchive) {
  ChunkMover mover(contexts());
  ASSERT_OK(contexts().reader().ReadRows(context_, 3 * kChunkTokens));
  ASSERT_FALSE(contexts().uses().Find(context_.scope, 0));
  contexts().reader().NoteUse(context_, 3 * kChunkTokens);
  ASSERT_TRUE(contexts().uses().Find(context_.scope, 0));
  ASSERT_OK(mover.Demote(context_, 0));
  EXPECT_FALSE(contexts().uses().Find(context_.scope, 0));
  contexts().reader().NoteUse(context_, 3 * kChunkTokens);
  ASSERT_OK(mover.Promote(context_, 0));
  // Of use near as well: what came back is not the next to go.
  ASSERT_TRUE(contexts().uses().Find(context_.scope, 0));
  EXPECT_EQ(contexts().uses().Find(context_.scope, 0)->uses, 1U);
}

TEST_P(ChunkMoverTest, AnUnfinishedRunStays) {
  ChunkMover mover(contexts());
  EXPECT_THAT(mover.Demote(context_, 3), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(ChunkMoverTest, DamagedBytesAreNotMoved) {
  const StoredKey key = ChunkKey(context_.scope, ChunkPart::kRows, 5, 0);
  StoreBatch batch;
  batch.Put(key, "damaged beyond recognition");
  batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  ASSERT_OK(node_->stores().sync->Apply(batch, false));
  ChunkMover mover(contexts());
  EXPECT_THAT(mover.Demote(context_, 0), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(ArchivedChunks(), 0U);
}

TEST_P(ChunkMoverTest, ADeletedContextIsGoneFromTheArchiveToo) {
  ChunkMover mover(contexts());
  ASSERT_OK(mover.Demote(context_, 0));
  ASSERT_OK(contexts().Delete(context_));
  EXPECT_THAT(mover.Demote(context_, 1), StatusIs(absl::StatusCode::kNotFound));
  for (bool more = true; more;) {
    ASSERT_OK_AND_ASSIGN(more, contexts().EraseStep());
  }
  EXPECT_EQ(ArchivedChunks(), 0U);
}

TEST_P(ChunkMoverTest, WithoutAnArchiveNothingMoves) {
  ContextStores stores = node_->stores();
  stores.sync_archive = nullptr;
  ContextStore alone(stores, clock_, {});
  EXPECT_THAT(ChunkMover(alone).Demote(context_, 0),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(ChunkMoverTest, AMissingValueHoldsUpItsRunAlone) {
  const StoredKey key =
      ChunkKeyOf(context_.scope, ChunkPart::kRows, 2 * kChunkTokens - context_.spec.group_tokens());
  StoreBatch batch;
  batch.Delete(key);
  batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  ASSERT_OK(node_->stores().sync->Apply(batch, false));
  ChunkMover mover(contexts());
  EXPECT_THAT(mover.Demote(context_, 0), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK(mover.Demote(context_, 1));
  EXPECT_EQ(ArchivedChunks(), 16U);
}

INSTANTIATE_TEST_SUITE_P(Dimensions, ChunkMoverTest, ::testing::Values(8, 512),
                         [](const auto& info) { return "d" + std::to_string(info.param); });

}  // namespace
}  // namespace mnemo

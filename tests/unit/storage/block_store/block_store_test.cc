#include "storage/block/block_store.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class BlockStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(SmallStore(dir_ / "data")); }

  void Open(const BlockStoreOptions& options) {
    store_.reset();
    auto store = BlockStore::Open(options, files_, clock_,
                                  [this](const PartEvent& event) { events_.push_back(event); });
    ASSERT_OK(store);
    store_ = *std::move(store);
  }
  void Reopen(const BlockStoreOptions& options) {
    ASSERT_OK(store_->Close());
    Open(options);
  }
  void Reopen() { Reopen(SmallStore(dir_ / "data")); }

  Presence PresenceOf(const PartKey& key) { return store_->Find({&key, 1})[0].presence; }
  Level LevelOf(const PartKey& key) { return store_->Find({&key, 1})[0].level; }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  std::vector<PartEvent> events_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(BlockStoreTest, ReadsWhatWasWritten) {
  for (const uint64_t size : {1ull, 2ull, 511ull, 4096ull, 131072ull, 5'000'001ull}) {
    const PartKey key = TestPart(size);
    const std::string payload = TestPayload(key, 0, size);
    ASSERT_OK(PutPart(*store_, key, payload, TestSpec(size)));
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(key, 0, 0));
    EXPECT_EQ(read.bytes.ToString(), payload);
    EXPECT_EQ(read.payload_bytes, size);
    EXPECT_EQ(read.level, Level::kL1);
  }
}

TEST_F(BlockStoreTest, NothingIsVisibleBeforeCommit) {
  const PartKey key = TestPart(1);
  const std::string payload = TestPayload(key, 0, 1000);
  ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, TestSpec(1000)));
  ASSERT_OK(writer->Append(AsBytes(payload)));
  EXPECT_EQ(PresenceOf(key), Presence::kPending);
  EXPECT_THAT(ReadAll(*store_, key), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_TRUE(events_.empty());
  ASSERT_OK(writer->Commit());
  EXPECT_EQ(PresenceOf(key), Presence::kPresent);
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].kind, PartEvent::Kind::kStored);
  EXPECT_EQ(events_[0].key, key);
}

TEST_F(BlockStoreTest, TellsPresentFromPending) {
  const PartKey key = TestPart(1);
  ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, TestSpec(1000)));
  EXPECT_THAT(store_->BeginWrite(key, TestSpec(1000)), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(WriteBytes(*writer, TestPayload(key, 0, 1000)));
  ASSERT_OK(writer->Commit());
  EXPECT_THAT(store_->BeginWrite(key, TestSpec(1000)), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(BlockStoreTest, AbandonGivesAllBack) {
  const uint64_t used = store_->Levels()[0].stats.used_bytes;
  const PartKey key = TestPart(1);
  {
    ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, TestSpec(1 << 20)));
    ASSERT_OK(writer->Append(AsBytes("abc")));
    EXPECT_GT(store_->Levels()[0].stats.used_bytes, used);
  }
  EXPECT_EQ(store_->Levels()[0].stats.used_bytes, used);
  EXPECT_EQ(PresenceOf(key), Presence::kAbsent);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 10), TestSpec(10)));
}

TEST_F(BlockStoreTest, RefusesBytesThatAreNotAsAnnounced) {
  const PartKey key = TestPart(1);
  const std::string payload = TestPayload(key, 0, 1000);
  {
    ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, TestSpec(1000)));
    ASSERT_OK(writer->Append(AsBytes(payload).first(999)));
    EXPECT_THAT(writer->Commit(), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  {
    ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, TestSpec(999)));
    EXPECT_THAT(writer->Append(AsBytes(payload)), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  WriteSpec spec = TestSpec(1000);
  spec.digest = Digest128{1, 2};
  {
    ASSERT_OK_AND_ASSIGN(auto writer, store_->BeginWrite(key, spec));
    ASSERT_OK(writer->Append(AsBytes(payload)));
    EXPECT_THAT(writer->Commit(), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_EQ(PresenceOf(key), Presence::kAbsent);
  EXPECT_EQ(store_->Levels()[0].stats.used_bytes, 0u);
}

TEST_F(BlockStoreTest, RefusesWhatContradictsItself) {
  WriteSpec spec = TestSpec(1000);
  spec.payload_bytes = 1001;
  EXPECT_THAT(store_->BeginWrite(TestPart(1), spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layout.sizes")));
  EXPECT_THAT(store_->BeginWrite(TestPart(1), TestSpec(kMaxPartBytes + 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("payload_bytes")));
  spec = TestSpec(1000);
  spec.layout.dtype_bytes = 3;
  EXPECT_THAT(store_->BeginWrite(TestPart(1), spec), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(BlockStoreTest, ReadsSectionsAlone) {
  const PartKey key = TestPart(1);
  const std::string payload = TestPayload(key, 0, 1001);
  ASSERT_OK(PutPart(*store_, key, payload, TestSpec(1001)));
  ASSERT_OK_AND_ASSIGN(const PartRead second, store_->Read(key, 1, 1));
  EXPECT_EQ(second.bytes.ToString(), payload.substr(500));
  EXPECT_EQ(second.offset, 500u);
  ASSERT_OK_AND_ASSIGN(const PartRead first, store_->Read(key, 0, 1));
  EXPECT_EQ(first.bytes.ToString(), payload.substr(0, 500));
  EXPECT_THAT(store_->Read(key, 2, 0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store_->Read(key, 1, 2), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store_->Read(key, 1, 0xffffffff), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(BlockStoreTest, EraseRemovesEverywhereAndTellsOnce) {
  const PartKey key = TestPart(1);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 1000), TestSpec(1000, 0, Durability::kSync)));
  const PartKey absent = TestPart(2);
  const std::vector<PartKey> keys = {key, absent, key};
  ASSERT_OK_AND_ASSIGN(const uint64_t erased, store_->Erase(keys));
  EXPECT_EQ(erased, 1u);
  EXPECT_EQ(PresenceOf(key), Presence::kAbsent);
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[1].kind, PartEvent::Kind::kRemoved);
  EXPECT_EQ(store_->Levels()[0].stats.used_bytes, 0u);
  EXPECT_EQ(store_->Levels()[2].stats.used_bytes, 0u);
  Reopen();
  EXPECT_EQ(PresenceOf(key), Presence::kAbsent);
  EXPECT_EQ(store_->parts(), 0u);
}

TEST_F(BlockStoreTest, EraseScopeKeepsOthers) {
  const KeyScope other{.tenant = 7, .space = 10};
  for (uint64_t i = 0; i < 50; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, 100, Durability::kSync));
    const PartKey key = TestPart(i, 0, other);
    ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 100), TestSpec(100)));
  }
  ASSERT_OK_AND_ASSIGN(const uint64_t erased, store_->EraseScope(kTestScope, std::nullopt));
  EXPECT_EQ(erased, 50u);
  EXPECT_EQ(store_->Usage(kTestScope).parts, 0u);
  EXPECT_EQ(store_->Usage(other).parts, 50u);
}

TEST_F(BlockStoreTest, DurableClassesOutliveARestart) {
  for (const Durability durability : {Durability::kInterval, Durability::kSync}) {
    const PartKey key = TestPart(static_cast<uint64_t>(durability), 3);
    WriteSpec spec = TestSpec(70'000, 3, durability);
    spec.parent = TestBlockKey(static_cast<uint64_t>(durability), 2);
    ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 70'000), spec));
  }
  Reopen();
  EXPECT_EQ(store_->parts(), 2u);
  for (const Durability durability : {Durability::kInterval, Durability::kSync}) {
    const PartKey key = TestPart(static_cast<uint64_t>(durability), 3);
    ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
    EXPECT_EQ(bytes, TestPayload(key, 0, 70'000));
    const std::optional<PartState> state = store_->Describe(key);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->level, Level::kL3);
    EXPECT_EQ(state->depth, 3u);
    EXPECT_EQ(state->tokens, 16u);
    EXPECT_EQ(state->durability, durability);
    EXPECT_EQ(state->parent, TestBlockKey(static_cast<uint64_t>(durability), 2));
  }
}

TEST_F(BlockStoreTest, GracefulShutdownKeepsCachePartsToo) {
  ASSERT_OK(PutChained(*store_, 1, 0, 5000));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, TestPart(1)));
  EXPECT_EQ(bytes, TestPayload(TestPart(1), 0, 5000));
}

TEST_F(BlockStoreTest, FlushWritesCacheParts) {
  ASSERT_OK(PutChained(*store_, 1, 0, 5000));
  ASSERT_OK(PutChained(*store_, 2, 0, 5000, Durability::kSync));
  ASSERT_OK_AND_ASSIGN(const uint64_t flushed, store_->Flush(kTestScope));
  EXPECT_EQ(flushed, 1u);
  EXPECT_TRUE(store_->Describe(TestPart(1))->on_disk);
}

TEST_F(BlockStoreTest, ListsInPages) {
  for (uint64_t i = 0; i < 25; ++i) ASSERT_OK(PutChained(*store_, i, 0, 100));
  std::vector<PartState> all;
  std::string next;
  int pages = 0;
  do {
    std::vector<PartState> page;
    ASSERT_OK(store_->List(kTestScope, std::nullopt, "", next, 10, page, next));
    EXPECT_LE(page.size(), 10u);
    all.insert(all.end(), page.begin(), page.end());
    ++pages;
  } while (!next.empty() && pages < 10);
  EXPECT_EQ(all.size(), 25u);
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_LT(all[i - 1].key.Stored().bytes(), all[i].key.Stored().bytes());
  }
}

TEST_F(BlockStoreTest, HitRatesCountWhatTheNodeHolds) {
  ASSERT_OK(PutChained(*store_, 1, 0, 1000, Durability::kSync));
  Reopen();
  ASSERT_OK(PutChained(*store_, 2, 0, 1000));
  ASSERT_OK(ReadAll(*store_, TestPart(1)));
  ASSERT_OK(ReadAll(*store_, TestPart(2)));
  EXPECT_THAT(ReadAll(*store_, TestPart(3)), StatusIs(absl::StatusCode::kNotFound));
  const auto levels = store_->Levels();
  EXPECT_EQ(levels[0].lookups, 2u);
  EXPECT_EQ(levels[0].hits, 1u);
  EXPECT_EQ(levels[1].lookups, 1u);
  EXPECT_EQ(levels[2].lookups, 1u);
  EXPECT_EQ(levels[2].hits, 1u);
  EXPECT_EQ(levels[3].lookups, 0u);
}

TEST_F(BlockStoreTest, AReservationThatIsOverdueIsTakenOver) {
  const PartKey key = TestPart(1);
  ASSERT_OK_AND_ASSIGN(auto slow, store_->BeginWrite(key, TestSpec(1000, 0, Durability::kSync)));
  ASSERT_OK(WriteBytes(*slow, TestPayload(key, 1, 1000)));
  clock_.Advance(std::chrono::seconds(61));
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 2, 1000), TestSpec(1000, 0, Durability::kSync)));
  EXPECT_THAT(slow->Commit(), StatusIs(absl::StatusCode::kAborted));
  slow.reset();
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
  EXPECT_EQ(bytes, TestPayload(key, 2, 1000));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const std::string after, ReadAll(*store_, key));
  EXPECT_EQ(after, TestPayload(key, 2, 1000));
}

TEST_F(BlockStoreTest, TwoStoresCannotShareAFolder) {
  EXPECT_THAT(BlockStore::Open(SmallStore(dir_ / "data"), files_, clock_, nullptr),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST(BlockStoreOptionsTest, NamesFieldAndRange) {
  BlockStoreOptions options = SmallStore("x");
  options.promote_hits = 11;
  EXPECT_THAT(options.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("promote_hits: 11")));
  options = SmallStore("x");
  options.l1_bytes = 1;
  EXPECT_THAT(options.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("l1_bytes")));
  options = SmallStore("x");
  options.eviction_policy = "fifo";
  EXPECT_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sieve")));
  options = SmallStore("x");
  options.low_watermark = 0.99;
  EXPECT_THAT(options.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("low_watermark")));
  EXPECT_OK(SmallStore("x").Validate());
}

}  // namespace
}  // namespace mnemo

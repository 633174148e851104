// How parts move between levels, and what keeps them where they are.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 1 * kMiB;

class MovementTest : public ::testing::Test {
 protected:
  void Open(BlockStoreOptions options) {
    if (store_) {
      ASSERT_OK(store_->Close());
    }
    store_.reset();
    options.directory = dir_ / "data";
    auto store = BlockStore::Open(options, files_, clock_,
                                  [this](const PartEvent& event) { events_.push_back(event); });
    ASSERT_OK(store);
    store_ = *std::move(store);
  }
  BlockStoreOptions Small() { return SmallStore(dir_ / "data"); }

  Lookup At(uint64_t chain, uint32_t depth = 0) {
    const PartKey key = TestPart(chain, depth);
    return store_->Find({&key, 1})[0];
  }
  bool Present(uint64_t chain, uint32_t depth = 0) {
    return At(chain, depth).presence == Presence::kPresent;
  }
  void ExpectRight(uint64_t chain, uint32_t depth = 0, uint64_t size = kPartBytes) {
    const PartKey key = TestPart(chain, depth);
    ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
    EXPECT_TRUE(bytes == TestPayload(key, 0, size)) << "chain " << chain << " depth " << depth;
  }
  void Touch(uint64_t chain, uint32_t depth = 0) {
    const PartKey key = TestPart(chain, depth);
    store_->Touch({&key, 1});
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  std::vector<PartEvent> events_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(MovementTest, WritersMakeTheRoomTheyNeed) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.archive_bytes = 0;
  Open(options);
  for (uint64_t i = 0; i < 200; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  EXPECT_LE(store_->Levels()[0].stats.used_bytes, options.l1_bytes);
  EXPECT_GT(store_->parts(), 50u);
  EXPECT_LT(store_->parts(), 64u);  // untouched cache parts are not worth the disk
  EXPECT_EQ(store_->Levels()[2].parts, 0u);
  EXPECT_GT(store_->counters().write_behind_skipped, 100u);
}

TEST_F(MovementTest, ASecondTouchAdmitsToDisk) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.archive_bytes = 0;
  options.eviction_policy = "lru";
  Open(options);
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    if (i % 2 == 0) Touch(i);
  }
  for (uint64_t i = 100; i < 200; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(Present(i), i % 2 == 0) << i;
    if (i % 2 == 0) {
      EXPECT_EQ(At(i).level, Level::kL3);
      ExpectRight(i);
    }
  }
}

TEST_F(MovementTest, FallsThroughAllLevelsAndStaysRight) {
  BlockStoreOptions options = Small();
  options.l3_bytes = 64 * kMiB;
  options.promote_hits = 10;
  Open(options);
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes, Durability::kSync));
    MoveAll(*store_);
  }
  std::map<Level, int> lying;
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(Present(i)) << i;
    ++lying[At(i).level];
    ExpectRight(i);
  }
  EXPECT_GT(lying[Level::kL1], 40);
  EXPECT_GT(lying[Level::kL2], 5);
  EXPECT_GT(lying[Level::kDisk], 100);
  for (const LevelFigures& level : store_->Levels()) {
    EXPECT_LE(level.stats.used_bytes, level.stats.capacity_bytes);
  }
}

TEST_F(MovementTest, WatermarksHaveHysteresis) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.high_watermark = 0.8;
  options.low_watermark = 0.5;
  Open(options);
  // 51.2 MiB is the high mark, 32 MiB the low one.
  for (uint64_t i = 0; i < 50; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  MoveAll(*store_);
  EXPECT_EQ(store_->parts(), 50u);
  for (uint64_t i = 50; i < 53; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  MoveAll(*store_);
  EXPECT_LE(store_->Levels()[0].stats.used_bytes, 33 * kMiB);
  EXPECT_GE(store_->Levels()[0].stats.used_bytes, 29 * kMiB);
}

TEST_F(MovementTest, EncodesBelowL1WhereItPays) {
  BlockStoreOptions options = Small();
  options.promote_hits = 10;
  Open(options);
  for (uint64_t i = 0; i < 80; ++i) {
    const PartKey key = TestPart(i);
    ASSERT_OK(PutPart(*store_, key, SmoothPayload(key, kPartBytes), TestSpec(kPartBytes)));
  }
  const LevelFigures l2 = store_->Levels()[1];
  ASSERT_GT(l2.parts, 0u);
  EXPECT_LT(l2.stats.live_bytes, l2.exact_bytes * 9 / 10);
  const std::vector<CodecFigures> codecs = store_->Codecs();
  ASSERT_EQ(codecs.size(), 2u);
  EXPECT_EQ(codecs[0].codec, "raw");
  EXPECT_GT(codecs[0].stored_bytes, codecs[0].exact_bytes);  // headers
  EXPECT_EQ(codecs[1].codec, "lossless");
  EXPECT_LT(codecs[1].stored_bytes, codecs[1].exact_bytes * 9 / 10);
  int encoded = 0;
  for (uint64_t i = 0; i < 80; ++i) {
    if (!Present(i) || At(i).level != Level::kL2) continue;
    const PartKey key = TestPart(i);
    EXPECT_EQ(store_->Describe(key)->codec, "lossless");
    ASSERT_OK_AND_ASSIGN(const PartRead second, store_->Read(key, 1, 1));
    EXPECT_TRUE(second.bytes.ToString() == SmoothPayload(key, kPartBytes).substr(kPartBytes / 2));
    EXPECT_EQ(second.level, Level::kL2);
    ++encoded;
  }
  EXPECT_GT(encoded, 5);
}

TEST_F(MovementTest, KeepsRawWhatASpaceForbidsToEncode) {
  Open(Small());
  for (uint64_t i = 0; i < 80; ++i) {
    const PartKey key = TestPart(i);
    WriteSpec spec = TestSpec(kPartBytes);
    spec.lossless_codec_allowed = false;
    ASSERT_OK(PutPart(*store_, key, SmoothPayload(key, kPartBytes), spec));
  }
  const LevelFigures l2 = store_->Levels()[1];
  ASSERT_GT(l2.parts, 0u);
  EXPECT_GE(l2.stats.live_bytes, l2.exact_bytes);
}

TEST_F(MovementTest, UsesBringAPartNearer) {
  Open(Small());
  ASSERT_OK(PutChained(*store_, 1, 0, kPartBytes, Durability::kSync));
  Open(Small());
  events_.clear();
  ExpectRight(1);
  MoveAll(*store_);
  EXPECT_EQ(At(1).level, Level::kL3);
  ExpectRight(1);
  MoveAll(*store_);
  EXPECT_EQ(At(1).level, Level::kL1);
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].kind, PartEvent::Kind::kMoved);
  EXPECT_EQ(events_[0].level, Level::kL1);
  EXPECT_EQ(store_->Levels()[2].promoted, 1u);
  ExpectRight(1);
  EXPECT_TRUE(store_->Describe(TestPart(1))->on_disk);
}

TEST_F(MovementTest, PromotionDecodes) {
  Open(Small());
  for (uint64_t i = 0; i < 80; ++i) {
    const PartKey key = TestPart(i);
    ASSERT_OK(PutPart(*store_, key, SmoothPayload(key, kPartBytes), TestSpec(kPartBytes)));
  }
  uint64_t chosen = 0;
  while (!Present(chosen) || At(chosen).level != Level::kL2) ++chosen;
  const PartKey key = TestPart(chosen);
  ASSERT_OK(store_->Read(key, 0, 0));
  ASSERT_OK(store_->Read(key, 0, 0));
  MoveAll(*store_);
  EXPECT_EQ(At(chosen).level, Level::kL1);
  EXPECT_EQ(store_->Describe(key)->codec, "raw");
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
  EXPECT_TRUE(bytes == SmoothPayload(key, kPartBytes));
}

TEST_F(MovementTest, AnAncestorOutlivesItsDescendants) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.archive_bytes = 0;
  Open(options);
  for (uint64_t chain = 0; chain < 40; ++chain) {
    for (uint32_t depth = 0; depth < 8; ++depth) {
      ASSERT_OK(PutChained(*store_, chain, depth, kPartBytes));
    }
  }
  int broken = 0;
  for (uint64_t chain = 0; chain < 40; ++chain) {
    for (uint32_t depth = 1; depth < 8; ++depth) {
      if (Present(chain, depth) && !Present(chain, depth - 1)) ++broken;
    }
  }
  EXPECT_EQ(broken, 0);
}

TEST_F(MovementTest, DurablePartsAreNeverDropped) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 0;
  Open(options);
  uint64_t stored = 0;
  absl::Status refused;
  for (uint64_t i = 0; i < 100 && refused.ok(); ++i) {
    refused = PutChained(*store_, i, 0, kPartBytes, Durability::kSync);
    if (refused.ok()) ++stored;
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_GE(stored, 62u);
  for (uint64_t i = 0; i < stored; ++i) ExpectRight(i);
  EXPECT_FALSE(Present(stored));
  // Room comes back with a delete.
  const PartKey first = TestPart(0);
  ASSERT_OK(store_->Erase({&first, 1}));
  EXPECT_OK(PutChained(*store_, 1000, 0, kPartBytes, Durability::kSync));
}

TEST_F(MovementTest, PartsHaveWhatContextsLeaveOfTheArchive) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 64 * kMiB;
  Open(options);
  EXPECT_EQ(store_->archive_free_bytes(), 64 * kMiB);
  store_->CountContexts(40 * kMiB);
  EXPECT_EQ(store_->archive_free_bytes(), 24 * kMiB);
  uint64_t stored = 0;
  const auto fill = [&] {
    for (int i = 0; i < 100; ++i, ++stored) {
      const absl::Status put = PutChained(*store_, stored, 0, kPartBytes, Durability::kSync);
      if (absl::IsResourceExhausted(put)) return;
      ASSERT_OK(put);
      MoveAll(*store_);
    }
    FAIL() << "never full";
  };
  fill();
  // Each part takes a little more than its own bytes, at both levels.
  EXPECT_GE(store_->Levels()[3].parts, 20u);
  EXPECT_LE(store_->Levels()[3].parts, 24u);
  EXPECT_LE(store_->Levels()[3].stats.used_bytes, 64 * kMiB);
  EXPECT_LT(store_->archive_free_bytes(), 2 * kMiB);
  // More than there is: nothing that is stored goes for it.
  const uint64_t before = stored;
  store_->CountContexts(60 * kMiB);
  EXPECT_EQ(store_->archive_free_bytes(), 0u);
  MoveAll(*store_);
  for (uint64_t i = 0; i < before; ++i) ExpectRight(i);
  // What contexts give back is for parts again.
  store_->CountContexts(8 * kMiB);
  fill();
  EXPECT_GE(stored, before + 28);
  EXPECT_GE(store_->Levels()[3].parts, 50u);
  for (uint64_t i = 0; i < stored; ++i) ExpectRight(i);
}

TEST_F(MovementTest, CachePartsGiveWayToDurableOnes) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 0;
  Open(options);
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    Touch(i);
  }
  ASSERT_GT(store_->Levels()[2].parts, 20u);
  for (uint64_t i = 200; i < 255; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes, Durability::kSync));
  }
  for (uint64_t i = 200; i < 255; ++i) ExpectRight(i);
}

TEST_F(MovementTest, LeasedPartsStayAtSomeLevel) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.archive_bytes = 0;
  options.lease_share = 1;
  Open(options);
  std::vector<PartKey> keys;
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    keys.push_back(TestPart(i));
  }
  const uint64_t lease = store_->AcquireLease(keys, std::chrono::seconds(30));
  ASSERT_NE(lease, 0u);
  EXPECT_TRUE(store_->Describe(keys[0])->leased);
  for (uint64_t i = 100; i < 300; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(Present(i)) << i;
  clock_.Advance(std::chrono::seconds(31));
  MoveAll(*store_);
  EXPECT_FALSE(store_->Describe(keys[0])->leased);
}

TEST_F(MovementTest, AcquiringALeaseIsAllOrNothing) {
  Open(Small());
  ASSERT_OK(PutChained(*store_, 1, 0, kPartBytes));
  const std::vector<PartKey> keys = {TestPart(1), TestPart(2)};
  EXPECT_EQ(store_->AcquireLease(keys, std::chrono::seconds(1)), 0u);
  EXPECT_FALSE(store_->Describe(keys[0])->leased);
  const uint64_t lease = store_->AcquireLease({keys.data(), 1}, std::chrono::seconds(1));
  ASSERT_NE(lease, 0u);
  EXPECT_OK(store_->RenewLease(lease, kTestScope.tenant, std::chrono::seconds(5)));
  EXPECT_THAT(store_->RenewLease(lease, 8, std::chrono::seconds(5)),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(store_->RenewLease(lease, kTestScope.tenant, Nanos(0)));
  EXPECT_FALSE(store_->Describe(keys[0])->leased);
  EXPECT_THAT(store_->RenewLease(lease, kTestScope.tenant, std::chrono::seconds(5)),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(MovementTest, PinsAreOnDiskAndSurvive) {
  BlockStoreOptions options = Small();
  options.archive_bytes = 0;
  Open(options);
  ASSERT_OK(PutChained(*store_, 1, 0, kPartBytes));
  const PartKey key = TestPart(1);
  ASSERT_OK_AND_ASSIGN(uint64_t changed, store_->SetPinned({&key, 1}, true));
  EXPECT_EQ(changed, 1u);
  EXPECT_TRUE(store_->Describe(key)->on_disk);
  ASSERT_OK_AND_ASSIGN(changed, store_->SetPinned({&key, 1}, true));
  EXPECT_EQ(changed, 0u);
  for (uint64_t i = 100; i < 500; ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    Touch(i);
  }
  ASSERT_TRUE(Present(1));
  Open(options);
  EXPECT_TRUE(store_->Describe(key)->pinned);
  ExpectRight(1);
  ASSERT_OK_AND_ASSIGN(changed, store_->SetPinned({&key, 1}, false));
  EXPECT_EQ(changed, 1u);
  EXPECT_FALSE(store_->Describe(key)->pinned);
  Open(options);
  EXPECT_FALSE(store_->Describe(key)->pinned);
}

// A pinned part lies on disk as well; it counts once, where it is nearest.
TEST_F(MovementTest, LevelsCountPinsWhereTheyAreNearest) {
  Open(Small());
  ASSERT_OK(PutChained(*store_, 1, 0, kPartBytes));
  ASSERT_OK(PutChained(*store_, 2, 0, kPartBytes));
  const PartKey key = TestPart(1);
  ASSERT_OK(store_->SetPinned({&key, 1}, true));
  std::array<LevelFigures, kLevelCount> levels = store_->Levels();
  EXPECT_EQ(levels[Index(Level::kL1)].nearest_parts, 2u);
  EXPECT_EQ(levels[Index(Level::kL1)].nearest_exact_bytes, 2 * kPartBytes);
  EXPECT_EQ(levels[Index(Level::kL1)].pinned_parts, 1u);
  EXPECT_EQ(levels[Index(Level::kL1)].pinned_exact_bytes, kPartBytes);
  EXPECT_EQ(levels[Index(Level::kL3)].parts, 1u);
  EXPECT_EQ(levels[Index(Level::kL3)].nearest_parts, 0u);
  EXPECT_EQ(levels[Index(Level::kL3)].pinned_parts, 0u);
  Open(Small());
  levels = store_->Levels();
  EXPECT_EQ(levels[Index(Level::kL3)].pinned_parts, 1u);
  ASSERT_OK(store_->SetPinned({&key, 1}, false));
  EXPECT_EQ(store_->Levels()[Index(Level::kL3)].pinned_parts, 0u);
}

TEST_F(MovementTest, DroppedPartsTellHowLongTheyWereIdle) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.archive_bytes = 0;
  options.eviction_policy = "lru";
  Open(options);
  for (uint64_t i = 0; i < 60; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  clock_.Advance(std::chrono::seconds(90));
  for (uint64_t i = 60; i < 90; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  const IdleHistogram idle = store_->counters().idle_before_evict;
  uint64_t evicted = 0;
  for (const LevelFigures& level : store_->Levels()) evicted += level.evicted;
  ASSERT_GT(evicted, 20u);
  static_assert(IdleHistogram::kLimits[3] == std::chrono::minutes(10));
  EXPECT_EQ(idle.counts[3], evicted);  // over a minute, at most ten
  EXPECT_NEAR(static_cast<double>(idle.sum.count()) / 1e9, 90.0 * static_cast<double>(evicted),
              1.0 * static_cast<double>(evicted));
}

TEST_F(MovementTest, PinsAreBounded) {
  BlockStoreOptions options = Small();
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 0;
  options.pin_share = 0.25;  // 16 MiB
  Open(options);
  uint64_t pinned = 0;
  absl::Status refused;
  for (uint64_t i = 0; i < 20 && refused.ok(); ++i) {
    ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
    const PartKey key = TestPart(i);
    refused = store_->SetPinned({&key, 1}, true).status();
    if (refused.ok()) ++pinned;
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(pinned, 16u);
}

TEST_F(MovementTest, WhatExpiredIsGoneAtOnceAndItsRoomLater) {
  Open(Small());
  const PartKey key = TestPart(1);
  WriteSpec spec = TestSpec(kPartBytes, 0, Durability::kSync);
  spec.expires = clock_.Wall() + std::chrono::minutes(5);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, kPartBytes), spec));
  EXPECT_TRUE(Present(1));
  clock_.Advance(std::chrono::minutes(5) + std::chrono::seconds(1));
  EXPECT_FALSE(Present(1));
  EXPECT_THAT(ReadAll(*store_, key), StatusIs(absl::StatusCode::kNotFound));
  MoveAll(*store_);
  EXPECT_EQ(store_->Levels()[0].stats.used_bytes, 0u);
  EXPECT_EQ(store_->Levels()[2].stats.used_bytes, 0u);
  EXPECT_EQ(store_->counters().expired, 1u);
  EXPECT_EQ(events_.back().kind, PartEvent::Kind::kRemoved);
}

TEST_F(MovementTest, WhatExpiredMayBeWrittenAgain) {
  Open(Small());
  const PartKey key = TestPart(1);
  WriteSpec spec = TestSpec(100, 0, Durability::kSync);
  spec.expires = clock_.Wall() + std::chrono::minutes(5);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 100), spec));
  clock_.Advance(std::chrono::minutes(6));
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 1, 100), TestSpec(100)));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
  EXPECT_EQ(bytes, TestPayload(key, 1, 100));
}

TEST_F(MovementTest, AClockThatJumpsBackRevivesNothing) {
  Open(Small());
  WriteSpec spec = TestSpec(100, 0, Durability::kSync);
  spec.expires = clock_.Wall() + std::chrono::minutes(5);
  const PartKey key = TestPart(1);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 100), spec));
  clock_.Advance(std::chrono::minutes(6));
  EXPECT_FALSE(Present(1));
  clock_.JumpWall(-std::chrono::hours(2));
  EXPECT_FALSE(Present(1));
  // Neither after a restart, though nothing swept it.
  Open(Small());
  EXPECT_FALSE(Present(1));
}

TEST_F(MovementTest, AClockThatJumpsForwardExpiresNothingUntilConfirmed) {
  Open(Small());
  WriteSpec spec = TestSpec(100, 0, Durability::kSync);
  spec.expires = clock_.Wall() + std::chrono::hours(2);
  const PartKey key = TestPart(1);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 100), spec));
  clock_.JumpWall(std::chrono::hours(48));
  MoveAll(*store_);
  EXPECT_TRUE(Present(1));
  Open(Small());
  MoveAll(*store_);
  EXPECT_TRUE(Present(1));
  clock_.Advance(std::chrono::minutes(11));
  MoveAll(*store_);
  EXPECT_FALSE(Present(1));
}

// Everything on disk, as after a start; `parts` of 1 MiB in a chain each.
class PrefetchTest : public MovementTest {
 protected:
  void OpenWithOnDisk(uint64_t parts, BlockStoreOptions options) {
    Open(options);
    for (uint64_t i = 0; i < parts; ++i) {
      ASSERT_OK(PutChained(*store_, i, 0, kPartBytes, Durability::kInterval));
      MoveAll(*store_);
    }
    Open(options);
    events_.clear();
  }
  PrefetchOutcome Prefetch(uint64_t chain) {
    return store_->Prefetch(TestPart(chain), PrefetchOrigin::kAsked);
  }
};

TEST_F(PrefetchTest, BringsAPartIntoL1WithoutAUse) {
  OpenWithOnDisk(2, Small());
  ASSERT_EQ(At(0).level, Level::kL3);
  EXPECT_EQ(Prefetch(0), PrefetchOutcome::kBrought);
  EXPECT_EQ(At(0).level, Level::kL1);
  EXPECT_EQ(At(1).level, Level::kL3);
  EXPECT_EQ(store_->Describe(TestPart(0))->uses, 0u);
  EXPECT_TRUE(store_->Describe(TestPart(0))->on_disk);
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].kind, PartEvent::Kind::kMoved);
  EXPECT_EQ(events_[0].level, Level::kL1);
  EXPECT_EQ(Prefetch(0), PrefetchOutcome::kInRam);
  EXPECT_EQ(Prefetch(99), PrefetchOutcome::kAbsent);
  ExpectRight(0);
}

TEST_F(PrefetchTest, CountsTheFirstReadOfWhatItBroughtAndNothingElse) {
  OpenWithOnDisk(2, Small());
  const auto used = [this](PrefetchOrigin origin) {
    return store_->counters().prefetched_used[static_cast<size_t>(origin)];
  };
  ASSERT_EQ(Prefetch(0), PrefetchOutcome::kBrought);
  ASSERT_EQ(store_->Prefetch(TestPart(1), PrefetchOrigin::kFollowed), PrefetchOutcome::kBrought);
  EXPECT_EQ(used(PrefetchOrigin::kAsked), 0u);
  ExpectRight(0);
  ExpectRight(0);
  EXPECT_EQ(used(PrefetchOrigin::kAsked), 1u);
  EXPECT_EQ(used(PrefetchOrigin::kFollowed), 0u);
  ExpectRight(1);
  EXPECT_EQ(used(PrefetchOrigin::kFollowed), 1u);
}

TEST_F(PrefetchTest, TakesFreeRoomAloneAndLeavesWhatLiesInL1) {
  BlockStoreOptions options = Small();
  options.l2_bytes = 0;
  options.high_watermark = 0.5;
  options.low_watermark = 0.25;
  OpenWithOnDisk(60, options);
  // 32 MiB is the high mark of L1.
  for (uint64_t i = 100; i < 110; ++i) ASSERT_OK(PutChained(*store_, i, 0, kPartBytes));
  uint64_t brought = 0;
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 60; ++i) {
    const PrefetchOutcome outcome = Prefetch(i);
    brought += outcome == PrefetchOutcome::kBrought ? 1 : 0;
    refused += outcome == PrefetchOutcome::kNoRoom ? 1 : 0;
  }
  EXPECT_EQ(brought + refused, 60u);
  EXPECT_GE(brought, 15u);
  EXPECT_LE(brought, 22u);
  EXPECT_LE(store_->Levels()[0].stats.used_bytes, 32 * kMiB);
  MoveAll(*store_);
  for (uint64_t i = 100; i < 110; ++i) EXPECT_EQ(At(i).level, Level::kL1) << i;
  EXPECT_EQ(store_->Levels()[0].demoted + store_->Levels()[0].evicted, 0u);
}

TEST_F(PrefetchTest, FollowingNamesAChainUpToAGap) {
  Open(Small());
  for (uint32_t depth = 0; depth < 6; ++depth) {
    ASSERT_OK(PutChained(*store_, 1, depth, 1000, Durability::kInterval));
  }
  Open(Small());
  ASSERT_EQ(store_->Prefetch(TestPart(1, 2), PrefetchOrigin::kFollowed), PrefetchOutcome::kBrought);
  const PartKey gone = TestPart(1, 4);
  ASSERT_OK(store_->Erase({&gone, 1}));
  const auto chain = store_->Following(TestPart(1, 0), 10);
  ASSERT_EQ(chain.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(chain[i].key.key, TestBlockKey(1, i + 1));
    EXPECT_EQ(chain[i].payload_bytes, 1000u);
    EXPECT_EQ(chain[i].in_ram, i == 1);
  }
  EXPECT_EQ(store_->Following(TestPart(1, 0), 2).size(), 2u);
  EXPECT_TRUE(store_->Following(TestPart(1, 3), 10).empty());
  EXPECT_TRUE(store_->Following(gone, 10).empty());
  // The first read of what was brought for a follower says so.
  ASSERT_OK_AND_ASSIGN(const PartRead first, store_->Read(TestPart(1, 2), 0, 0));
  EXPECT_TRUE(first.followed);
  ASSERT_OK_AND_ASSIGN(const PartRead second, store_->Read(TestPart(1, 2), 0, 0));
  EXPECT_FALSE(second.followed);
}

}  // namespace
}  // namespace mnemo

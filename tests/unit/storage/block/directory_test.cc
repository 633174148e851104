#include "storage/block/directory.h"

#include <fmt/format.h>

#include <map>
#include <random>
#include <set>

#include "tests/unit/storage/block/directory_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Outcome = Reservation::Outcome;
using std::chrono::seconds;

TEST_F(DirectoryTest, APartIsPendingUntilItIsPublished) {
  const NewPart part = New(Part("k"));
  ASSERT_OK_AND_ASSIGN(const Reservation mine, directory_.Reserve(part, Soon()));
  EXPECT_EQ(mine.outcome, Outcome::kReserved);
  EXPECT_EQ(directory_.Find(part.key)->state, EntryState::kPending);
  EXPECT_EQ(directory_.Reserve(part, Soon())->outcome, Outcome::kPending);
  EXPECT_EQ(directory_.TotalUsage().pending, 1u);
  EXPECT_EQ(directory_.TotalUsage().parts, 0u);

  ASSERT_OK(directory_.Publish(mine.ref, {5, 6}, Ram(42), std::nullopt));
  const auto entry = directory_.Find(part.key);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->state, EntryState::kPresent);
  EXPECT_EQ(entry->key, part.key);
  EXPECT_EQ(entry->digest, (Digest128{5, 6}));
  EXPECT_EQ(entry->ram, Ram(42));
  EXPECT_EQ(entry->tokens, 16);
  EXPECT_EQ(entry->nearest(), Level::kL1);
  const auto again = directory_.Reserve(part, Soon());
  EXPECT_EQ(again->outcome, Outcome::kPresent);
  EXPECT_EQ(again->digest, (Digest128{5, 6}));
}

TEST_F(DirectoryTest, AReservationWhoseDeadlinePassedIsTakenOver) {
  const NewPart part = New(Part("k"));
  const Reservation first = *directory_.Reserve(part, Soon());
  clock_.Advance(seconds(11));
  const Reservation second = *directory_.Reserve(part, Soon());
  EXPECT_EQ(second.outcome, Outcome::kReserved);
  EXPECT_THAT(directory_.Publish(first.ref, {}, Ram(1), std::nullopt),
              StatusIs(absl::StatusCode::kAborted));
  std::vector<EntryId> leaves;
  directory_.Abandon(first.ref, leaves);  // not the first's any more
  EXPECT_OK(directory_.Publish(second.ref, {}, Ram(2), std::nullopt));
}

TEST_F(DirectoryTest, AnAbandonedReservationLeavesNothing) {
  const uint64_t pending_before = directory_.TotalUsage().pending;
  const NewPart part = New(Part("k"), "parent", 1);
  const Reservation mine = *directory_.Reserve(part, Soon());
  std::vector<EntryId> leaves;
  directory_.Abandon(mine.ref, leaves);
  EXPECT_FALSE(directory_.Find(part.key));
  EXPECT_EQ(directory_.TotalUsage().pending, pending_before);
  EXPECT_EQ(directory_.Reserve(part, Soon())->outcome, Outcome::kReserved);
}

TEST_F(DirectoryTest, EveryEntryIsFoundByItsSlotAndNothingElse) {
  std::set<std::string> names;
  for (int i = 0; i < 20; ++i) {
    const NewPart part = New(Part(fmt::format("k{}", i)));
    const Reservation mine = *directory_.Reserve(part, Soon());
    ASSERT_OK(directory_.Publish(mine.ref, {}, Ram(1), std::nullopt));
    if (i % 2 == 0) {
      names.insert(std::string(part.key.key.view()));
      continue;
    }
    const auto entry = directory_.Find(part.key);
    ASSERT_OK(directory_.Remove(entry->ref, Directory::RemoveWhen::kAlways));
  }
  std::set<std::string> found;
  for (uint64_t random = 0; random < 10'000; ++random) {
    const auto entry = directory_.InSlot(random);
    if (entry) found.insert(std::string(entry->key.key.view()));
  }
  EXPECT_EQ(found, names);
}

TEST_F(DirectoryTest, RefusesWhatDoesNotFit) {
  NewPart part = New(Part("k"));
  part.payload_bytes = 0;
  EXPECT_THAT(directory_.Reserve(part, Soon()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("payload_bytes is 0")));
  part = New(Part("k"));
  part.key.key = BlockKey();
  EXPECT_THAT(directory_.Reserve(part, Soon()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key is empty")));
  part = New(Part("k"));
  part.key.shard = 256;
  EXPECT_THAT(directory_.Reserve(part, Soon()), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(DirectoryTest, RefusesPartsBeyondItsMemory) {
  Directory small({.max_memory_bytes = directory_.MemoryBytes() + 2'000'000}, clock_);
  absl::Status status;
  int stored = 0;
  while (status.ok() && stored < 100'000) {
    const PartKey key = Part(fmt::format("key {}", stored));
    status = small.Reserve(New(key), Soon()).status();
    stored += status.ok();
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("directory")));
  EXPECT_GT(stored, 1000);
  EXPECT_LE(small.MemoryBytes(), directory_.MemoryBytes() + 2'100'000);
}

TEST_F(DirectoryTest, PartsSpacesSaltsAndTenantsAreApart) {
  const PartKey base = Part("k");
  PartKey other_part = Part("k", {1, 0, 0});
  PartKey other_rank = Part("k", {0, 1, 0});
  PartKey other_space = Part("k", {}, {11, 23});
  PartKey other_tenant = Part("k", {}, {12, 22});
  PartKey salted = base;
  salted.salt = *DigestOfSalt("s");
  salted.shard = ShardOf(salted.scope, salted.salt, "k");
  const std::vector<PartKey> others = {other_part, other_rank, other_space, other_tenant, salted};
  Put(New(base));
  for (const PartKey& other : others) EXPECT_FALSE(directory_.Find(other));
  for (const PartKey& other : others) Put(New(other));
  EXPECT_EQ(directory_.TotalUsage().parts, 6u);
  EXPECT_EQ(directory_.Usage(kScope).parts, 4u);
  EXPECT_EQ(directory_.Usage(kScope).first_part_blocks, 2u);
  EXPECT_EQ(directory_.TenantUsage(11).parts, 5u);
  EXPECT_EQ(directory_.FindAllParts(base).size(), 3u);
  EXPECT_EQ(directory_.FindAllParts(salted).size(), 1u);
}

TEST_F(DirectoryTest, AMoveCommitsOnlyIfNothingChangedMeanwhile) {
  const EntryRef before = Put("k");
  ASSERT_OK_AND_ASSIGN(const auto moved, directory_.SetRam(before, Ram(88, Level::kL2)));
  EXPECT_EQ(moved.previous, Ram(77));
  EXPECT_THAT(directory_.SetRam(before, Ram(99)), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(directory_.SetDisk(before, Disk()), StatusIs(absl::StatusCode::kAborted));
  // A pin on the way makes the copied metadata stale.
  const EntryRef seen = moved.ref;
  ASSERT_OK(directory_.SetPinned(seen, true));
  EXPECT_THAT(directory_.SetDisk(seen, Disk()), StatusIs(absl::StatusCode::kAborted));
  // Uses and leases are no change.
  const EntryRef current = directory_.Get(before.id)->ref;
  directory_.Touch(std::vector<EntryId>{before.id});
  EXPECT_TRUE(directory_.AddLease(before.id, kScope.tenant));
  EXPECT_OK(directory_.SetDisk(current, Disk()));
  std::vector<EntryId> leaves;
  EXPECT_TRUE(directory_.DropLease(before.id, leaves));
}

TEST_F(DirectoryTest, KeepsAPlaceInRamAndOneOnDisk) {
  EntryRef ref = Put("k");
  ref = directory_.SetDisk(ref, Disk())->ref;
  auto usage = directory_.Usage(kScope);
  EXPECT_EQ(usage.level_bytes[Index(Level::kL1)], 1100u);
  EXPECT_EQ(usage.level_bytes[Index(Level::kL3)], 900u);
  EXPECT_EQ(usage.level_exact_bytes[Index(Level::kL3)], 1000u);
  ASSERT_OK_AND_ASSIGN(const auto cleared, directory_.ClearRam(ref));
  EXPECT_EQ(cleared.previous, Ram(77));
  EXPECT_EQ(directory_.Get(ref.id)->disk, Disk());
  EXPECT_EQ(directory_.Get(ref.id)->nearest(), Level::kL3);
  EXPECT_THAT(directory_.ClearDisk(cleared.ref), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(const auto archived, directory_.SetDisk(cleared.ref, Disk(Level::kDisk)));
  EXPECT_EQ(archived.previous, Disk());
  EXPECT_EQ(directory_.Get(ref.id)->disk, Disk(Level::kDisk));
  usage = directory_.Usage(kScope);
  EXPECT_EQ(usage.level_parts, (std::array<uint64_t, 4>{0, 0, 0, 1}));
}

TEST_F(DirectoryTest, ClearingTheOnlyPlaceIsRefused) {
  const EntryRef ref = Put("k");
  EXPECT_THAT(directory_.ClearRam(ref), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(directory_.Get(ref.id)->ram);
}

TEST_F(DirectoryTest, EveryPlaceComesBackAsItWasSet) {
  EntryRef ref = Put("k");
  for (const Level level : {Level::kL3, Level::kDisk}) {
    for (const Durability instance :
         {Durability::kCache, Durability::kInterval, Durability::kSync}) {
      const DiskPlace place{level, instance, 0xfffffffe, 15};
      ref = directory_.SetDisk(ref, place)->ref;
      EXPECT_EQ(directory_.Get(ref.id)->disk, place);
    }
  }
  const RamPlace ram{Level::kL2, {0xfedcba9876543210}, 0xfffffffe, 15};
  ref = directory_.SetRam(ref, ram)->ref;
  EXPECT_EQ(directory_.Get(ref.id)->ram, ram);
}

TEST_F(DirectoryTest, OnlyWhatMayGoIsEvicted) {
  const auto evict = [&](EntryId id) {
    return directory_.Remove(directory_.Get(id)->ref, Directory::RemoveWhen::kEvictable).status();
  };
  const EntryRef parent = Put("p");
  const EntryRef child = Put("c", "p", 1);
  EXPECT_THAT(evict(parent.id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("parent of a part")));
  ASSERT_TRUE(directory_.AddLease(child.id, kScope.tenant));
  EXPECT_THAT(evict(child.id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("leased")));
  std::vector<EntryId> leaves;
  EXPECT_TRUE(directory_.DropLease(child.id, leaves));
  ASSERT_OK(directory_.SetPinned(directory_.Get(child.id)->ref, true));
  EXPECT_THAT(evict(child.id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("pinned")));
  ASSERT_OK(directory_.SetPinned(directory_.Get(child.id)->ref, false));
  ASSERT_OK(evict(child.id));
  directory_.Recycle(child.id, leaves);
  EXPECT_THAT(leaves, ElementsAre(parent.id));
  EXPECT_OK(evict(parent.id));

  NewPart durable = New(Part("d"));
  durable.durability = Durability::kInterval;
  EXPECT_THAT(evict(Put(durable).id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("class")));
}

TEST_F(DirectoryTest, APartThatIsBeingRemovedIsGoneForEverybodyAndBusyForWriters) {
  const EntryRef ref = Put("k");
  ASSERT_OK_AND_ASSIGN(const DirectoryEntry removed,
                       directory_.Remove(ref, Directory::RemoveWhen::kAlways));
  EXPECT_EQ(removed.ram, Ram(77));
  EXPECT_EQ(removed.key, Part("k"));
  EXPECT_FALSE(directory_.Find(Part("k")));
  EXPECT_FALSE(directory_.Get(ref.id));
  EXPECT_EQ(directory_.Reserve(New(Part("k")), Soon())->outcome, Outcome::kPending);
  EXPECT_EQ(directory_.TotalUsage().parts, 0u);
  std::vector<EntryId> leaves;
  directory_.Recycle(ref.id, leaves);
  EXPECT_EQ(directory_.Reserve(New(Part("k")), Soon())->outcome, Outcome::kReserved);
  EXPECT_THAT(directory_.SetPinned(ref, true), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(DirectoryTest, ChildrenThatCameFirstFindTheirParent) {
  const EntryRef leaf = Put("c", "b", 2);
  EXPECT_FALSE(directory_.Find(Part("b")));  // a placeholder is nobody's hit
  EXPECT_EQ(directory_.KeyOf(directory_.Get(leaf.id)->parent)->view(), "b");
  EXPECT_EQ(directory_.TotalUsage().parts, 1u);
  const EntryRef middle = Put("b", "a", 1);
  const EntryRef root = Put("a");
  EXPECT_EQ(directory_.Get(leaf.id)->parent, middle.id);
  EXPECT_EQ(directory_.Get(middle.id)->parent, root.id);
  EXPECT_EQ(directory_.Get(middle.id)->children, 1u);
  EXPECT_EQ(directory_.Get(root.id)->children, 1u);
}

TEST_F(DirectoryTest, AParentDeletedAndStoredAgainFindsItsChildren) {
  const EntryRef root = Put("a");
  const EntryRef middle = Put("b", "a", 1);
  const EntryRef leaf = Put("c", "b", 2);
  EXPECT_THAT(Drop(middle.id), IsEmpty());
  EXPECT_FALSE(directory_.Find(Part("b")));
  EXPECT_EQ(directory_.Get(root.id)->children, 1u);  // c still hangs on it, through the gap
  const EntryRef again = Put("b", "a", 1);
  EXPECT_EQ(again.id, middle.id);
  EXPECT_EQ(directory_.Get(leaf.id)->parent, again.id);
  EXPECT_EQ(directory_.Get(again.id)->children, 1u);
  EXPECT_EQ(directory_.Get(root.id)->children, 1u);
}

TEST_F(DirectoryTest, ALeafGoneThroughAGapMakesTheFarAncestorALeaf) {
  const EntryRef root = Put("a");
  const EntryRef middle = Put("b", "a", 1);
  const EntryRef leaf = Put("c", "b", 2);
  Drop(middle.id);
  EXPECT_THAT(Drop(leaf.id), ElementsAre(root.id));
  EXPECT_EQ(directory_.Get(root.id)->children, 0u);
}

TEST_F(DirectoryTest, LinksThatDoNotFitByDepthAreNotMade) {
  // A part its own parent, and two each other's: nothing may hold itself up.
  const EntryRef self = Put("s", "s", 1);
  EXPECT_EQ(directory_.Get(self.id)->children, 0u);
  const EntryRef a = Put("a", "b", 1);
  const EntryRef b = Put("b", "a", 2);
  for (const EntryRef& ref : {a, b}) {
    EXPECT_LE(directory_.Get(ref.id)->children, 1u);
  }
  // Both may be evicted, one after the other.
  EXPECT_OK(directory_.Remove(directory_.Get(b.id)->ref, Directory::RemoveWhen::kEvictable));
  std::vector<EntryId> leaves;
  directory_.Recycle(b.id, leaves);
  EXPECT_OK(directory_.Remove(directory_.Get(a.id)->ref, Directory::RemoveWhen::kEvictable));
  directory_.Recycle(a.id, leaves);
}

TEST_F(DirectoryTest, ATakenOverReservationOfAnotherDepthMakesNoCycle) {
  // e hangs on p at depth 3; taken over at depth 1, and p then claims to hang on e.
  const NewPart first = New(Part("e"), "p", 3);
  ASSERT_OK(directory_.Reserve(first, Soon()));
  clock_.Advance(seconds(11));
  const EntryRef e = Put("e", {}, 1);
  const EntryRef p = Put("p", "e", 2);
  EXPECT_EQ(directory_.Get(p.id)->parent, e.id);
  EXPECT_EQ(directory_.Get(p.id)->children, 0u);
  EXPECT_EQ(directory_.Get(e.id)->parent, kNoEntry);
  EXPECT_EQ(directory_.TotalUsage().pending, 0u);
}

TEST_F(DirectoryTest, AParentWhosePendingChildWasTakenOverIsReportedAsALeaf) {
  const EntryRef parent = Put("p", {}, 2);
  ASSERT_OK(directory_.Reserve(New(Part("e"), "p", 3), Soon()));
  EXPECT_EQ(directory_.Get(parent.id)->children, 1u);
  clock_.Advance(seconds(11));
  Put("e", {}, 1);
  EXPECT_EQ(directory_.Get(parent.id)->children, 0u);
  uint64_t cursor = 0;
  std::vector<EntryId> leaves;
  directory_.Expired(cursor, 1, leaves);
  EXPECT_THAT(leaves, ElementsAre(parent.id));
}

TEST_F(DirectoryTest, LiesAboutDepthLeakNothing) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back(fmt::format("n{}", i));
  std::map<std::string, EntryId> present;
  std::vector<EntryId> leaves;
  for (int step = 0; step < 20'000; ++step) {
    const std::string& name = names[random() % names.size()];
    const auto at = present.find(name);
    if (at == present.end()) {
      const std::string& parent = names[random() % names.size()];
      if (random() % 4 == 0) {
        // A writer that never ends, and is taken over by the next.
        const auto depth = static_cast<uint32_t>(random() % 6);
        ASSERT_OK(directory_.Reserve(New(Part(name), parent, depth), Soon()));
        clock_.Advance(seconds(11));
        continue;
      }
      present[name] = Put(name, parent, static_cast<uint32_t>(random() % 6)).id;
    } else {
      Drop(at->second);
      present.erase(at);
    }
  }
  for (const auto& [name, id] : present) Drop(id);
  uint64_t cursor = 0;
  directory_.Expired(cursor, 1 << 20, leaves);
  EXPECT_EQ(directory_.TotalUsage().parts, 0u);
  // Were a cycle left behind, its names would be placeholders still.
  for (const std::string& name : names) {
    const Reservation fresh = *directory_.Reserve(New(Part(name)), Soon());
    ASSERT_EQ(fresh.outcome, Outcome::kReserved);
    EXPECT_EQ(directory_.Get(fresh.ref.id)->children, 0u) << name;
  }
}

TEST_F(DirectoryTest, ALeasedPartThatItsOwnerDeletesKeepsItsSlotUntilTheLeaseEnds) {
  const EntryRef ref = Put("k");
  ASSERT_TRUE(directory_.AddLease(ref.id, kScope.tenant));
  Drop(ref.id);
  EXPECT_FALSE(directory_.Find(Part("k")));
  EXPECT_FALSE(directory_.AddLease(ref.id, kScope.tenant));
  for (int i = 0; i < 1000; ++i) EXPECT_NE(Put(fmt::format("other {}", i)).id, ref.id);
  std::vector<EntryId> leaves;
  EXPECT_TRUE(directory_.DropLease(ref.id, leaves));
}

TEST_F(DirectoryTest, APartWhoseTimeIsOverIsAbsent) {
  NewPart part = New(Part("k"));
  part.expires = clock_.Wall() + seconds(5);
  const EntryRef ref = Put(part);
  EXPECT_TRUE(directory_.Find(part.key));
  clock_.Advance(seconds(5));
  EXPECT_FALSE(directory_.Find(part.key));
  EXPECT_FALSE(directory_.Get(ref.id));
  PartHit hit;
  directory_.Lookup({&part.key, 1}, {&hit, 1});
  EXPECT_EQ(hit.state, EntryState::kAbsent);
  EXPECT_FALSE(directory_.AddLease(ref.id, kScope.tenant));

  const Reservation again = *directory_.Reserve(part, Soon());
  EXPECT_EQ(again.outcome, Outcome::kExpired);
  uint64_t cursor = 0;
  std::vector<EntryId> leaves;
  EXPECT_THAT(directory_.Expired(cursor, 1000, leaves), ElementsAre(again.ref));
  EXPECT_OK(directory_.Remove(again.ref, Directory::RemoveWhen::kEvictable));
  directory_.Recycle(ref.id, leaves);
  EXPECT_EQ(directory_.Reserve(part, Soon())->outcome, Outcome::kReserved);
}

TEST_F(DirectoryTest, TheSweepGivesUpOverdueReservations) {
  const EntryRef parent = Put("p");
  ASSERT_OK(directory_.Reserve(New(Part("c"), "p", 1), Soon()));
  EXPECT_EQ(directory_.Get(parent.id)->children, 1u);
  clock_.Advance(seconds(11));
  uint64_t cursor = 0;
  std::vector<EntryId> leaves;
  EXPECT_THAT(directory_.Expired(cursor, 1000, leaves), IsEmpty());
  EXPECT_THAT(leaves, ElementsAre(parent.id));
  EXPECT_EQ(directory_.TotalUsage().pending, 0u);
}

TEST_F(DirectoryTest, TheSweepMeetsEveryEntryInSmallSteps) {
  std::set<EntryId> expected;
  for (int i = 0; i < 2000; ++i) {
    NewPart part = New(Part(fmt::format("key {}", i)));
    part.expires = clock_.Wall() + seconds(1);
    expected.insert(Put(part).id);
  }
  clock_.Advance(seconds(2));
  uint64_t cursor = 0;
  std::vector<EntryId> leaves;
  std::set<EntryId> met;
  for (int step = 0; step < 500; ++step) {
    for (const EntryRef& ref : directory_.Expired(cursor, 7, leaves)) met.insert(ref.id);
  }
  EXPECT_EQ(met, expected);
}

TEST_F(DirectoryTest, CountsUses) {
  const EntryRef ref = Put("k");
  clock_.Advance(seconds(30));
  EXPECT_EQ(directory_.Get(ref.id)->idle, seconds(30));
  directory_.Touch(std::vector<EntryId>{ref.id, kNoEntry});
  EXPECT_EQ(directory_.Get(ref.id)->idle, Nanos(0));
  EXPECT_EQ(directory_.Get(ref.id)->hits, 1u);
  for (int i = 0; i < 1000; ++i) directory_.Touch(std::vector<EntryId>{ref.id});
  EXPECT_EQ(directory_.Get(ref.id)->hits, 255u);
}

TEST_F(DirectoryTest, BulkLookupAnswersInOrderForAnyNumberOfKeys) {
  std::vector<PartKey> keys;
  std::vector<EntryId> ids;
  constexpr int kKeys = 10'000;
  for (int i = 0; i < kKeys; ++i) {
    const PartId part{static_cast<uint8_t>(i % 3), static_cast<uint16_t>(i % 2), 0};
    keys.push_back(Part(fmt::format("block number {}", i), part));
    ids.push_back(i % 7 == 0 ? kNoEntry : Put(New(keys.back())).id);
  }
  ASSERT_OK(directory_.Reserve(New(keys[7]), Soon()));
  std::vector<PartHit> hits(keys.size());
  directory_.Lookup(keys, hits);
  for (int i = 0; i < kKeys; ++i) {
    if (i == 7) {
      EXPECT_EQ(hits[i].state, EntryState::kPending);
      continue;
    }
    EXPECT_EQ(hits[i].ref.id, ids[i]) << i;
    EXPECT_EQ(hits[i].state, i % 7 == 0 ? EntryState::kAbsent : EntryState::kPresent);
    if (i % 7 != 0) {
      EXPECT_EQ(hits[i].payload_bytes, 1000u);
    }
  }
}

// Looks `blocks` up, and part by part what it stands for: the answers are the same.
void ExpectSameAnswers(const Directory& directory, const BlockParts& blocks) {
  std::vector<PartKey> keys;
  const auto placed_by = blocks.stretches.empty() ? blocks.keys : blocks.stretches;
  for (size_t i = 0; i < blocks.keys.size(); ++i) {
    for (const PartId& part : blocks.parts) {
      keys.push_back({.scope = blocks.scope,
                      .salt = blocks.salt,
                      .key = *BlockKey::From(blocks.keys[i]),
                      .part = part,
                      .shard = ShardOf(blocks.scope, blocks.salt, placed_by[i])});
    }
  }
  std::vector<PartHit> expected(keys.size());
  directory.Lookup(keys, expected);
  std::vector<PartHit> hits(blocks.size(), PartHit{.ref = {.id = 1}});
  directory.Lookup(blocks, hits);
  for (size_t i = 0; i < hits.size(); ++i) {
    ASSERT_EQ(hits[i].ref, expected[i].ref) << i;
    ASSERT_EQ(hits[i].state, expected[i].state) << i;
    ASSERT_EQ(hits[i].nearest, expected[i].nearest) << i;
    ASSERT_EQ(hits[i].payload_bytes, expected[i].payload_bytes) << i;
  }
}

TEST_F(DirectoryTest, LookupOfBlocksAnswersAsThatOfTheirParts) {
  // More than are worked on at once, in three lanes, of which one holds nothing.
  constexpr int kBlocks = 3000;
  const std::vector<PartId> parts = {{0, 0, 0}, {0, 1, 0}, {7, 0, 0}};
  std::vector<std::string> names;
  std::vector<std::string> stretches;
  for (int i = 0; i < kBlocks; ++i) {
    names.push_back(fmt::format("block number {}", i));
    stretches.push_back(fmt::format("stretch {}", i / 16));
    if (i % 5 != 0) Put(New(Part(names.back(), parts[0])));
    if (i % 3 != 0) Put(New(Part(names.back(), parts[1])));
    PartKey elsewhere = Part(stretches.back(), parts[1]);
    elsewhere.key = *BlockKey::From(names.back());
    if (i % 3 == 0) Put(New(elsewhere));
  }
  ASSERT_OK(directory_.Reserve(New(Part(names[5], parts[0])), Soon()));
  const std::vector<std::string_view> keys(names.begin(), names.end());
  const std::vector<std::string_view> placed_by(stretches.begin(), stretches.end());
  const BlockParts blocks{.scope = kScope, .keys = keys, .parts = parts};
  ExpectSameAnswers(directory_, blocks);
  BlockParts in_stretches = blocks;
  in_stretches.stretches = placed_by;
  ExpectSameAnswers(directory_, in_stretches);
  BlockParts of_another = blocks;
  of_another.salt = *DigestOfSalt("another");
  ExpectSameAnswers(directory_, of_another);

  std::vector<PartHit> hits(blocks.size());
  directory_.Lookup(blocks, hits);
  EXPECT_EQ(hits[5 * 3].state, EntryState::kPending);
  EXPECT_EQ(hits[(kBlocks - 2) * 3].state, EntryState::kPresent);
  EXPECT_EQ(hits[(kBlocks - 2) * 3 + 2].state, EntryState::kAbsent);
  directory_.Lookup(in_stretches, hits);
  EXPECT_EQ(hits[3 * 3 + 1].state, EntryState::kPresent);
}

TEST_F(DirectoryTest, ListsInKeyOrderPageByPage) {
  std::set<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    const PartKey key = Part(fmt::format("{}-{}", i % 2 ? "odd" : "even", i));
    Put(New(key));
    if (i % 2) expected.insert(key.Stored().bytes());
  }
  Put(New(Part("odd", {}, {99, 1})));
  std::string after;
  std::vector<std::string> listed;
  int pages = 0;
  do {
    const auto page = directory_.List({.tenant = 11, .space = 22, .key_prefix = "odd"}, after, 100);
    EXPECT_LE(page.size(), 100u);
    for (const DirectoryEntry& entry : page) listed.push_back(entry.key.Stored().bytes());
    ++pages;
  } while (!after.empty());
  EXPECT_EQ(listed, std::vector<std::string>(expected.begin(), expected.end()));
  EXPECT_GE(pages, 15);
}

TEST_F(DirectoryTest, ComesBackFromMetadataAlone) {
  NewPart part = New(Part("c"), "p", 1);
  part.durability = Durability::kSync;
  ASSERT_OK_AND_ASSIGN(const EntryRef ref, directory_.Restore(part, {3, 4}, true, Disk()));
  const auto entry = directory_.Get(ref.id);
  EXPECT_TRUE(entry->pinned);
  EXPECT_EQ(entry->disk, Disk());
  EXPECT_EQ(directory_.Usage(kScope).pinned_bytes, 1000u);
  EXPECT_THAT(directory_.Restore(part, {3, 4}, true, Disk()),
              StatusIs(absl::StatusCode::kAlreadyExists));
  const BlockMetadata metadata = directory_.MetadataOf(*entry, 900, 1);
  EXPECT_EQ(metadata.parent, "p");
  EXPECT_EQ(metadata.digest, (Digest128{3, 4}));
  EXPECT_EQ(metadata.durability, Durability::kSync);
  EXPECT_EQ(metadata.depth, 1u);
}

TEST_F(DirectoryTest, KnowsWhatFollowsInAChain) {
  const auto child_of = [this](EntryRef ref) {
    const auto child = directory_.ChildOf(ref.id);
    return child ? std::string(child->key.key.view()) : "none";
  };
  const EntryRef a = Put("a");
  EXPECT_EQ(child_of(a), "none");
  const auto pending = directory_.Reserve(New(Part("b"), "a", 1), Soon());
  ASSERT_OK(pending);
  EXPECT_EQ(child_of(a), "none");
  ASSERT_OK(directory_.Publish(pending->ref, {1, 2}, Ram(77), std::nullopt));
  EXPECT_EQ(child_of(a), "b");
  // The branch that came last; what went is not found under whoever has its slot.
  const EntryRef d = Put("d", "a", 1);
  EXPECT_EQ(child_of(a), "d");
  Drop(d.id);
  EXPECT_EQ(child_of(a), "none");
  Put("elsewhere");
  EXPECT_EQ(child_of(a), "none");
  // A child that comes before its parent.
  Put("y", "x", 1);
  EXPECT_EQ(child_of(Put("x")), "y");
}

}  // namespace
}  // namespace mnemo

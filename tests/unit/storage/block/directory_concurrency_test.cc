// The directory and the eviction queues under many threads, as the composition
// uses them; also what ThreadSanitizer looks at.
#include <fmt/format.h>

#include <atomic>
#include <random>
#include <thread>

#include "storage/block/directory.h"
#include "storage/block/lease_table.h"
#include "storage/policy/eviction_queues.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using Outcome = Reservation::Outcome;

constexpr KeyScope kScope{1, 2};
constexpr int kChains = 40;
constexpr int kDepth = 25;

PartKey Part(int chain, int depth) {
  PartKey part{.scope = kScope,
               .key = *BlockKey::From(fmt::format("chain {} block {}", chain, depth))};
  part.shard = ShardOf(part.scope, part.salt, part.key.view());
  return part;
}

class DirectoryConcurrencyTest : public ::testing::Test {
 protected:
  void Run(int threads, const std::function<void(std::mt19937_64&)>& work) {
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        std::mt19937_64 random(static_cast<uint64_t>(t));
        work(random);
      });
    }
    for (std::thread& thread : running) thread.join();
  }

  // Stores a block, or finds it there.
  void Put(int chain, int depth) {
    NewPart part{
        .key = Part(chain, depth), .payload_bytes = 100, .depth = static_cast<uint32_t>(depth)};
    if (depth > 0) {
      const PartKey parent = Part(chain, depth - 1);
      part.parent = parent.key;
      part.parent_shard = parent.shard;
    }
    const auto reserved = directory_.Reserve(part, MonoTime::max());
    ASSERT_OK(reserved);
    if (reserved->outcome != Outcome::kReserved) return;
    // The writer's own number, so that two writers of one part would show.
    const uint64_t number = ++written_;
    const auto ref =
        directory_.Publish(reserved->ref, {number, number},
                           RamPlace{.locator = {number}, .stored_bytes = 100}, std::nullopt);
    ASSERT_OK(ref);
    const auto entry = directory_.Get(ref->id);
    if (entry && entry->ref == *ref) {
      queues_.Insert(Level::kL1, ref->id, entry->parent, 100, part.key.key.Hash());
    }
  }

  void Evict() {
    const std::optional<EntryId> id = queues_.Victim(Level::kL1);
    if (!id) return;
    const auto entry = directory_.Get(*id);
    if (!entry || entry->state != EntryState::kPresent) return;
    const auto removed = directory_.Remove(entry->ref, Directory::RemoveWhen::kEvictable);
    if (!removed.ok()) {
      queues_.Release(*id);
      return;
    }
    queues_.RemoveAll(*id);
    std::vector<EntryId> leaves;
    directory_.Recycle(*id, leaves);
    for (const EntryId leaf : leaves) queues_.Release(leaf);
    ++evicted_;
  }

  FakeClock clock_;
  Directory directory_{{}, clock_};
  EvictionQueues queues_{
      {PolicyKind::kS3Fifo, PolicyKind::kSieve, PolicyKind::kLru, PolicyKind::kLru}};
  LeaseTable leases_{directory_, clock_, 1};
  std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> evicted_{0};
};

TEST_F(DirectoryConcurrencyTest, OneWriterWinsAmongMany) {
  std::atomic<int> won{0};
  Run(4, [&](std::mt19937_64&) {
    for (int i = 0; i < 2000; ++i) {
      const NewPart part{.key = Part(i, 0), .payload_bytes = 100};
      const auto reserved = directory_.Reserve(part, MonoTime::max());
      ASSERT_OK(reserved);
      won += reserved->outcome == Outcome::kReserved;
    }
  });
  EXPECT_EQ(won, 2000);
  EXPECT_EQ(directory_.TotalUsage().pending, 2000u);
}

TEST_F(DirectoryConcurrencyTest, OneOfTwoMoversCommits) {
  Put(0, 0);
  const EntryId id = directory_.Find(Part(0, 0))->ref.id;
  std::atomic<uint64_t> committed{0};
  const uint32_t before = directory_.Get(id)->ref.generation;
  Run(4, [&](std::mt19937_64& random) {
    for (int i = 0; i < 2000; ++i) {
      const auto entry = directory_.Get(id);
      const auto change =
          directory_.SetRam(entry->ref, RamPlace{.locator = {random()}, .stored_bytes = 100});
      if (!change.ok()) continue;
      // What was there is what was seen: nobody came between.
      ASSERT_EQ(change->previous, entry->ram);
      ++committed;
    }
  });
  EXPECT_EQ(directory_.Get(id)->ref.generation - before, committed);
}

TEST_F(DirectoryConcurrencyTest, PutsMatchesLeasesAndEvictionsLeaveNoTrace) {
  Run(4, [&](std::mt19937_64& random) {
    for (int i = 0; i < 3000; ++i) {
      const int chain = static_cast<int>(random() % kChains);
      switch (random() % 5) {
        case 0:
        case 1:
          Put(chain, static_cast<int>(random() % kDepth));
          break;
        case 2: {
          std::vector<PartKey> keys;
          for (int depth = 0; depth < kDepth; ++depth) keys.push_back(Part(chain, depth));
          std::vector<PartHit> hits(keys.size());
          directory_.Lookup(keys, hits);
          std::vector<EntryId> ids;
          for (const PartHit& hit : hits) {
            if (hit.state == EntryState::kPresent) ids.push_back(hit.ref.id);
          }
          directory_.Touch(ids);
          queues_.Touch(ids);
          if (ids.empty() || random() % 2 != 0) break;
          const auto lease = leases_.Grant(kScope.tenant, ids, std::chrono::seconds(1), 1 << 20);
          if (!lease.ok()) break;
          const auto ended = leases_.Release(kScope.tenant, *lease);
          ASSERT_OK(ended);
          for (const EntryId id : ended->unleased) queues_.Release(id);
          for (const EntryId id : ended->new_leaves) queues_.Release(id);
          break;
        }
        default:
          Evict();
      }
    }
  });
  EXPECT_GT(evicted_, 100u);
  // What a refused lease had touched for a moment, too.
  for (const EntryId id : leases_.EndExpired(1 << 20).unleased) queues_.Release(id);
  // All that is left goes, leaf by leaf, and the accounts come out even.
  for (int i = 0; i < kChains * kDepth; ++i) Evict();
  EXPECT_EQ(directory_.TotalUsage().parts, 0u);
  EXPECT_EQ(directory_.TotalUsage().level_bytes, (std::array<uint64_t, kLevelCount>{}));
  EXPECT_EQ(queues_.entries(Level::kL1), 0u);
}

TEST(DirectoryMemoryTest, APartWithAKeyOf36BytesTakesAtMost160) {
  const FakeClock clock;
  Directory directory({}, clock);
  EvictionQueues queues(
      {PolicyKind::kS3Fifo, PolicyKind::kS3Fifo, PolicyKind::kS3Fifo, PolicyKind::kS3Fifo});
  constexpr uint32_t kParts = 1 << 19;
  for (uint32_t i = 0; i < kParts; ++i) {
    std::string key(36, 'k');
    StoreLittle<uint32_t>(key.data(), i * 0x9e3779b1);
    NewPart part{.key = {.scope = kScope, .key = *BlockKey::From(key)}, .payload_bytes = 4096};
    part.key.shard = ShardOf(kScope, {}, key);
    const Reservation reserved = *directory.Reserve(part, MonoTime::max());
    ASSERT_OK(directory.Publish(reserved.ref, {}, RamPlace{}, DiskPlace{}));
    queues.Insert(Level::kL1, reserved.ref.id, kNoEntry, 4096, i);
    queues.Insert(Level::kL3, reserved.ref.id, kNoEntry, 4096, i);
  }
  EXPECT_LE(directory.MemoryBytes() + queues.MemoryBytes(), uint64_t{160} * kParts);
}

}  // namespace
}  // namespace mnemo

#include "storage/tier/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <thread>

#include "storage/tier/ram_level.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Arena> MakeArena(uint64_t capacity, uint32_t empty_slabs_kept = 8) {
  auto arena = Arena::Create(
      {.capacity_bytes = capacity, .empty_slabs_kept = empty_slabs_kept, .huge_pages = false});
  EXPECT_OK(arena);
  return *std::move(arena);
}

// Bytes that tell one value from another, and one place of it from the next.
uint8_t ByteAt(uint64_t seed, uint64_t i) {
  return static_cast<uint8_t>((seed * 0x9e3779b97f4a7c15 + i) * 0xbf58476d1ce4e5b9 >> 56);
}

std::string Pattern(uint64_t seed, uint64_t size) {
  std::string bytes(size, '\0');
  for (uint64_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(ByteAt(seed, i));
  return bytes;
}

Locator PutPattern(Arena& arena, uint64_t seed, uint64_t size) {
  auto value = arena.Reserve(size);
  EXPECT_OK(value);
  value->Write(0, AsBytes(Pattern(seed, size)));
  return arena.Seal(*std::move(value));
}

// First and last bytes of every piece: cheap enough for large values.
bool EndsMatch(const PinnedBytes& bytes, uint64_t seed) {
  uint64_t offset = 0;
  for (const ByteView piece : bytes.pieces()) {
    if (piece.front() != ByteAt(seed, offset)) return false;
    if (piece.back() != ByteAt(seed, offset + piece.size() - 1)) return false;
    offset += piece.size();
  }
  return true;
}

TEST(ArenaTest, RefusesACapacityOutsideItsRange) {
  for (const uint64_t capacity : {uint64_t{0}, uint64_t{kMiB}, 3 * kMiB, uint64_t{2} << 40}) {
    EXPECT_THAT(Arena::Create({.capacity_bytes = capacity}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("capacity_bytes")));
  }
}

TEST(ArenaTest, RefusesASizeOutsideItsRange) {
  const auto arena = MakeArena(4 * kMiB);
  EXPECT_THAT(arena->Reserve(0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(arena->Reserve(Arena::kMaxValueSize + 1),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ArenaTest, GivesBackTheBytesOfASealedValue) {
  const auto arena = MakeArena(16 * kMiB);
  for (const uint64_t size : {1u, 511u, 512u, 513u, 4200u, 100000u, 2u << 20, 5000001u}) {
    const Locator locator = PutPattern(*arena, size, size);
    ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, arena->Pin(locator));
    EXPECT_EQ(bytes.ToString(), Pattern(size, size)) << size;
    EXPECT_THAT(arena->SizeOf(locator), IsOk());
    EXPECT_EQ(*arena->SizeOf(locator), size);
  }
}

TEST(ArenaTest, WritesAnywhereInAnyOrder) {
  const auto arena = MakeArena(8 * kMiB);
  constexpr uint64_t kSize = 3 * kMiB + 777;
  const std::string expected = Pattern(7, kSize);
  ASSERT_OK_AND_ASSIGN(WritableValue value, arena->Reserve(kSize));
  const ByteView bytes = AsBytes(expected);
  constexpr uint64_t kThird = kSize / 3;
  value.Write(2 * kThird, bytes.subspan(2 * kThird));
  value.Write(0, bytes.first(kThird));
  value.Write(kThird, bytes.subspan(kThird, kThird));
  std::string seen;
  for (const ByteView piece : value.View(100, kSize - 100)) seen.append(AsText(piece));
  EXPECT_EQ(seen, expected.substr(100));
  const Locator locator = arena->Seal(std::move(value));
  ASSERT_OK_AND_ASSIGN(const PinnedBytes pinned, arena->Pin(locator));
  EXPECT_EQ(pinned.ToString(), expected);
  EXPECT_EQ(pinned.Slice(kThird - 1, 2000).ToString(), expected.substr(kThird - 1, 2000));
}

TEST(ArenaTest, AValueDroppedBeforeItIsSealedGivesItsSpaceBack) {
  const auto arena = MakeArena(2 * kMiB);
  {
    ASSERT_OK_AND_ASSIGN(WritableValue value, arena->Reserve(2 * kMiB));
    EXPECT_THAT(arena->Reserve(1), StatusIs(absl::StatusCode::kResourceExhausted));
    WritableValue moved = std::move(value);
    EXPECT_EQ(arena->Stats().reserved_bytes, 2 * kMiB);
  }
  EXPECT_EQ(arena->Stats().reserved_bytes, 0u);
  EXPECT_EQ(arena->Stats().used_bytes, 0u);
  EXPECT_OK(arena->Reserve(2 * kMiB));
}

TEST(ArenaTest, AFreedValueIsNotFoundAndItsLocatorNeverFitsAnother) {
  const auto arena = MakeArena(2 * kMiB);
  const Locator first = PutPattern(*arena, 1, 5000);
  EXPECT_TRUE(arena->Free(first));
  EXPECT_FALSE(arena->Free(first));
  const Locator second = PutPattern(*arena, 2, 5000);
  EXPECT_NE(first, second);
  EXPECT_THAT(arena->Pin(first), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(arena->Pin(second));
  EXPECT_THAT(arena->Pin(Locator{}), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ArenaTest, APinKeepsTheBytesOfAFreedValueUntilItsLastSliceGoes) {
  const auto arena = MakeArena(2 * kMiB);
  const Locator locator = PutPattern(*arena, 3, 2 * kMiB);
  PinnedBytes slice;
  {
    ASSERT_OK_AND_ASSIGN(const PinnedBytes whole, arena->Pin(locator));
    EXPECT_EQ(arena->Stats().pinned_bytes, 2 * kMiB);
    slice = whole.Slice(1000, 2000);
    EXPECT_TRUE(arena->Free(locator));
  }
  EXPECT_EQ(arena->Stats().deferred_bytes, 2 * kMiB);
  EXPECT_EQ(arena->Stats().live_bytes, 0u);
  EXPECT_THAT(arena->Reserve(1), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(slice.ToString(), Pattern(3, 2 * kMiB).substr(1000, 2000));
  slice = PinnedBytes();
  EXPECT_EQ(arena->Stats().deferred_bytes, 0u);
  EXPECT_OK(arena->Reserve(2 * kMiB));
}

TEST(ArenaTest, UsesEveryFreeGranuleHoweverScattered) {
  const auto arena = MakeArena(4 * kMiB);
  std::vector<Locator> values;
  for (int i = 0; i < 8192; ++i)
    values.push_back(PutPattern(*arena, static_cast<uint64_t>(i), 512));
  EXPECT_THAT(arena->Reserve(1), StatusIs(absl::StatusCode::kResourceExhausted));
  for (size_t i = 0; i < values.size(); i += 2) arena->Free(values[i]);
  // No two free granules are neighbours, and one value takes them all.
  const Locator large = PutPattern(*arena, 99, 4096 * 512);
  EXPECT_THAT(arena->Reserve(1), StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, arena->Pin(large));
  EXPECT_EQ(bytes.ToString(), Pattern(99, 4096 * 512));
  for (size_t i = 1; i < values.size(); i += 2) {
    ASSERT_OK_AND_ASSIGN(const PinnedBytes small, arena->Pin(values[i]));
    ASSERT_EQ(small.ToString(), Pattern(i, 512));
  }
}

TEST(ArenaTest, FreeExtentsMergeIntoWholeSlabsAgain) {
  const auto arena = MakeArena(8 * kMiB);
  std::vector<Locator> values;
  for (int i = 0; i < 1000; ++i)
    values.push_back(PutPattern(*arena, 1, 4200 + static_cast<uint64_t>(i)));
  std::shuffle(values.begin(), values.end(), std::mt19937(1));
  for (const Locator value : values) arena->Free(value);
  ASSERT_OK_AND_ASSIGN(const WritableValue whole, arena->Reserve(8 * kMiB));
  EXPECT_EQ(whole.pieces().size(), 1u);
}

// Resident bytes of [start, start + size), which begins at a page.
uint64_t ResidentBytes(const uint8_t* start, uint64_t size) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages(size / page);
  EXPECT_EQ(mincore(const_cast<uint8_t*>(start), size, pages.data()), 0);
  return page * static_cast<uint64_t>(
                    std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
}

TEST(ArenaTest, EmptySlabsGoBackToTheSystemBeyondTheSlack) {
  const auto arena = MakeArena(256 * kMiB, /*empty_slabs_kept=*/2);
  EXPECT_EQ(arena->Stats().resident_bytes, 0u);
  std::vector<Locator> values;
  std::vector<const uint8_t*> slabs;
  for (int i = 0; i < 64; ++i) {
    values.push_back(PutPattern(*arena, 5, 2 * kMiB));
    slabs.push_back(arena->Pin(values.back())->pieces()[0].data());
  }
  const auto resident = [&] {
    uint64_t bytes = 0;
    for (const uint8_t* const slab : slabs) bytes += ResidentBytes(slab, 2 * kMiB);
    return bytes;
  };
  EXPECT_EQ(arena->Stats().resident_bytes, 128 * kMiB);
  EXPECT_EQ(resident(), 128 * kMiB);
  for (const Locator value : values) arena->Free(value);
  EXPECT_EQ(arena->Stats().resident_bytes, 4 * kMiB);
  EXPECT_EQ(resident(), 4 * kMiB);
  // And they serve again.
  EXPECT_OK(arena->Reserve(256 * kMiB));
}

TEST(ArenaTest, KeepsItsPagesUnlessToldOtherwise) {
  ASSERT_OK_AND_ASSIGN(const auto arena,
                       Arena::Create({.capacity_bytes = 64 * kMiB, .huge_pages = false}));
  std::vector<Locator> values;
  for (int i = 0; i < 32; ++i) values.push_back(PutPattern(*arena, 5, 2 * kMiB));
  const uint8_t* const lowest = [&] {
    const uint8_t* least = arena->Pin(values[0])->pieces()[0].data();
    for (const Locator value : values) {
      least = std::min(least, arena->Pin(value)->pieces()[0].data());
    }
    return least;
  }();
  for (const Locator value : values) arena->Free(value);
  EXPECT_EQ(ResidentBytes(lowest, 64 * kMiB), 64 * kMiB);
  EXPECT_EQ(arena->Stats().resident_bytes, 64 * kMiB);
}

TEST(ArenaTest, StaysUsableAfterTenTimesItsCapacityOfChurn) {
  constexpr uint64_t kCapacity = 512 * kMiB;
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const auto arena = MakeArena(kCapacity);
  struct Value {
    Locator locator;
    uint64_t seed = 0;
    PinnedBytes pin;
  };
  std::vector<Value> values;
  std::uniform_real_distribution<double> log_size(std::log2(4096.0), std::log2(40.0 * kMiB));
  double least_usable = 1;
  uint64_t written = 0;
  while (written < 10 * kCapacity) {
    const auto size = static_cast<uint64_t>(std::exp2(log_size(random)));
    auto value = arena->Reserve(size);
    if (!value.ok()) {
      ASSERT_THAT(value, StatusIs(absl::StatusCode::kResourceExhausted));
      const ArenaStats stats = arena->Stats();
      least_usable =
          std::min(least_usable, static_cast<double>(stats.live_bytes + size) / kCapacity);
      // A tenth is pinned, and stays while the rest comes and goes.
      const size_t victim = random() % values.size();
      if (values[victim].pin.size() > 0 && random() % 16 != 0) continue;
      ASSERT_TRUE(EndsMatch(*arena->Pin(values[victim].locator), values[victim].seed));
      values[victim].pin = PinnedBytes();
      ASSERT_TRUE(arena->Free(values[victim].locator));
      values[victim] = std::move(values.back());
      values.pop_back();
      continue;
    }
    const uint64_t value_seed = random();
    uint64_t offset = 0;
    for (const MutableByteView piece : value->pieces()) {
      piece.front() = ByteAt(value_seed, offset);
      piece.back() = ByteAt(value_seed, offset + piece.size() - 1);
      offset += piece.size();
    }
    values.push_back({arena->Seal(*std::move(value)), value_seed, {}});
    if (random() % 10 == 0) values.back().pin = *arena->Pin(values.back().locator);
    written += size;
  }
  const ArenaStats stats = arena->Stats();
  RecordProperty("arena_usable", fmt::format("{:.4f}", least_usable));
  std::printf("arena_usable %.4f, %llu values, index %.2f %% of the capacity\n", least_usable,
              static_cast<unsigned long long>(stats.values),
              100.0 * static_cast<double>(stats.index_bytes) / kCapacity);
  // What is refused fits but for the last granule of each value.
  EXPECT_GE(least_usable, 0.99);
  EXPECT_LE(stats.index_bytes, kCapacity / 100);
}

TEST(ArenaTest, ManyThreadsNeverShareAByte) {
  const auto arena = MakeArena(32 * kMiB, /*empty_slabs_kept=*/1);
  const auto work = [&](uint64_t thread) {
    std::mt19937_64 random(thread);
    std::vector<std::pair<Locator, uint64_t>> mine;
    for (int i = 0; i < 2000; ++i) {
      const uint64_t size = 1 + random() % (256 * kKiB);
      auto value = arena->Reserve(size);
      if (value.ok()) {
        const uint64_t seed = random();
        uint64_t offset = 0;
        for (const MutableByteView piece : value->pieces()) {
          piece.front() = ByteAt(seed, offset);
          piece.back() = ByteAt(seed, offset + piece.size() - 1);
          offset += piece.size();
        }
        mine.emplace_back(arena->Seal(*std::move(value)), seed);
      }
      if (!mine.empty() && (!value.ok() || random() % 2 == 0)) {
        const size_t at = random() % mine.size();
        auto pin = arena->Pin(mine[at].first);
        ASSERT_OK(pin);
        ASSERT_TRUE(arena->Free(mine[at].first));
        ASSERT_TRUE(EndsMatch(*pin, mine[at].second));
        mine[at] = mine.back();
        mine.pop_back();
      }
    }
    for (const auto& [locator, seed] : mine) arena->Free(locator);
  };
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
  const ArenaStats stats = arena->Stats();
  EXPECT_EQ(stats.used_bytes, 0u);
  EXPECT_EQ(stats.live_bytes, 0u);
  EXPECT_EQ(stats.values, 0u);
  EXPECT_OK(arena->Reserve(32 * kMiB));
}

TEST(RamLevelTest, KeepsValuesByLocator) {
  ASSERT_OK_AND_ASSIGN(const auto level, RamLevel::Create({.capacity_bytes = 4 * kMiB}));
  const StoredKey key(3, KeyKind::kBlock, {1, 2}, "suffix");
  const std::string head = "head";
  const std::string payload = Pattern(4, 10000);
  ASSERT_OK_AND_ASSIGN(const Locator locator,
                       level->Put(key, {}, {AsBytes(head), AsBytes(payload)}));
  ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, level->Get(key, locator));
  EXPECT_EQ(bytes.ToString(), head + payload);
  EXPECT_EQ(level->Stats().values, 1u);
  EXPECT_EQ(level->Stats().live_bytes, 10004u);
  EXPECT_OK(level->Erase(key, locator));
  EXPECT_OK(level->Erase(key, locator));
  EXPECT_THAT(level->Get(key, locator), StatusIs(absl::StatusCode::kNotFound));
}

TEST(RamLevelTest, ReceivesStraightIntoItsPlace) {
  ASSERT_OK_AND_ASSIGN(const auto level, RamLevel::Create({.capacity_bytes = 4 * kMiB}));
  ASSERT_OK_AND_ASSIGN(WritableValue value, level->Reserve(6000));
  const uint8_t* const place = value.pieces()[0].data();
  value.Write(0, AsBytes(Pattern(8, 6000)));
  const Locator locator = level->Adopt(std::move(value));
  ASSERT_OK_AND_ASSIGN(const PinnedBytes bytes, level->Get({}, locator));
  EXPECT_EQ(bytes.pieces()[0].data(), place);
  EXPECT_EQ(bytes.ToString(), Pattern(8, 6000));
}

}  // namespace
}  // namespace mnemo

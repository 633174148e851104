#include "storage/context/chunk_cache.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr KeyScope kScope{.tenant = 1, .space = 2};

ChunkCache::RowsPtr MakeRows(size_t bytes) {
  const std::string rows(bytes, 'x');
  auto decoded =
      ChunkRows::Decode(EncodeChunkRows(0, 1, ElementType::kFloat16,
                                        static_cast<uint32_t>(bytes / 2), AsBytes(rows), 0),
                        0);
  MNEMO_CHECK(decoded.ok());
  return std::make_shared<const ChunkRows>(*std::move(decoded));
}

TEST(ChunkCacheTest, KeepsWhatFitsAndDropsWhatWasUsedLongestAgo) {
  ChunkCache cache(16 * 4096);
  for (uint64_t chunk = 0; chunk < 200; ++chunk) {
    cache.Insert(kScope, chunk, MakeRows(1000));
    // The first one is always in use.
    ASSERT_NE(cache.Find(kScope, 0), nullptr) << chunk;
    ASSERT_LE(cache.used_bytes(), 16 * 4096U);
  }
  size_t kept = 0;
  for (uint64_t chunk = 0; chunk < 200; ++chunk) kept += cache.Contains(kScope, chunk) ? 1 : 0;
  EXPECT_LE(kept, 16 * 3U);
  EXPECT_GE(kept, 16U);
}

TEST(ChunkCacheTest, WhatIsTooLargeIsNotKept) {
  ChunkCache cache(16 * 1000);
  cache.Insert(kScope, 1, MakeRows(2000));
  EXPECT_EQ(cache.Find(kScope, 1), nullptr);
  EXPECT_EQ(cache.used_bytes(), 0U);
}

TEST(ChunkCacheTest, ErasesAContextAndNoOther) {
  ChunkCache cache(1 << 20);
  const KeyScope other{.tenant = 1, .space = 3};
  for (uint64_t chunk = 0; chunk < 20; ++chunk) {
    cache.Insert(kScope, chunk, MakeRows(100));
    cache.Insert(other, chunk, MakeRows(100));
  }
  cache.EraseContext(kScope);
  for (uint64_t chunk = 0; chunk < 20; ++chunk) {
    EXPECT_FALSE(cache.Contains(kScope, chunk));
    EXPECT_TRUE(cache.Contains(other, chunk));
  }
  cache.EraseContext(other);
  EXPECT_EQ(cache.used_bytes(), 0U);
}

TEST(ChunkCacheTest, ReadersOutliveEviction) {
  ChunkCache cache(1 << 20);
  cache.Insert(kScope, 1, MakeRows(100));
  const ChunkCache::RowsPtr held = cache.Find(kScope, 1);
  cache.EraseContext(kScope);
  ASSERT_NE(held, nullptr);
  EXPECT_EQ(held->row(0)[99], 'x');
}

TEST(ChunkCacheTest, WhatIsLentIsTakenFromTheLeastRecentlyUsed) {
  ChunkCache cache(1 << 20);
  for (uint64_t chunk = 0; chunk < 1000; ++chunk) cache.Insert(kScope, chunk, MakeRows(1000));
  const uint64_t all = cache.used_bytes();
  cache.Lend(3 << 18);
  EXPECT_LE(cache.used_bytes(), 1U << 18);
  EXPECT_GT(cache.used_bytes(), all / 5);
  EXPECT_NE(cache.Find(kScope, 999), nullptr);
  EXPECT_EQ(cache.Find(kScope, 500), nullptr);
  // More than there is: nothing is kept.
  cache.Lend(2 << 20);
  EXPECT_EQ(cache.used_bytes(), 0U);
  cache.Insert(kScope, 1, MakeRows(1000));
  EXPECT_EQ(cache.Find(kScope, 1), nullptr);
  cache.Lend(0);
  cache.Insert(kScope, 1, MakeRows(1000));
  EXPECT_NE(cache.Find(kScope, 1), nullptr);
}

}  // namespace
}  // namespace mnemo

#include "index/vector/graph_walk.h"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(CandidatePoolTest, KeepsTheNearestInOrder) {
  std::mt19937_64 random(2);
  CandidatePool pool;
  for (const uint32_t capacity : {1U, 7U, 64U}) {
    pool.Reset(capacity);
    std::vector<float> inserted;
    for (uint32_t node = 0; node < 200; ++node) {
      inserted.push_back(static_cast<float>(random() % 97));
      pool.Insert(inserted.back(), node);
    }
    std::sort(inserted.begin(), inserted.end());
    ASSERT_EQ(pool.size(), capacity);
    EXPECT_EQ(pool.worst(), inserted[capacity - 1]);
    for (uint32_t i = 0; i < capacity; ++i) EXPECT_EQ(pool[i].distance, inserted[i]);
  }
}

TEST(CandidatePoolTest, GivesEachNodeOnceNearestFirst) {
  CandidatePool pool;
  pool.Reset(4);
  pool.Insert(3, 30);
  pool.Insert(1, 10);
  EXPECT_EQ(pool.PeekNext(), 10U);
  EXPECT_EQ(pool.TakeNext(), 10U);
  pool.Insert(2, 20);
  pool.Insert(0.5F, 5);
  EXPECT_EQ(pool.TakeNext(), 5U);
  EXPECT_EQ(pool.TakeNext(), 20U);
  EXPECT_EQ(pool.TakeNext(), 30U);
  EXPECT_EQ(pool.TakeNext(), kNoNode);
  EXPECT_EQ(pool.PeekNext(), kNoNode);
  EXPECT_EQ(pool[0].node, 5U);
}

TEST(WalkScratchTest, ForgetsVisitsHoweverOften) {
  WalkScratch scratch(3);
  for (int walk = 0; walk < 600; ++walk) {
    scratch.NextWalk();
    EXPECT_TRUE(scratch.Visit(walk % 3));
    EXPECT_FALSE(scratch.Visit(walk % 3));
  }
}

TEST(WalkScratchPoolTest, LendsEachScratchToOneWalkAtATime) {
  WalkScratchPool pool(10);
  const WalkScratch* first = nullptr;
  {
    WalkScratchPool::Lease a(pool);
    WalkScratchPool::Lease b(pool);
    EXPECT_NE(&*a, &*b);
    first = &*a;
  }
  WalkScratchPool::Lease again(pool);
  EXPECT_EQ(&*again, first);
}

}  // namespace
}  // namespace mnemo

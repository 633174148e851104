#include "server/engine/reuse_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace mnemo {
namespace {

using ::testing::Optional;
using Key = ReuseOrder::Key;

bool All(const Key&) { return true; }

// A cache of `room` things that does what the order says.
class Cache {
 public:
  explicit Cache(size_t room) : room_(room) {}
  // Whether it was there.
  bool Use(const Key& key) {
    const bool hit = !held_.insert(key).second;
    order_.Use(key);
    if (held_.size() <= room_) return hit;
    const auto victim = order_.Victim(key, /*may_try=*/true, All);
    held_.erase(*victim);
    order_.Leave(*victim);
    return hit;
  }
  bool Holds(const Key& key) const { return held_.contains(key); }

 private:
  const size_t room_;
  std::set<Key> held_;
  ReuseOrder order_;
};

TEST(ReuseOrderTest, OfWhatIsUsedInTurnAsMuchStaysAsFits) {
  Cache cache(7);
  for (uint64_t round = 0; round < 5; ++round) {
    int hits = 0;
    for (uint64_t range = 0; range < 10; ++range) hits += cache.Use({1, range}) ? 1 : 0;
    EXPECT_EQ(hits, round == 0 ? 0 : 6) << round;  // and one on trial
  }
}

TEST(ReuseOrderTest, WhatIsNewIsThereForItsSecondUse) {
  Cache cache(3);
  for (uint64_t context = 1; context <= 3; ++context) cache.Use({context, 0});
  EXPECT_FALSE(cache.Use({4, 0}));
  EXPECT_FALSE(cache.Holds({1, 0}));
  // The next new one takes the place of what was not used again, and of nothing else.
  EXPECT_FALSE(cache.Use({5, 0}));
  EXPECT_FALSE(cache.Holds({4, 0}));
  EXPECT_TRUE(cache.Use({5, 0}));
  EXPECT_FALSE(cache.Use({6, 0}));
  EXPECT_TRUE(cache.Holds({5, 0}));
  EXPECT_FALSE(cache.Holds({2, 0}));
  EXPECT_TRUE(cache.Use({3, 0}));
}

TEST(ReuseOrderTest, WhatMayNotBeOnTrialGoesUnlessItIsUsedAgainSooner) {
  ReuseOrder order;
  order.Use({1, 0});
  order.Use({2, 0});
  EXPECT_THAT(order.Victim({2, 0}, false, All), Optional(Key{2, 0}));
  order.Leave({2, 0});
  order.Use({2, 0});
  EXPECT_THAT(order.Victim({2, 0}, false, All), Optional(Key{1, 0}));
}

TEST(ReuseOrderTest, WhatIsNotUsedAnyMoreMakesRoomForOthersInTurn) {
  Cache cache(4);
  for (uint64_t range = 0; range < 4; ++range) cache.Use({1, range});
  for (int round = 0; round < 2; ++round) {
    for (uint64_t range = 0; range < 4; ++range) cache.Use({2, range});
  }
  for (uint64_t range = 0; range < 4; ++range) EXPECT_TRUE(cache.Use({2, range})) << range;
}

TEST(ReuseOrderTest, WhatMayNotGoStays) {
  ReuseOrder order;
  order.Use({1, 0});
  order.Use({2, 0});
  order.Use({2, 0});
  order.Use({3, 0});
  order.Use({3, 0});
  const auto but = [](uint64_t context) {
    return [context](const Key& key) { return key.first != context; };
  };
  EXPECT_THAT(order.Victim({3, 0}, false, All), Optional(Key{1, 0}));
  EXPECT_THAT(order.Victim({3, 0}, false, but(1)), Optional(Key{2, 0}));
  EXPECT_EQ(order.Victim({3, 0}, true, [](const Key&) { return false; }), std::nullopt);
  // What is not there any more can't go.
  order.Leave({3, 0});
  EXPECT_THAT(order.Victim({3, 0}, false, All), Optional(Key{1, 0}));
}

TEST(ReuseOrderTest, WhatIsForgottenHasNoUses) {
  ReuseOrder order;
  order.Use({1, 0});
  order.Use({2, 0});
  order.Leave({2, 0});
  order.Forget(2);
  order.Use({2, 0});
  // As if it were the first.
  EXPECT_THAT(order.Victim({2, 0}, false, All), Optional(Key{2, 0}));
  order.Forget(1);
  EXPECT_THAT(order.Victim({9, 0}, false, All), Optional(Key{2, 0}));
}

TEST(ReuseOrderTest, RemembersNoMoreThanItMay) {
  ReuseOrder order;
  order.Use({1, 0});
  order.Leave({1, 0});
  for (uint64_t range = 0; range < ReuseOrder::kRemembered; ++range) {
    order.Use({2, range});
    order.Leave({2, range});
  }
  order.Use({3, 0});
  order.Use({1, 0});
  EXPECT_THAT(order.Victim({1, 0}, false, All), Optional(Key{1, 0}));
}

}  // namespace
}  // namespace mnemo

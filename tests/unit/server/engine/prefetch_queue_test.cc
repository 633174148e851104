#include "server/engine/prefetch_queue.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
using Work = PrefetchQueue::Work;

constexpr PrefetchOrigin kAsked = PrefetchOrigin::kAsked;
constexpr PrefetchOrigin kFollowed = PrefetchOrigin::kFollowed;

// Parts 0 to `count` - 1 of a chain of `tenant`.
std::vector<PrefetchQueue::Part> PartsOf(uint64_t tenant, uint64_t chain, uint32_t count,
                                         uint64_t bytes = 100) {
  std::vector<PrefetchQueue::Part> parts;
  for (uint32_t i = 0; i < count; ++i) {
    parts.push_back({.key = TestPart(chain, i, {.tenant = tenant, .space = 1}), .bytes = bytes});
  }
  return parts;
}

// `under_way`: of those that were asked for.
void ExpectAddsUp(const PrefetchQueue& queue, uint64_t under_way = 0) {
  for (const PrefetchFigures& each : queue.figures()) {
    uint64_t ended = each.dropped + each.cancelled + each.waiting + std::exchange(under_way, 0);
    for (const uint64_t outcome : each.outcomes) ended += outcome;
    EXPECT_EQ(each.asked, ended);
  }
}

TEST(PrefetchQueueTest, TenantsTakeTurnsAndEachIsServedInOrder) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  queue.Add(PartsOf(1, 10, 3), kAsked);
  queue.Add(PartsOf(1, 11, 1), kAsked);
  queue.Add(PartsOf(2, 20, 2), kAsked);
  std::vector<std::string> order;
  for (int i = 0; i < 6; ++i) {
    const Work work = *queue.Take();
    order.push_back(std::to_string(work.part.key.scope.tenant) + ":" +
                    std::string(work.part.key.key == TestBlockKey(11, 0)   ? "b0"
                                : work.part.key.key == TestBlockKey(10, 0) ? "a0"
                                : work.part.key.key == TestBlockKey(10, 1) ? "a1"
                                : work.part.key.key == TestBlockKey(10, 2) ? "a2"
                                : work.part.key.key == TestBlockKey(20, 0) ? "c0"
                                                                           : "c1"));
    queue.Done(work, PrefetchOutcome::kBrought);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"1:a0", "2:c0", "1:a1", "2:c1", "1:a2", "1:b0"}));
  EXPECT_EQ(queue.figures()[0].bytes, 600u);
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, WhatIsAskedForGoesBeforeWhatFollows) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  queue.Add(PartsOf(1, 10, 1), kFollowed);
  queue.Add(PartsOf(2, 20, 1), kAsked);
  EXPECT_EQ(queue.Take()->origin, kAsked);
  EXPECT_EQ(queue.Take()->origin, kFollowed);
}

TEST(PrefetchQueueTest, WhatFollowsIsTakenOnceAndOnlyWhileNothingElseWaits) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 3), kFollowed).taken, 3u);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 5), kFollowed).taken, 2u);  // three wait already
  EXPECT_EQ(queue.figures()[1].asked, 5u);
  const Work first = *queue.Take();
  queue.Done(first, PrefetchOutcome::kBrought);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 1), kFollowed).taken, 1u);
  queue.Add(PartsOf(2, 20, 1), kAsked);
  EXPECT_EQ(queue.Add(PartsOf(1, 11, 4), kFollowed).taken, 0u);
  EXPECT_EQ(queue.figures()[1].dropped, 4u);
  EXPECT_EQ(queue.Take()->origin, kAsked);
  EXPECT_EQ(queue.Add(PartsOf(1, 11, 4), kFollowed).taken, 4u);
  ExpectAddsUp(queue, /*under_way=*/1);
}

TEST(PrefetchQueueTest, ABusyNodeFollowsNothing) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  bool idle = true;
  queue.FollowOnlyWhile([&] { return idle; });
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 3), kFollowed).taken, 3u);
  idle = false;
  EXPECT_EQ(queue.Add(PartsOf(1, 11, 2), kFollowed).taken, 0u);
  EXPECT_EQ(queue.figures()[1].dropped, 2u);
  // What was asked for is brought all the same, and what waited is dropped.
  queue.Add(PartsOf(1, 12, 1), kAsked);
  EXPECT_EQ(queue.Take()->origin, kAsked);
  std::thread takes([&] { EXPECT_FALSE(queue.Take().has_value()); });
  while (queue.figures()[1].dropped < 5) std::this_thread::yield();
  queue.Stop();
  takes.join();
  EXPECT_EQ(queue.figures()[1].waiting, 0u);
  ExpectAddsUp(queue, /*under_way=*/1);
}

TEST(PrefetchQueueTest, ATenantIsBoundedByPartsAndByBytesUntilTheyAreDone) {
  PrefetchQueue queue({.tenant_bytes = kMiB, .tenant_parts = 5, .parts = 8}, 1);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 7), kAsked).taken, 5u);
  EXPECT_EQ(queue.Room(1), 0u);
  EXPECT_EQ(queue.Room(2), 3u);
  EXPECT_EQ(queue.Add(PartsOf(2, 20, 4), kAsked).taken, 3u);  // of all tenants
  for (int i = 0; i < 8; ++i) queue.Done(*queue.Take(), PrefetchOutcome::kInRam);

  const PrefetchQueue::Added large = queue.Add(PartsOf(1, 11, 3, 400 * kKiB), kAsked);
  EXPECT_EQ(large.taken, 2u);
  EXPECT_EQ(queue.Add(PartsOf(1, 12, 1, 400 * kKiB), kAsked).id, 0u);
  // One that is under way counts as much as one that waits.
  const Work first = *queue.Take();
  const Work second = *queue.Take();
  EXPECT_EQ(queue.Add(PartsOf(1, 12, 1, 400 * kKiB), kAsked).taken, 0u);
  queue.Done(first, PrefetchOutcome::kNoRoom);
  EXPECT_EQ(queue.Add(PartsOf(1, 12, 1, 400 * kKiB), kAsked).taken, 1u);
  queue.Done(second, PrefetchOutcome::kFailed);
  ExpectAddsUp(queue);
  EXPECT_EQ(queue.figures()[0].dropped, 2u + 1u + 1u + 1u + 1u);
  EXPECT_EQ(queue.figures()[0].waiting_bytes, 400 * kKiB);
}

TEST(PrefetchQueueTest, WhatFollowsMakesWayForWhatItsTenantAsksFor) {
  PrefetchQueue queue({.tenant_bytes = kMiB, .tenant_parts = 5, .parts = 100}, 1);
  queue.Add(PartsOf(1, 10, 3), kFollowed);
  queue.Add(PartsOf(2, 20, 2), kFollowed);
  EXPECT_EQ(queue.Room(1), 5u);
  EXPECT_EQ(queue.Add(PartsOf(1, 11, 2), kAsked).taken, 2u);
  EXPECT_EQ(queue.figures()[1].cancelled, 0u) << "there is room for both";
  EXPECT_EQ(queue.Room(1), 3u);
  EXPECT_EQ(queue.Add(PartsOf(1, 12, 3), kAsked).taken, 3u);
  EXPECT_EQ(queue.figures()[1].cancelled, 3u);
  EXPECT_EQ(queue.figures()[1].waiting, 2u) << "those of the other tenant stay";
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, WhatFollowsMakesWayByItsBytesUnlessItIsUnderWay) {
  PrefetchQueue queue({.tenant_bytes = kMiB}, 1);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 2, 400 * kKiB), kFollowed).taken, 2u);
  const Work under_way = *queue.Take();
  EXPECT_EQ(queue.Add(PartsOf(1, 11, 2, 400 * kKiB), kAsked).taken, 1u);
  EXPECT_EQ(queue.figures()[1].cancelled, 1u);
  queue.Done(under_way, PrefetchOutcome::kBrought);
  EXPECT_EQ(queue.Add(PartsOf(1, 12, 1, 400 * kKiB), kAsked).taken, 1u);
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, WhatFollowsMakesWayWhereAllTenantsHaveTooMuch) {
  PrefetchQueue queue({.tenant_parts = 5, .parts = 8}, 1);
  queue.Add(PartsOf(1, 10, 4), kFollowed);
  queue.Add(PartsOf(2, 20, 4), kFollowed);
  EXPECT_EQ(queue.Add(PartsOf(3, 30, 3), kAsked).taken, 3u);
  EXPECT_EQ(queue.figures()[1].cancelled, 8u);
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, CancelGivesUpWhatStillWaitsOfItsOwnTenantAlone) {
  PrefetchQueue queue(PrefetchOptions(), 1000);
  const PrefetchQueue::Added first = queue.Add(PartsOf(1, 10, 3), kAsked);
  const PrefetchQueue::Added second = queue.Add(PartsOf(1, 11, 1), kAsked);
  EXPECT_EQ(first.id, 1000u);
  EXPECT_EQ(second.id, 1001u);
  const Work under_way = *queue.Take();
  queue.Cancel(2, first.id);
  EXPECT_EQ(queue.figures()[0].waiting, 3u);
  queue.Cancel(1, first.id);
  queue.Cancel(1, first.id);
  EXPECT_EQ(queue.figures()[0].waiting, 1u);
  EXPECT_EQ(queue.figures()[0].cancelled, 2u);
  queue.Done(under_way, PrefetchOutcome::kBrought);
  const Work left = *queue.Take();
  EXPECT_EQ(left.part.key.key, TestBlockKey(11, 0));
  queue.Done(left, PrefetchOutcome::kBrought);
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, StopWakesWhoeverWaitsAndTakesNothingMore) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  std::thread waiting([&] { EXPECT_FALSE(queue.Take().has_value()); });
  queue.Stop();
  waiting.join();
  EXPECT_EQ(queue.Room(1), 0u);
  EXPECT_EQ(queue.Add(PartsOf(1, 10, 2), kAsked).taken, 0u);
  ExpectAddsUp(queue);
}

TEST(PrefetchQueueTest, StopGivesUpWhatWaitsAndCountsIt) {
  PrefetchQueue queue(PrefetchOptions(), 1);
  queue.Add(PartsOf(1, 11, 2), kFollowed);
  queue.Add(PartsOf(1, 10, 4), kAsked);
  const Work under_way = *queue.Take();
  queue.Stop();
  EXPECT_FALSE(queue.Take().has_value());
  queue.Done(under_way, PrefetchOutcome::kBrought);
  EXPECT_EQ(queue.figures()[0].cancelled, 3u);
  EXPECT_EQ(queue.figures()[1].cancelled, 2u);
  ExpectAddsUp(queue);
}

TEST(PrefetchOptionsTest, NamesFieldAndRange) {
  EXPECT_THAT(PrefetchOptions{.tenant_bytes = 1}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tenant_bytes is 1;")));
  EXPECT_THAT(PrefetchOptions{.tenant_parts = 0}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tenant_parts is 0;")));
  EXPECT_THAT(PrefetchOptions{.parts = 0}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("parts is 0;")));
  EXPECT_THAT(PrefetchOptions{.follow_blocks = 2000}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("follow_blocks is 2000;")));
  EXPECT_OK(PrefetchOptions{}.Validate());
}

}  // namespace
}  // namespace mnemo

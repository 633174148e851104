#include "storage/block/lease_table.h"

#include <fmt/format.h>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kTenant = 5;
constexpr uint64_t kLimit = 10'000;

class LeaseTableTest : public ::testing::Test {
 protected:
  EntryId Put(std::string_view key, uint64_t bytes = 1000) {
    NewPart part{.key = {.scope = {kTenant, 1}, .key = *BlockKey::From(key)},
                 .payload_bytes = bytes};
    const auto reserved = directory_.Reserve(part, MonoTime::max());
    const auto ref = directory_.Publish(
        reserved->ref, {}, RamPlace{.locator = {1}, .stored_bytes = bytes}, std::nullopt);
    EXPECT_OK(ref);
    return ref->id;
  }
  bool Evictable(EntryId id) {
    return directory_.Remove(directory_.Get(id)->ref, Directory::RemoveWhen::kEvictable).ok();
  }

  FakeClock clock_;
  Directory directory_{{}, clock_};
  LeaseTable leases_{directory_, clock_, 1000};
};

TEST_F(LeaseTableTest, ALeasedPartIsNotEvictedUntilItsLeaseEnds) {
  const EntryId part = Put("a");
  ASSERT_OK_AND_ASSIGN(const LeaseId lease,
                       leases_.Grant(kTenant, {&part, 1}, seconds(30), kLimit));
  EXPECT_FALSE(Evictable(part));
  clock_.Advance(seconds(29));
  EXPECT_THAT(leases_.EndExpired(100).unleased, IsEmpty());
  EXPECT_FALSE(Evictable(part));
  clock_.Advance(seconds(1));
  EXPECT_THAT(leases_.EndExpired(100).unleased, ElementsAre(part));
  EXPECT_TRUE(Evictable(part));
  EXPECT_THAT(leases_.Release(kTenant, lease), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(LeaseTableTest, RenewingCountsFromNow) {
  const EntryId part = Put("a");
  const LeaseId lease = *leases_.Grant(kTenant, {&part, 1}, seconds(10), kLimit);
  clock_.Advance(seconds(9));
  ASSERT_OK(leases_.Renew(kTenant, lease, seconds(10)));
  clock_.Advance(seconds(9));
  EXPECT_EQ(leases_.EndExpired(100).count, 0u);
  clock_.Advance(seconds(1));
  // Its time is over, whether or not anybody has swept yet.
  EXPECT_THAT(leases_.Renew(kTenant, lease, seconds(10)), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(leases_.EndExpired(100).count, 1u);
}

TEST_F(LeaseTableTest, TwoLeasesOnOnePartBothHold) {
  const EntryId part = Put("a");
  const LeaseId first = *leases_.Grant(kTenant, {&part, 1}, seconds(10), kLimit);
  const LeaseId second = *leases_.Grant(kTenant, {&part, 1}, seconds(10), kLimit);
  EXPECT_NE(first, second);
  EXPECT_THAT(leases_.Release(kTenant, first)->unleased, IsEmpty());
  EXPECT_FALSE(Evictable(part));
  EXPECT_THAT(leases_.Release(kTenant, second)->unleased, ElementsAre(part));
  EXPECT_TRUE(Evictable(part));
}

TEST_F(LeaseTableTest, ATenantHasNoMoreThanItsBytes) {
  const EntryId small = Put("a", 6000);
  const EntryId large = Put("b", 6000);
  const LeaseId lease = *leases_.Grant(kTenant, {&small, 1}, seconds(10), kLimit);
  EXPECT_THAT(leases_.Grant(kTenant, {&large, 1}, seconds(10), kLimit),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("6000")));
  EXPECT_TRUE(Evictable(large));  // the refused lease holds nothing
  EXPECT_EQ(leases_.TenantBytes(kTenant), 6000u);
  ASSERT_OK(leases_.Release(kTenant, lease));
  EXPECT_EQ(leases_.TenantBytes(kTenant), 0u);
}

TEST_F(LeaseTableTest, WhatARefusedLeaseHadTouchedIsReportedAsUnleased) {
  // An evictor may have left it held for the moment that it was leased.
  const std::vector<EntryId> parts = {Put("a"), kNoEntry};
  EXPECT_THAT(leases_.Grant(kTenant, parts, seconds(10), kLimit),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(leases_.EndExpired(100).unleased, ElementsAre(parts[0]));
}

TEST_F(LeaseTableTest, AnothersLeaseIsNotThere) {
  const EntryId part = Put("a");
  const LeaseId lease = *leases_.Grant(kTenant, {&part, 1}, seconds(10), kLimit);
  EXPECT_THAT(leases_.Renew(kTenant + 1, lease, seconds(10)),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(leases_.Release(kTenant + 1, lease), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(leases_.Grant(kTenant + 1, {&part, 1}, seconds(10), kLimit),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(leases_.Release(kTenant, lease));
}

TEST_F(LeaseTableTest, RefusesADurationOutsideItsRange) {
  const EntryId part = Put("a");
  for (const Nanos duration : {Nanos(0), Nanos(-1), Nanos(seconds(60)) + Nanos(milliseconds(1))}) {
    EXPECT_THAT(leases_.Grant(kTenant, {&part, 1}, duration, kLimit),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("60,000 ms")));
  }
  EXPECT_THAT(leases_.Grant(kTenant, {}, seconds(1), kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(LeaseTableTest, EndsTheEarliestFirstAndNoMoreThanAsked) {
  std::vector<EntryId> parts;
  for (int i = 0; i < 5; ++i) {
    parts.push_back(Put(fmt::format("k{}", i)));
    ASSERT_OK(leases_.Grant(kTenant, {&parts.back(), 1}, seconds(50 - i), kLimit));
  }
  clock_.Advance(seconds(50));
  EXPECT_THAT(leases_.EndExpired(2).unleased, ElementsAre(parts[4], parts[3]));
  EXPECT_EQ(leases_.leases(), 3u);
  EXPECT_EQ(leases_.EndExpired(100).count, 3u);
  EXPECT_EQ(leases_.leases(), 0u);
}

TEST_F(LeaseTableTest, ALeaseOutlivesItsDeletedPart) {
  const EntryId part = Put("a");
  const LeaseId lease = *leases_.Grant(kTenant, {&part, 1}, seconds(10), kLimit);
  ASSERT_OK(directory_.Remove(directory_.Get(part)->ref, Directory::RemoveWhen::kAlways));
  std::vector<EntryId> leaves;
  directory_.Recycle(part, leaves);
  EXPECT_NE(Put("b"), part);
  EXPECT_OK(leases_.Release(kTenant, lease));
}

}  // namespace
}  // namespace mnemo

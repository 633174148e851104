#include "server/engine/reservations.h"

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using std::chrono::seconds;

class ReservationsTest : public testing::Test {
 protected:
  uint64_t Take(uint64_t tenant, const std::vector<std::string>& parts, Nanos duration) {
    const auto id = reservations_.Take(tenant, parts, duration, taken_);
    EXPECT_OK(id);
    return id.value_or(0);
  }

  FakeClock clock_;
  Reservations reservations_{clock_};
  std::vector<bool> taken_;
};

TEST_F(ReservationsTest, OthersSeeAReservedPartAsHeld) {
  const uint64_t id = Take(1, {"a"}, seconds(5));
  EXPECT_TRUE(reservations_.HeldByOther("a", 0));
  EXPECT_FALSE(reservations_.HeldByOther("a", id));
  EXPECT_FALSE(reservations_.HeldByOther("b", 0));
}

TEST_F(ReservationsTest, TakesOnlyWhatNobodyHolds) {
  Take(1, {"a"}, seconds(5));
  EXPECT_NE(Take(1, {"a", "b"}, seconds(5)), 0u);
  EXPECT_EQ(taken_, (std::vector<bool>{false, true}));
  EXPECT_EQ(Take(1, {"a", "b"}, seconds(5)), 0u);
}

TEST_F(ReservationsTest, EndsWithItsTime) {
  const uint64_t id = Take(1, {"a"}, seconds(5));
  clock_.Advance(seconds(5));
  EXPECT_FALSE(reservations_.HeldByOther("a", 0));
  EXPECT_FALSE(reservations_.Owns(id, 1));
  EXPECT_NE(Take(2, {"a"}, seconds(5)), 0u);
  EXPECT_EQ(taken_, std::vector<bool>{true});
}

TEST_F(ReservationsTest, ExpiryOfALostReservationLeavesTheNewHolderAlone) {
  Take(1, {"a"}, seconds(5));
  clock_.Advance(seconds(5));
  Take(2, {"a"}, seconds(60));
  reservations_.Expire();
  EXPECT_TRUE(reservations_.HeldByOther("a", 0));
}

TEST_F(ReservationsTest, AnotherTenantDoesNotOwnIt) {
  const uint64_t id = Take(1, {"a"}, seconds(5));
  EXPECT_TRUE(reservations_.Owns(id, 1));
  EXPECT_FALSE(reservations_.Owns(id, 2));
}

TEST_F(ReservationsTest, ReleaseFreesEveryPart) {
  const uint64_t id = Take(1, {"a", "b"}, seconds(5));
  for (const char* part : {"a", "b"}) reservations_.Release(id, part);
  EXPECT_TRUE(reservations_.empty());
}

TEST_F(ReservationsTest, RefusesMoreThanItsBound) {
  std::vector<std::string> parts(Reservations::kMaxParts + 1);
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = std::to_string(i);
  EXPECT_THAT(reservations_.Take(1, parts, seconds(1), taken_),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(reservations_.empty());
}

}  // namespace
}  // namespace mnemo

#include "storage/policy/placement.h"

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::HasSubstr;

TEST(PlacementTest, TheStrongestReasonDecides) {
  const PlacementRules rules;
  PlacementSignals signals{
      .pinned = true, .leased = true, .left_window = true, .idle = hours(100), .on_disk = true};
  EXPECT_EQ(Place(signals, rules).rule, "pinned");
  EXPECT_EQ(Place(signals, rules).level, Level::kL1);
  signals.pinned = false;
  EXPECT_EQ(Place(signals, rules).rule, "leased");
  signals.leased = false;
  EXPECT_EQ(Place(signals, rules).rule, "left-its-window");
  EXPECT_EQ(Place(signals, rules).level, Level::kL3);
  signals.left_window = false;
  EXPECT_EQ(Place(signals, rules).rule, "idle-for-long");
  EXPECT_EQ(Place(signals, rules).level, Level::kDisk);
  EXPECT_EQ(Place(signals, rules).tier, "ARCHIVAL");
}

TEST(PlacementTest, APartOnDiskComesNearerByUsesNotByOneLook) {
  const PlacementRules rules{.promote_hits = 2};
  PlacementSignals signals{.hits = 1, .idle = seconds(1), .nearest = Level::kL3, .on_disk = true};
  EXPECT_EQ(Place(signals, rules).level, Level::kL3);
  EXPECT_FALSE(Promote(Level::kL3, 1, rules));
  signals.hits = 2;
  EXPECT_EQ(Place(signals, rules).level, Level::kL1);
  EXPECT_TRUE(Promote(Level::kL3, 2, rules));
  EXPECT_FALSE(Promote(Level::kL1, 100, rules));
}

TEST(PlacementTest, AnIdlePartIsBackground) {
  PlacementRules rules;
  const PlacementSignals signals{.idle = seconds(61)};
  EXPECT_EQ(Place(signals, rules).level, Level::kL2);
  rules.has_l2 = false;
  EXPECT_EQ(Place(signals, rules).level, Level::kL1);
}

TEST(PlacementTest, AColdCachePartThatIsNotAdmittedNeverCountsAsArchival) {
  const PlacementSignals signals{.idle = hours(48)};
  EXPECT_EQ(Place(signals, {}).rule, "idle");
}

TEST(AdmissionTest, SaysWhyAPartGoesToDisk) {
  const PlacementRules rules;
  EXPECT_EQ(AdmitToDisk({}, rules).rule, "not-used-again-yet");
  EXPECT_FALSE(AdmitToDisk({}, rules).admit);
  EXPECT_EQ(AdmitToDisk({.hits = 1}, rules).rule, "second-touch");
  EXPECT_TRUE(AdmitToDisk({.hits = 1}, rules).admit);
  EXPECT_EQ(AdmitToDisk({.prefix_of_pinned = true}, rules).rule, "prefix-of-pinned");
  EXPECT_EQ(AdmitToDisk({.durability = Durability::kSync}, rules).rule, "durable-class");
  EXPECT_FALSE(AdmitToDisk({.hits = 9, .on_disk = true}, rules).admit);
  EXPECT_FALSE(AdmitToDisk({.left_window = true, .hits = 9}, rules).admit);
}

TEST(PlacementRulesTest, NamesTheFieldAndItsRange) {
  EXPECT_OK(PlacementRules{}.Validate());
  EXPECT_THAT(PlacementRules{.promote_hits = 11}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("promote_hits is 11")));
  EXPECT_THAT(PlacementRules{.demote_after = seconds(5)}.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("10 to 600")));
}

TEST(WatermarkTest, FreesFromTheHighMarkDownToTheLowOne) {
  ASSERT_OK_AND_ASSIGN(Watermark mark, Watermark::Create(0.8, 0.9));
  EXPECT_EQ(mark.BytesToFree(85, 100), 0u);
  EXPECT_EQ(mark.BytesToFree(91, 100), 11u);
  EXPECT_EQ(mark.BytesToFree(85, 100), 5u);  // on until the low mark
  EXPECT_TRUE(mark.moving());
  EXPECT_EQ(mark.BytesToFree(80, 100), 0u);
  EXPECT_EQ(mark.BytesToFree(85, 100), 0u);  // and quiet until the high one
  EXPECT_EQ(mark.BytesToFree(70, 100, 25), 15u);
  EXPECT_EQ(mark.BytesToFree(1000, 0), 0u);
}

TEST(WatermarkTest, RefusesMarksOutOfOrder) {
  EXPECT_THAT(Watermark::Create(0.9, 0.8),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("low_watermark is 0.9")));
  EXPECT_THAT(Watermark::Create(0, 0.8), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Watermark::Create(0.5, 1.1), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace mnemo

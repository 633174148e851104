#include "server/transfer/slice_list.h"

#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
using Runs = std::vector<std::pair<uint64_t, uint64_t>>;

constexpr uint64_t kRegion = 1000;

Runs Walk(const SliceList& list, uint64_t position, uint64_t most) {
  Runs runs;
  RunCursor cursor(list, position);
  for (SliceList::Run run = cursor.Next(most); run.length > 0; run = cursor.Next(most)) {
    runs.emplace_back(run.offset, run.length);
  }
  return runs;
}

absl::Status Refusal(const RegionSlice& slice) {
  return SliceList::Create({slice}, kRegion, "keys[3].slices").status();
}

TEST(SliceListTest, CountsItsBytesAndWhereItEnds) {
  ASSERT_OK_AND_ASSIGN(const SliceList list,
                       SliceList::Create({{.offset = 100, .length = 10, .stride = 50, .count = 4},
                                          {.offset = 0, .length = 7}},
                                         kRegion, "slices"));
  EXPECT_EQ(list.bytes(), 47u);
  EXPECT_EQ(list.end(), 260u);
}

TEST(SliceListTest, TakesASliceThatEndsWithTheRegistration) {
  EXPECT_OK(Refusal({.offset = 0, .length = kRegion}));
  EXPECT_OK(Refusal({.offset = 999, .length = 1}));
  EXPECT_OK(Refusal({.offset = 0, .length = 100, .stride = 100, .count = 10}));
  EXPECT_OK(Refusal({.offset = 0, .length = 1, .stride = 333, .count = 4}));
}

TEST(SliceListTest, NamesTheFieldThatIsOutside) {
  const struct {
    RegionSlice slice;
    const char* field;
  } cases[] = {
      {{.offset = 1001, .length = 1}, "keys[3].slices[0].offset: 1001"},
      {{.offset = UINT64_MAX, .length = 1}, "slices[0].offset"},
      {{.offset = 0, .length = 0}, "slices[0].length: 0"},
      {{.offset = 0, .length = 1001}, "slices[0].length: 1001"},
      {{.offset = 1000, .length = 1}, "slices[0].length: 1"},
      {{.offset = 1, .length = UINT64_MAX}, "slices[0].length"},
      {{.offset = 0, .length = 1, .stride = 1, .count = 0}, "slices[0].count: 0"},
      {{.offset = 0, .length = 1, .stride = 1, .count = 65537}, "slices[0].count: 65537"},
      {{.offset = 0, .length = 1, .stride = 1, .count = UINT64_MAX}, "slices[0].count"},
      // Runs that overlap, and runs that end behind the registration by one byte.
      {{.offset = 0, .length = 100, .stride = 99, .count = 2}, "slices[0].stride: 99"},
      {{.offset = 0, .length = 100, .stride = 101, .count = 10}, "slices[0].stride: 101"},
      // The product of stride and count is small again, modulo 2^64.
      {{.offset = 0, .length = 1, .stride = uint64_t{1} << 63, .count = 3}, "slices[0].stride"},
      {{.offset = 0, .length = 1, .stride = UINT64_MAX, .count = 2}, "slices[0].stride"},
  };
  for (const auto& each : cases) {
    EXPECT_THAT(Refusal(each.slice),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(each.field)));
  }
}

TEST(SliceListTest, BoundsHowManyThereAre) {
  EXPECT_THAT(SliceList::Create({}, kRegion, "s"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("s: 0 slices")));
  EXPECT_THAT(SliceList::Create(std::vector<RegionSlice>(1025, {.length = 1}), kRegion, "s"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("s: 1025 slices")));
  EXPECT_OK(SliceList::Create(std::vector<RegionSlice>(1024, {.length = 1}), kRegion, "s"));
  const RegionSlice many{.length = 1, .stride = 1, .count = 32769};
  EXPECT_THAT(SliceList::Create({many, many}, 1 << 20, "s"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("s: 65538 runs")));
}

TEST(SliceListTest, CountsTheLargestListWithoutOverflow) {
  const uint64_t largest = uint64_t{1} << 40;
  ASSERT_OK_AND_ASSIGN(
      const SliceList list,
      SliceList::Create(std::vector<RegionSlice>(1024, {.length = largest}), largest, "s"));
  EXPECT_EQ(list.bytes(), largest * 1024);
}

TEST(RunCursorTest, WalksRunsInTheOrderOfThePart) {
  ASSERT_OK_AND_ASSIGN(const SliceList list,
                       SliceList::Create({{.offset = 500, .length = 10, .stride = 20, .count = 3},
                                          {.offset = 5, .length = 4}},
                                         kRegion, "s"));
  EXPECT_EQ(Walk(list, 0, kRegion), (Runs{{500, 10}, {520, 10}, {540, 10}, {5, 4}}));
}

TEST(RunCursorTest, JoinsRunsThatTouch) {
  ASSERT_OK_AND_ASSIGN(const SliceList list,
                       SliceList::Create({{.offset = 100, .length = 10, .stride = 10, .count = 3},
                                          {.offset = 130, .length = 5},
                                          {.offset = 200, .length = 1}},
                                         kRegion, "s"));
  EXPECT_EQ(Walk(list, 0, kRegion), (Runs{{100, 35}, {200, 1}}));
}

TEST(RunCursorTest, BeginsAnywhereAndCutsRuns) {
  ASSERT_OK_AND_ASSIGN(const SliceList list,
                       SliceList::Create({{.offset = 0, .length = 10, .stride = 100, .count = 3},
                                          {.offset = 700, .length = 3}},
                                         kRegion, "s"));
  EXPECT_EQ(Walk(list, 13, 4), (Runs{{103, 4}, {107, 3}, {200, 4}, {204, 4}, {208, 2}, {700, 3}}));
  EXPECT_EQ(Walk(list, 30, 100), (Runs{{700, 3}}));
  EXPECT_EQ(Walk(list, 33, 100), Runs{});
}

}  // namespace
}  // namespace mnemo

#include "index/vector/row_map.h"

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(RowMapTest, StoresNothingWhereNodesAreRows) {
  const RowSet none(100);
  for (const RowMap& map : {RowMap(100, nullptr), RowMap(100, &none)}) {
    EXPECT_TRUE(map.is_identity());
    EXPECT_EQ(map.nodes(), 100U);
    EXPECT_EQ(map.RowOf(99), 99U);
  }
}

TEST(RowMapTest, LeavesDeletedRowsOut) {
  RowSet deleted(70);
  deleted.AddRange(0, 65);
  const RowMap map(70, &deleted);
  EXPECT_EQ(map.rows(), 70U);
  ASSERT_EQ(map.nodes(), 5U);
  EXPECT_EQ(map.RowOf(0), 65U);
  EXPECT_EQ(map.RowOf(4), 69U);
}

TEST(RowMapTest, CountsWhatAFilterKeeps) {
  RowSet filter(200);
  filter.AddRange(60, 130);
  EXPECT_EQ(RowMap(200, nullptr).CountIn(filter), 70U);
  // A filter that is longer, or shorter, than the segment.
  EXPECT_EQ(RowMap(100, nullptr).CountIn(filter), 40U);
  EXPECT_EQ(RowMap(300, nullptr).CountIn(filter), 70U);
  RowSet deleted(200);
  deleted.AddRange(0, 70);
  EXPECT_EQ(RowMap(200, &deleted).CountIn(filter), 60U);
}

}  // namespace
}  // namespace mnemo

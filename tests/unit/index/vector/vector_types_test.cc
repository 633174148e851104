#include "index/vector/vector_types.h"

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "index/vector/query.h"
#include "index/vector/top_k.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(VectorShapeTest, NamesTheFieldThatIsOutOfRange) {
  EXPECT_OK((VectorShape{.dimension = 4096}.Validate()));
  EXPECT_THAT((VectorShape{.dimension = 0}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("dimension")));
  EXPECT_THAT((VectorShape{.dimension = 4097}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT((VectorShape{.dimension = 8, .metric = static_cast<Metric>(3)}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("metric")));
  EXPECT_THAT((VectorShape{.dimension = 8, .type = static_cast<ElementType>(4)}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("type")));
}

TEST(RowSetTest, RangesMeetTheirEdges) {
  for (const uint32_t size : {1U, 63U, 64U, 65U, 200U}) {
    for (uint32_t first = 0; first <= size; first += 7) {
      for (uint32_t last = first; last <= size + 70; last += 9) {
        RowSet set(size);
        set.AddRange(first, last);
        uint32_t count = 0;
        for (uint32_t row = 0; row < size + 70; ++row) {
          const bool expected = row >= first && row < last && row < size;
          EXPECT_EQ(set.Contains(row), expected) << row << " of " << first << ".." << last;
          count += expected ? 1 : 0;
        }
        EXPECT_EQ(set.Count(), count);
      }
    }
  }
}

TEST(RowSetTest, AllMeansNoBitBeyondTheSize) {
  RowSet set(70, true);
  EXPECT_EQ(set.Count(), 70U);
  EXPECT_EQ(set.words()[1], 0x3fU);
  set.Remove(69);
  EXPECT_FALSE(set.Contains(69));
  set.Add(69);
  EXPECT_TRUE(set.Contains(69));
}

TEST(ReadScratchTest, ReusesItsMemoryAndLetsGoOfPins) {
  ReadScratch scratch;
  uint8_t* const first = scratch.Allocate(100);
  uint8_t* const second = scratch.Allocate(1 << 20);
  std::memset(first, 1, 100);
  std::memset(second, 2, 1 << 20);
  EXPECT_EQ(first[99], 1);
  auto pin = std::make_shared<int>(5);
  scratch.Hold(pin);
  EXPECT_EQ(pin.use_count(), 2);
  scratch.Release();
  EXPECT_EQ(pin.use_count(), 1);
  EXPECT_EQ(scratch.Allocate(100), first);
  EXPECT_EQ(scratch.Allocate(1 << 20), second);
}

TEST(ContiguousReaderTest, RefusesRowsBeyondTheEnd) {
  const std::vector<uint8_t> bytes(30);
  const ContiguousReader reader(bytes, 8);
  ReadScratch scratch;
  std::vector<const uint8_t*> out(2);
  const std::vector<RowId> good = {2, 0};
  ASSERT_OK(reader.Read(good, scratch, out));
  EXPECT_EQ(out[0], bytes.data() + 16);
  EXPECT_EQ(out[1], bytes.data());
  const std::vector<RowId> bad = {0, 3};
  EXPECT_THAT(reader.Read(bad, scratch, out), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(EncodeRowTest, EveryTypeGivesBackWhatItCanHold) {
  const std::vector<float> values = {1, -0.5F, 0, 0.25F, 127, -127, 64};
  for (const ElementType type :
       {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBfloat16, ElementType::kInt8}) {
    const VectorShape shape{.dimension = 7, .type = type};
    std::string row = "x";
    ASSERT_OK(EncodeRow(shape, values, row));
    ASSERT_EQ(row.size(), 1 + shape.row_bytes());
    std::vector<float> decoded(7);
    BestKernels().DecodeRow(type)(AsBytes(row).data() + 1, 7, decoded.data());
    for (size_t i = 0; i < 7; ++i) {
      EXPECT_NEAR(decoded[i], values[i], type == ElementType::kInt8 ? 0.5 : 0) << i;
    }
  }
}

TEST(EncodeRowTest, RefusesWhatItCannotHold) {
  std::string row;
  const VectorShape half{.dimension = 2, .type = ElementType::kFloat16};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(EncodeRow(half, std::vector<float>{1}, row),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(EncodeRow(half, std::vector<float>{1, nan}, row),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(EncodeRow(half, std::vector<float>{-infinity, 1}, row),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(EncodeRow(half, std::vector<float>{1, 70000}, row),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("fp16")));
  EXPECT_EQ(row, "");
}

TEST(QueryTest, RefusesWhatHasNoMeaning) {
  const VectorShape cosine{.dimension = 2, .metric = Metric::kCosine};
  const VectorShape l2{.dimension = 2, .metric = Metric::kL2};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> zeros = {0, 0};
  EXPECT_THAT(Query::Prepare(cosine, zeros), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(Query::Prepare(l2, zeros));
  EXPECT_THAT(Query::Prepare(l2, std::vector<float>{1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Query::Prepare(l2, std::vector<float>{1, nan}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(QueryTest, CosineQueriesHaveNormOneWhateverTheirSize) {
  const VectorShape cosine{.dimension = 2, .metric = Metric::kCosine};
  for (const float size : {1e-30F, 1.0F, 1e30F}) {
    const auto query = Query::Prepare(cosine, std::vector<float>{3 * size, -4 * size});
    ASSERT_OK(query);
    EXPECT_FLOAT_EQ(query->values()[0], 0.6F);
    EXPECT_FLOAT_EQ(query->values()[1], -0.8F);
  }
}

TEST(TopKTest, KeepsTheBestAndPrefersSmallIdsAmongEquals) {
  TopK best(3);
  EXPECT_EQ(best.bound(), -std::numeric_limits<float>::infinity());
  best.Push(9, 1);
  best.Push(4, 1);
  best.Push(7, 1);
  EXPECT_EQ(best.bound(), 1);
  best.Push(5, 1);
  best.Push(1, 2);
  best.Push(8, 0);
  EXPECT_EQ(best.Take(), (std::vector<Hit>{{1, 2}, {4, 1}, {5, 1}}));
  EXPECT_FALSE(best.full());
}

TEST(RowSetTest, SlicesAtAnyRow) {
  RowSet set(300);
  for (RowId row = 0; row < 300; row += 7) set.Add(row);
  for (const RowId first : {0U, 1U, 63U, 64U, 130U, 299U, 400U}) {
    for (const uint32_t count : {0U, 1U, 63U, 64U, 65U, 200U}) {
      const RowSet slice = set.Slice(first, count);
      EXPECT_EQ(slice.size(), count);
      uint32_t expected = 0;
      for (RowId row = 0; row < count; ++row) {
        EXPECT_EQ(slice.Contains(row), set.Contains(first + row)) << first << " " << row;
        expected += set.Contains(first + row) ? 1 : 0;
      }
      EXPECT_EQ(slice.Count(), expected);
    }
  }
}

TEST(RowSetTest, SubtractsSetsOfAnySize) {
  for (const uint32_t size : {10U, 100U, 300U}) {
    RowSet set(100, true);
    RowSet other(size);
    other.AddRange(5, 70);
    set.Subtract(other);
    for (RowId row = 0; row < 100; ++row) EXPECT_EQ(set.Contains(row), !other.Contains(row));
  }
}

}  // namespace
}  // namespace mnemo

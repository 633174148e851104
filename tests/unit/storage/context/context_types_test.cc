#include "storage/context/context_types.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/context_fixture.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ContextSpecTest, EachFieldIsHeldToItsRange) {
  EXPECT_OK(TestContext("c").Validate());
  const auto refuses = [](auto change, const std::string& what) {
    ContextSpec spec = TestContext("c");
    change(spec);
    EXPECT_THAT(spec.Validate(), StatusIs(kInvalid, HasSubstr(what)));
  };
  refuses([](ContextSpec& s) { s.name = ""; }, "name has 0 bytes (1 to 128)");
  refuses([](ContextSpec& s) { s.name.assign(129, 'x'); }, "name has 129 bytes");
  refuses([](ContextSpec& s) { s.name = "a\nb"; }, "control character");
  refuses([](ContextSpec& s) { s.dimension = 0; }, "dimension is 0 (1 to 4096)");
  refuses([](ContextSpec& s) { s.dimension = 4097; }, "dimension is 4097");
  refuses([](ContextSpec& s) { s.stored = ElementType::kFloat32; }, "stored");
  refuses([](ContextSpec& s) { s.metric = static_cast<Metric>(3); }, "metric");
  refuses([](ContextSpec& s) { s.kinds = 1 << 7; }, "kinds: bit 7 (0 to 6)");
  refuses([](ContextSpec& s) { s.durability = Durability::kCache; }, "durability");
  refuses([](ContextSpec& s) { s.labels.assign(17, {"k", "v"}); }, "labels: 17");
  refuses([](ContextSpec& s) { s.labels = {{"", "v"}}; }, "labels[0].key has 0 bytes");
  refuses([](ContextSpec& s) { s.labels = {{"b", ""}, {"a", ""}}; }, "labels[1].key");
  refuses([](ContextSpec& s) { s.labels = {{"a", std::string(257, 'x')}}; }, "labels[0].value");
}

TEST(ContextSpecTest, NamesTheFirstDifference) {
  ContextSpec other = TestContext("c");
  EXPECT_EQ(FirstDifference(TestContext("c"), other), "");
  other.metric = Metric::kL2;
  EXPECT_EQ(FirstDifference(TestContext("c"), other), "metric is cosine, asked for L2");
  other = TestContext("c");
  other.labels = {{"k", "v"}};
  EXPECT_EQ(FirstDifference(TestContext("c"), other), "labels[0] is none, asked for 'k=v'");
}

class ColumnsTest : public ::testing::Test {
 protected:
  void Refuses(const TokenColumns& columns, absl::StatusCode code, const std::string& what) {
    EXPECT_THAT(ValidateColumns(spec_, columns), StatusIs(code, HasSubstr(what)));
  }
  ContextSpec spec_ = TestContext("c", 4);
  TestTokens tokens_{10, 6, 4};
  TokenColumns columns_ = tokens_.columns();
};

TEST_F(ColumnsTest, AWholeBatchIsTaken) {
  EXPECT_OK(ValidateColumns(spec_, columns_));
  columns_.ids = columns_.kinds = columns_.importances = columns_.times_unix_us = {};
  EXPECT_OK(ValidateColumns(spec_, columns_));
}

TEST_F(ColumnsTest, SizesThatDoNotAgreeAreNamed) {
  TokenColumns changed = columns_;
  changed.count = 0;
  Refuses(changed, kInvalid, "count is 0 (1 to 8192)");
  changed.count = 8193;
  Refuses(changed, kInvalid, "count is 8193");
  changed = columns_;
  changed.embeddings = changed.embeddings.first(95);
  Refuses(changed, kInvalid, "embeddings has 95 bytes (96: 6 tokens of dimension 4)");
  changed = columns_;
  changed.ids = changed.ids.first(4);
  Refuses(changed, kInvalid, "ids has 4 bytes (0 or 24)");
  changed = columns_;
  changed.times_unix_us = changed.times_unix_us.first(1);
  Refuses(changed, kInvalid, "times_unix_us has 1 bytes");
}

TEST_F(ColumnsTest, EmbeddingsComeAsFloatsAlone) {
  for (int type = 0; type < 8; ++type) {
    TokenColumns changed = columns_;
    changed.embedding_type = static_cast<ElementType>(type);
    const std::string rows(changed.count * RowBytes(changed.embedding_type, spec_.dimension), 0);
    changed.embeddings = AsBytes(rows);
    if (type < 3) {
      EXPECT_OK(ValidateColumns(spec_, changed)) << type;
    } else {
      Refuses(changed, kInvalid, "embedding_type: not one to take");
    }
  }
}

TEST_F(ColumnsTest, ValuesThatCannotBeAreNamedByTheirIndex) {
  tokens_.values()[2 * 4 + 3] = std::numeric_limits<float>::quiet_NaN();
  Refuses(tokens_.columns(), kInvalid, "embeddings[2][3]");
  tokens_.values()[2 * 4 + 3] = 0;
  tokens_.importances()[1] = 1.5F;
  Refuses(tokens_.columns(), kInvalid, "importances[1] is 1.5 (0 to 1)");
  tokens_.importances()[1] = std::numeric_limits<float>::quiet_NaN();
  Refuses(tokens_.columns(), kInvalid, "importances[1]");
  tokens_.importances()[1] = 0;
  tokens_.kinds()[4] = 7;
  Refuses(tokens_.columns(), kInvalid, "kinds[4] is 7 (0 to 6)");
  spec_.kinds = 1 << 5;
  tokens_.kinds()[4] = 5;
  Refuses(tokens_.columns(), kInvalid, "kinds[0] is 0, which context 'c' does not take");
}

TEST_F(ColumnsTest, PositionsEndAt48Bits) {
  TestTokens last(kMaxPosition - 6, 6, 4);
  EXPECT_OK(ValidateColumns(spec_, last.columns()));
  TokenColumns beyond = columns_;
  beyond.first_position = kMaxPosition - 5;
  Refuses(beyond, absl::StatusCode::kOutOfRange, "first_position");
}

TEST_F(ColumnsTest, PayloadsLieWithinTheBatchAndApart) {
  const std::string large(kMaxPayloadBytes + 1, 'x');
  columns_.payloads = {{10, 2, "a"}, {12, 4, "b"}};
  EXPECT_OK(ValidateColumns(spec_, columns_));
  columns_.payloads = {{10, 2, "a"}, {11, 1, "b"}};
  Refuses(columns_, kInvalid, "payloads[1] covers 1 tokens from 11");
  columns_.payloads = {{15, 2, "a"}};
  Refuses(columns_, kInvalid, "payloads[0]");
  columns_.payloads = {{9, 2, "a"}};
  Refuses(columns_, kInvalid, "payloads[0]");
  columns_.payloads = {{10, 0, "a"}};
  Refuses(columns_, kInvalid, "payloads[0]");
  columns_.payloads = {{10, ~uint64_t{0}, "a"}};
  Refuses(columns_, kInvalid, "payloads[0]");
  columns_.payloads = {{10, 1, ""}};
  Refuses(columns_, kInvalid, "payloads[0].bytes has 0 bytes (1 to 65536)");
  columns_.payloads = {{10, 1, large}};
  Refuses(columns_, kInvalid, "payloads[0].bytes has 65537 bytes");
}

TEST(ContextTypesTest, AGroupOfRowsTakesAtMostEightKibibytes) {
  ContextSpec spec;
  const auto tokens = [&](ElementType stored, uint32_t dimension) {
    spec.stored = stored;
    spec.dimension = dimension;
    return spec.group_tokens();
  };
  EXPECT_EQ(tokens(ElementType::kFloat16, 1), 128U);
  EXPECT_EQ(tokens(ElementType::kFloat16, 32), 128U);
  EXPECT_EQ(tokens(ElementType::kFloat16, 33), 64U);
  EXPECT_EQ(tokens(ElementType::kFloat16, 256), 16U);
  EXPECT_EQ(tokens(ElementType::kFloat16, 640), 4U);
  EXPECT_EQ(tokens(ElementType::kInt8, 256), 16U);
  EXPECT_EQ(tokens(ElementType::kInt8, 252), 32U);
  EXPECT_EQ(tokens(ElementType::kFloat16, 4096), 1U);
}

}  // namespace
}  // namespace mnemo

#include "storage/context/chunk.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>

#include "storage/context/sealed_value.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 42;

ChunkColumns TestColumns() {
  return {.first_position = 130,
          .count = 2,
          .ids = {7, 0x01020304},
          .kinds = {2, 5 | kPayloadBit},
          .importances = {0.5F, 1},
          .times_unix_us = {1000, 1001}};
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return hex;
}

TEST(ChunkTest, ColumnsHaveTheBytesOfTheFormat) {
  EXPECT_EQ(Hex(EncodeColumns(TestColumns(), kSeed)),
            "01"                                // version
            "07"                                // ids, importances, times
            "0200"                              // count
            "8200000000000000"                  // first position
            "0700000004030201"                  // ids
            "0285"                              // kinds
            "0000003f0000803f"                  // importances
            "e803000000000000e903000000000000"  // times
            "a685a8cafae07295");
}

TEST(ChunkTest, WhatIsNotSaidTakesNoRoom) {
  ChunkColumns columns{.first_position = 0, .count = 128};
  columns.kinds.assign(128, 1);
  columns.times_unix_us.assign(128, 5);
  const std::string value = EncodeColumns(columns, kSeed);
  EXPECT_EQ(value.size(), 12 + 2 + 6 + 8 + kSealBytes);  // a run of kinds
  ASSERT_OK_AND_ASSIGN(const ChunkColumns decoded, DecodeColumns(AsBytes(value), kSeed));
  EXPECT_EQ(decoded, columns);
  EXPECT_EQ(decoded.id(3), 0U);
  EXPECT_EQ(decoded.importance(3), 0);
}

TEST(ChunkTest, ColumnsComeBack) {
  const std::string value = EncodeColumns(TestColumns(), kSeed);
  ASSERT_OK_AND_ASSIGN(const ChunkColumns decoded, DecodeColumns(AsBytes(value), kSeed));
  EXPECT_EQ(decoded, TestColumns());
  EXPECT_TRUE(decoded.has_payload(1));
  EXPECT_EQ(decoded.kind(1), TokenKind::kDocument);
}

// A chunk of prompt tokens as a model names them, a token every few milliseconds.
ChunkColumns ChunkOfTokens() {
  ChunkColumns columns{.first_position = 256, .count = 128};
  std::mt19937 random(1);
  for (uint32_t i = 0; i < 128; ++i) {
    columns.ids.push_back(random() % 151'936);
    columns.kinds.push_back(i < 40 ? 1 : 2 | kPayloadBit);
    columns.importances.push_back(i % 4 == 0 ? 0.5F : 0.25F);
    columns.times_unix_us.push_back(1'700'000'000'000'000 + i * 5000);
  }
  return columns;
}

TEST(ChunkTest, ColumnsArePackedWhereThatIsSmaller) {
  const ChunkColumns columns = ChunkOfTokens();
  const std::string value = EncodeColumns(columns, kSeed);
  EXPECT_EQ(value[0], 2);
  EXPECT_EQ(static_cast<uint8_t>(value[1]), 7 + 8 + 16 + 32 + 64);
  ASSERT_OK_AND_ASSIGN(const ChunkColumns decoded, DecodeColumns(AsBytes(value), kSeed));
  EXPECT_EQ(decoded, columns);
  // 18 bits an id, 8 a kind at most, 24 an importance, 14 a difference of times.
  EXPECT_LT(value.size(), 12 + 128 * (18 + 8 + 24 + 14) / 8 + 4 * 8 + 8 + kSealBytes);
  // As they are they take 17 bytes a token.
  EXPECT_LT(value.size(), 128 * 17 / 2);
}

TEST(ChunkTest, EachColumnIsPackedByItself) {
  std::mt19937_64 random(2);
  ChunkColumns columns = ChunkOfTokens();
  for (uint32_t& id : columns.ids) id = static_cast<uint32_t>(random());
  for (float& importance : columns.importances) {
    importance = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0xbf7fffff);
  }
  // Further apart than 32 bits.
  columns.times_unix_us.front() = std::numeric_limits<int64_t>::min();
  columns.times_unix_us.back() = std::numeric_limits<int64_t>::max();
  const std::string value = EncodeColumns(columns, kSeed);
  EXPECT_EQ(static_cast<uint8_t>(value[1]), 7 + 16);
  ASSERT_OK_AND_ASSIGN(const ChunkColumns decoded, DecodeColumns(AsBytes(value), kSeed));
  EXPECT_EQ(decoded, columns);
}

TEST(ChunkTest, DamagedPackedColumnsAreDamageEvenUnderARightChecksum) {
  const std::string good = EncodeColumns(ChunkOfTokens(), kSeed);
  const auto sealed = [&](std::string value) {
    SealValue(value, kSeed);
    return DecodeColumns(AsBytes(value), kSeed);
  };
  const std::string body = good.substr(0, good.size() - kSealBytes);
  ASSERT_OK(sealed(body));
  for (size_t size = 1; size < body.size(); ++size) {
    EXPECT_THAT(sealed(body.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  std::string flagged = body;
  flagged[1] = static_cast<char>(flagged[1] | 0x80);
  EXPECT_THAT(sealed(flagged), StatusIs(absl::StatusCode::kDataLoss));
  std::string longer = body;
  ++longer[12];  // what the ids take
  EXPECT_THAT(sealed(longer), StatusIs(absl::StatusCode::kDataLoss));
  // Version 1 knows no packed columns.
  std::string older = body;
  older[0] = 1;
  EXPECT_THAT(sealed(older), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(ChunkTest, AGainThatIsNoNumberIsDamageEvenUnderARightChecksum) {
  std::string rows(2 * RowBytes(ElementType::kRotated4, 8), '\0');
  const auto decode = [&] {
    return ChunkRows::Decode(EncodeChunkRows(0, 2, ElementType::kRotated4, 8, AsBytes(rows), kSeed),
                             kSeed);
  };
  ASSERT_OK(decode());
  StoreLittle<uint16_t>(rows.data() + RowBytes(ElementType::kRotated4, 8), 0xfc00);
  EXPECT_THAT(decode(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("gain")));
}

TEST(ChunkTest, AValueUnderAnotherKeyIsDamage) {
  const std::string value = EncodeColumns(TestColumns(), kSeed);
  EXPECT_THAT(DecodeColumns(AsBytes(value), kSeed + 1), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(ChunkTest, EveryFlippedBitIsDamage) {
  std::string value = EncodeColumns(TestColumns(), kSeed);
  std::string rows = EncodeChunkRows(130, 2, ElementType::kFloat16, 3,
                                     AsBytes(std::string_view("abcdefghijkl")), kSeed);
  for (size_t bit = 0; bit < 8 * value.size(); ++bit) {
    value[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_THAT(DecodeColumns(AsBytes(value), kSeed), StatusIs(absl::StatusCode::kDataLoss));
    value[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
  for (size_t bit = 0; bit < 8 * rows.size(); ++bit) {
    rows[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_THAT(ChunkRows::Decode(rows, kSeed), StatusIs(absl::StatusCode::kDataLoss));
    rows[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
}

TEST(ChunkTest, FieldsOutOfRangeAreDamageEvenUnderARightChecksum) {
  for (auto [at, byte] :
       std::vector<std::pair<size_t, char>>{{1, 8}, {2, 0}, {2, 127}, {3, 1}, {10, 1}, {20, 7}}) {
    std::string value = EncodeColumns(TestColumns(), kSeed);
    value.resize(value.size() - kSealBytes);
    value[at] = byte;
    SealValue(value, kSeed);
    EXPECT_THAT(DecodeColumns(AsBytes(value), kSeed), StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
}

TEST(ChunkTest, AnotherVersionIsNamed) {
  std::string value = EncodeColumns(TestColumns(), kSeed);
  value.resize(value.size() - kSealBytes);
  value[0] = 9;
  SealValue(value, kSeed);
  EXPECT_THAT(DecodeColumns(AsBytes(value), kSeed),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("version 9")));
}

TEST(ChunkTest, RowsAreReadByStride) {
  const std::string_view bytes = "abcdefghijkl";
  const std::string value =
      EncodeChunkRows(130, 2, ElementType::kFloat16, 3, AsBytes(bytes), kSeed);
  EXPECT_EQ(Hex(value),
            "0101"              // version, fp16
            "0300"              // dimension
            "02000000"          // count
            "8200000000000000"  // first position
            "6162636465666768696a6b6c"
            "84d3098edea034fd");
  ASSERT_OK_AND_ASSIGN(const ChunkRows rows, ChunkRows::Decode(value, kSeed));
  EXPECT_EQ(rows.end_position(), 132U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(rows.row(1)), 6), "ghijkl");
}

TEST(ChunkTest, RowsAreJoinedOnlyWithoutGaps) {
  const auto part = [](uint64_t first, std::string_view letters) {
    std::string rows;
    for (const char letter : letters) rows.append(6, letter);
    const auto count = static_cast<uint32_t>(letters.size());
    return std::make_shared<const ChunkRows>(*ChunkRows::Decode(
        EncodeChunkRows(first, count, ElementType::kFloat16, 3, AsBytes(rows), kSeed), kSeed));
  };
  const std::vector<ChunkRows::Ptr> parts = {part(128, "ab"), part(130, "cde"), part(133, "f"),
                                             part(140, "xy")};
  const auto joined = [&](uint64_t first, uint32_t count) {
    const ChunkRows::Ptr rows = ChunkRows::Join(parts, first, count);
    if (rows == nullptr) return std::string("none");
    EXPECT_EQ(rows->first_position(), first);
    EXPECT_EQ(rows->end_position(), first + count);
    std::string letters;
    for (uint32_t i = 0; i < count; ++i) {
      letters.push_back(static_cast<char>(*rows->row(i)));
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(rows->row(i)), 6),
                std::string(6, letters.back()));
    }
    return letters;
  };
  EXPECT_EQ(joined(128, 6), "abcdef");
  EXPECT_EQ(joined(129, 3), "bcd");
  EXPECT_EQ(joined(131, 1), "d");
  EXPECT_EQ(joined(133, 2), "none");
  EXPECT_EQ(joined(134, 1), "none");
  EXPECT_EQ(joined(127, 2), "none");
  EXPECT_EQ(joined(141, 1), "y");
  EXPECT_EQ(ChunkRows::Join(parts, 130, 3), parts[1]);
  EXPECT_EQ(ChunkRows::Join({}, 130, 3), nullptr);
}

TEST(ChunkTest, PiecesMakeTheWhole) {
  const ChunkColumns whole = TestColumns();
  ChunkColumns joined = Slice(whole, 0, 1);
  Extend(joined, Slice(whole, 1, 1));
  EXPECT_EQ(joined, whole);
  // A column that only one of them has is filled up.
  ChunkColumns first{.first_position = 0, .count = 1, .kinds = {1}, .times_unix_us = {3}};
  Extend(first, {.first_position = 1,
                 .count = 1,
                 .ids = {9},
                 .kinds = {1},
                 .importances = {1},
                 .times_unix_us = {4}});
  EXPECT_EQ(first.ids, (std::vector<uint32_t>{0, 9}));
  EXPECT_EQ(first.importances, (std::vector<float>{0, 1}));
}

}  // namespace
}  // namespace mnemo

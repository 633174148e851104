#include "storage/block/block_key.h"

#include <algorithm>
#include <array>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

BlockKey Key(std::string_view bytes) { return *BlockKey::From(bytes); }

PartKey SomePart() {
  PartKey part{.scope = {7, 9}, .key = Key("a key"), .part = {3, 0x0102, 0x0304}};
  part.salt = *DigestOfSalt("salt");
  part.shard = ShardOf(part.scope, part.salt, part.key.view());
  return part;
}

TEST(BlockKeyTest, HoldsOneTo64BytesOfAnyKind) {
  EXPECT_EQ(Key(std::string(64, 'x')).size(), 64u);
  EXPECT_EQ(Key(std::string_view("\0\xff", 2)).view(), std::string_view("\0\xff", 2));
  EXPECT_THAT(BlockKey::From(""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 bytes, not 1 to 64")));
  EXPECT_THAT(BlockKey::From(std::string(65, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65 bytes, not 1 to 64")));
}

TEST(BlockKeyTest, ComparesByItsBytesAlone) {
  BlockKey reused = Key("a longer key");
  reused = Key("a");
  EXPECT_EQ(reused, Key("a"));
  EXPECT_EQ(reused.Hash(), Key("a").Hash());
  EXPECT_NE(Key("a"), Key(std::string_view("a\0", 2)));
  EXPECT_LT(Key("a"), Key("b"));
  EXPECT_TRUE(BlockKey().empty());
}

TEST(SaltTest, NoSaltIsZerosAndALongOneIsRefused) {
  EXPECT_EQ(*DigestOfSalt(""), SaltDigest{});
  EXPECT_NE(*DigestOfSalt("a"), *DigestOfSalt("b"));
  EXPECT_OK(DigestOfSalt(std::string(128, 's')));
  EXPECT_THAT(DigestOfSalt(std::string(129, 's')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("129 bytes, not 0 to 128")));
}

TEST(ShardOfTest, DependsOnTenantSpaceSaltAndKey) {
  const SaltDigest salt = *DigestOfSalt("s");
  std::array<int, 4> same{};
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "key " + std::to_string(i);
    const uint16_t shard = ShardOf({1, 2}, salt, key);
    ASSERT_LT(shard, kShardCount);
    same[0] += shard == ShardOf({3, 2}, salt, key);
    same[1] += shard == ShardOf({1, 3}, salt, key);
    same[2] += shard == ShardOf({1, 2}, SaltDigest{}, key);
    same[3] += shard == ShardOf({1, 2}, salt, key + "x");
  }
  // One in 256 by chance.
  for (const int count : same) EXPECT_LT(count, 20);
}

TEST(ShardOfTest, SpreadsAChainEvenly) {
  std::array<int, kShardCount> blocks{};
  constexpr int kBlocks = 1 << 18;
  for (int i = 0; i < kBlocks; ++i) {
    std::string key(36, '\0');
    StoreLittle<int>(key.data(), i);
    ++blocks[ShardOf({1, 1}, SaltDigest{}, key)];
  }
  const double most = *std::max_element(blocks.begin(), blocks.end());
  EXPECT_LE(most * kShardCount / kBlocks, 1.3);
}

TEST(PartKeyTest, ComesBackFromItsStoredForm) {
  const PartKey part = SomePart();
  ASSERT_OK_AND_ASSIGN(const PartKey parsed, PartKey::FromStored(part.Stored()));
  EXPECT_EQ(parsed, part);
  EXPECT_TRUE(part.Stored().bytes().starts_with(BlockPrefix(part.shard, part.scope, part.salt)));
  EXPECT_TRUE(part.Stored().bytes().starts_with(BlockPrefix(part.shard, part.scope)));
}

TEST(PartKeyTest, HasTheBytesOfItsFormat) {
  PartKey part{.scope = {0x0102030405060708, 0x1112131415161718},
               .key = Key("KEY"),
               .part = {0xaa, 0xbbcc, 0xddee},
               .shard = 0x0042};
  part.salt.fill(0x55);
  const std::string expected = std::string("\x00\x42\x01", 3) + "\x01\x02\x03\x04\x05\x06\x07\x08" +
                               "\x11\x12\x13\x14\x15\x16\x17\x18" + std::string(16, '\x55') +
                               "\x03"
                               "KEY" +
                               "\xaa\xbb\xcc\xdd\xee";
  EXPECT_EQ(part.Stored().bytes(), expected);
}

TEST(PartKeyTest, RefusesWhatIsNoStoredKeyOfAPart) {
  const std::string good = SomePart().Stored().bytes();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(PartKey::FromStored(StoredKey::FromBytes(good.substr(0, size))),
                StatusIs(absl::StatusCode::kDataLoss))
        << size;
  }
  EXPECT_THAT(PartKey::FromStored(StoredKey::FromBytes(good + "x")),
              StatusIs(absl::StatusCode::kDataLoss));
  std::string other_kind = good;
  other_kind[2] = static_cast<char>(KeyKind::kSpace);
  EXPECT_THAT(PartKey::FromStored(StoredKey::FromBytes(other_kind)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another kind")));
  for (const int length : {0, 65, 255}) {
    std::string bad_length = good;
    bad_length[StoredKey::kPrefixSize + 16] = static_cast<char>(length);
    EXPECT_THAT(PartKey::FromStored(StoredKey::FromBytes(bad_length)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  std::string bad_shard = good;
  bad_shard[0] = 1;
  EXPECT_THAT(PartKey::FromStored(StoredKey::FromBytes(bad_shard)),
              StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo

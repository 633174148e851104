#include <string>

#include "storage/tier/block_level.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

BlockMetadata Full() {
  return {.digest = {.low = 1, .high = 2},
          .payload_bytes = 3,
          .stored_bytes = 4,
          .depth = 5,
          .tokens = 6,
          .codec = 7,
          .durability = Durability::kSync,
          .pinned = true,
          .created = {.nanos = -8},
          .expires = {.nanos = 9},
          .parent = "the block before"};
}

TEST(BlockMetadataTest, ComesBackAsItWent) {
  ASSERT_OK_AND_ASSIGN(const BlockMetadata back, DecodeMetadata(AsBytes(EncodeMetadata(Full()))));
  EXPECT_EQ(back.digest, Full().digest);
  EXPECT_EQ(back.payload_bytes, 3u);
  EXPECT_EQ(back.stored_bytes, 4u);
  EXPECT_EQ(back.depth, 5u);
  EXPECT_EQ(back.tokens, 6u);
  EXPECT_EQ(back.codec, 7u);
  EXPECT_EQ(back.durability, Durability::kSync);
  EXPECT_TRUE(back.pinned);
  EXPECT_EQ(back.created.nanos, -8);
  EXPECT_EQ(back.expires.nanos, 9);
  EXPECT_EQ(back.parent, "the block before");
}

TEST(BlockMetadataTest, TakesSixtyFourBytesAndTheParent) {
  BlockMetadata metadata = Full();
  EXPECT_EQ(EncodeMetadata(metadata).size(), 64 + metadata.parent.size());
  metadata.parent.clear();
  EXPECT_EQ(EncodeMetadata(metadata).size(), 64u);
}

// The bytes of docs/formats/block-metadata.md: whoever changes them must raise
// the version, as old data directories have them.
TEST(BlockMetadataTest, HasTheDocumentedBytes) {
  const std::string bytes = EncodeMetadata(Full());
  EXPECT_EQ(LoadLittle<uint8_t>(&bytes[0]), 1);   // version
  EXPECT_EQ(LoadLittle<uint8_t>(&bytes[1]), 1);   // flags: pinned
  EXPECT_EQ(LoadLittle<uint8_t>(&bytes[2]), 7);   // codec
  EXPECT_EQ(LoadLittle<uint8_t>(&bytes[3]), 3);   // durability
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[4]), 1u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[12]), 2u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[20]), 3u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[28]), 4u);
  EXPECT_EQ(LoadLittle<uint32_t>(&bytes[36]), 5u);
  EXPECT_EQ(LoadLittle<uint16_t>(&bytes[40]), 6u);
  EXPECT_EQ(LoadLittle<uint16_t>(&bytes[42]), 16u);
  EXPECT_EQ(LoadLittle<int64_t>(&bytes[44]), -8);
  EXPECT_EQ(LoadLittle<int64_t>(&bytes[52]), 9);
  EXPECT_EQ(bytes.substr(64), "the block before");
}

TEST(BlockMetadataTest, EveryFlippedBitIsDataLoss) {
  const std::string good = EncodeMetadata(Full());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THAT(DecodeMetadata(AsBytes(bad)), StatusIs(absl::StatusCode::kDataLoss)) << bit;
  }
}

TEST(BlockMetadataTest, EveryOtherLengthIsDataLoss) {
  const std::string good = EncodeMetadata(Full());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(DecodeMetadata(AsBytes(good).first(size)), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(DecodeMetadata(AsBytes(good + "x")), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo

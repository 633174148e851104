#include "storage/codec/packed_integers.h"

#include <random>
#include <string>
#include <vector>

#include "storage/codec/codec.h"
#include "tests/support/status_matchers.h"

namespace mnemo::codec {
namespace {

using Bytes = std::vector<uint8_t>;

template <typename T>
Bytes BytesOf(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  CopyInto({reinterpret_cast<const uint8_t*>(values.data()), bytes.size()}, bytes.data());
  return bytes;
}

// Packed, having come back as it was.
Bytes Packed(const Bytes& exact, uint32_t width) {
  Bytes packed(exact.size() * 3 + 64);
  packed.resize(PackIntegers(exact, width, packed));
  Bytes back(exact.size(), 0xee);
  EXPECT_OK(UnpackIntegers(packed, width, back));
  EXPECT_EQ(back, exact);
  return packed;
}

std::vector<uint32_t> Ids(size_t count) {
  std::vector<uint32_t> ids(count);
  std::mt19937 random(1);
  for (size_t i = 1; i < count; ++i) ids[i] = ids[i - 1] + 1 + random() % 4;
  return ids;
}

TEST(PackedIntegersTest, SortedIdsTakeTheBitsOfTheirDifferences) {
  // At most 8 when folded: 4 bits, and 6 bytes for each 128.
  EXPECT_LE(Packed(BytesOf(Ids(4096)), 4).size(), 4096 / 2 + 32 * 6);
}

TEST(PackedIntegersTest, ValuesOfASmallRangeTakeItsBitsWhereverItLies) {
  std::mt19937 random(2);
  std::vector<uint16_t> values(1024);
  for (uint16_t& each : values) each = static_cast<uint16_t>(60'000 + random() % 8);
  EXPECT_LE(Packed(BytesOf(values), 2).size(), 1024 * 3 / 8 + 8 * 4);
}

TEST(PackedIntegersTest, ARunTakesNineBytesHoweverLong) {
  EXPECT_EQ(Packed(BytesOf(std::vector<uint32_t>(1'000'000, 7)), 4).size(), 9u);
  // A causal mask's row.
  Bytes mask(5000, 1);
  mask.resize(9000, 0);
  EXPECT_EQ(Packed(mask, 1).size(), 12u);
}

TEST(PackedIntegersTest, EveryWidthSizeAndMixtureComesBack) {
  std::mt19937 random(3);
  for (int i = 0; i < 600; ++i) {
    Bytes exact(random() % 1500);
    const uint32_t spread = 1U << random() % 9;
    for (size_t at = 0; at < exact.size();) {
      const size_t run = random() % 8 == 0 ? random() % 300 : 1;
      const auto value = static_cast<uint8_t>(random() % spread);
      for (size_t k = 0; k < run && at < exact.size(); ++k) exact[at++] = value;
    }
    for (const uint32_t width : {1u, 2u, 4u}) Packed(exact, width);
  }
  for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    Packed(BytesOf(std::vector<uint32_t>{value, 0, value, 0xffffffff, 0, value}), 4);
  }
}

TEST(PackedIntegersTest, SaysSoWhereThereIsTooLittleRoom) {
  const Bytes exact = BytesOf(Ids(300));
  const size_t needed = Packed(exact, 4).size();
  Bytes into(needed);
  EXPECT_EQ(PackIntegers(exact, 4, into), needed);
  for (size_t room = 0; room < needed; ++room) {
    EXPECT_EQ(PackIntegers(exact, 4, MutableByteView(into).first(room)), 0u) << room;
  }
}

TEST(PackedIntegersTest, DamageIsSeenOrGivesSomeValues) {
  std::mt19937 random(4);
  for (const uint32_t width : {1u, 2u, 4u}) {
    Bytes exact = BytesOf(Ids(400));
    exact.resize(exact.size() + 500, 9);
    exact.push_back(1);
    const Bytes packed = Packed(exact, width);
    Bytes back(exact.size());
    for (size_t size = 0; size < packed.size(); ++size) {
      EXPECT_THAT(UnpackIntegers(ByteView(packed).first(size), width, back),
                  StatusIs(absl::StatusCode::kDataLoss));
    }
    for (int i = 0; i < 3000; ++i) {
      Bytes damaged = packed;
      damaged[random() % damaged.size()] ^= static_cast<uint8_t>(1 + random() % 255);
      const absl::Status status = UnpackIntegers(damaged, width, back);
      EXPECT_TRUE(status.ok() || absl::IsDataLoss(status));
    }
  }
}

TEST(PackedIntegersTest, HasTheBytesOfItsFormat) {
  EXPECT_EQ(Packed({5, 7, 6}, 1), (Bytes{0x02, 2, 5, 0b011000}));
  EXPECT_EQ(Packed({10, 12, 14, 16, 18, 20, 22, 24, 26, 28}, 1),
            (Bytes{0x43, 9, 10, 0x24, 0x49, 0x92, 0x04}));
  EXPECT_EQ(Packed(Bytes(64, 3), 1), (Bytes{0x80, 64, 0, 0, 0, 3}));
}

TEST(PackedIntegersTest, TheLosslessCodecPacksIdsAndLeavesTensorsInPlanes) {
  const CodecSet codecs;
  const auto encode = [&](const Bytes& exact, uint32_t width) {
    Bytes encoded(codecs.lossless().MaxEncodedSize(exact.size()));
    encoded.resize(codecs.lossless().Encode(exact, width, encoded).value());
    Bytes back(exact.size());
    EXPECT_OK(codecs.lossless().Decode(encoded, back));
    EXPECT_EQ(back, exact);
    return encoded;
  };
  const Bytes ids = BytesOf(Ids(4096));
  const Bytes packed = encode(ids, 4);
  EXPECT_EQ(packed[1], 2);
  EXPECT_LT(packed.size() * 7, ids.size());
  std::mt19937 random(5);
  std::vector<uint16_t> values(4096);
  for (uint16_t& each : values) each = static_cast<uint16_t>(0x3f00 | random() % 256);
  EXPECT_EQ(encode(BytesOf(values), 2)[1], 1);
  Bytes damaged = packed;
  damaged.pop_back();
  Bytes back(ids.size());
  EXPECT_THAT(codecs.lossless().Decode(damaged, back), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo::codec

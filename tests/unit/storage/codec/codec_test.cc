#include "storage/codec/codec.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <random>
#include <thread>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

using Bytes = std::vector<uint8_t>;

Bytes RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// Normally distributed values as bf16, as attention state has them.
Bytes Bf16(size_t values) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0, 1);
  Bytes bytes(values * 2);
  for (size_t i = 0; i < values; ++i) {
    const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(normal(random)) >> 16);
    StoreLittle(bytes.data() + 2 * i, bits);
  }
  return bytes;
}

Bytes Encode(const Codec& codec, const Bytes& exact, uint32_t element_bytes) {
  Bytes encoded(codec.MaxEncodedSize(exact.size()));
  const auto size = codec.Encode(exact, element_bytes, encoded);
  EXPECT_OK(size);
  EXPECT_LE(*size, encoded.size());
  encoded.resize(*size);
  return encoded;
}

class CodecTest : public ::testing::TestWithParam<CodecId> {
 protected:
  const Codec& codec() const { return **codecs_.Find(static_cast<uint8_t>(GetParam())); }
  CodecSet codecs_;
};

TEST_P(CodecTest, GivesBackEveryByte) {
  for (const size_t size : {0u, 1u, 2u, 3u, 5u, 100u, 4096u, 262'144u, 262'145u, 1'000'003u}) {
    for (const uint32_t element_bytes : {1u, 2u, 4u}) {
      for (const Bytes& exact : {RandomBytes(size, size), Bytes(size, 0x55)}) {
        const Bytes encoded = Encode(codec(), exact, element_bytes);
        EXPECT_LE(encoded.size(), exact.size() + 8);
        Bytes decoded(size, 0xee);
        ASSERT_OK(codec().Decode(encoded, decoded));
        EXPECT_EQ(decoded, exact) << size << " of " << element_bytes;
      }
    }
  }
}

TEST_P(CodecTest, RefusesTooLittleRoom) {
  Bytes room(codec().MaxEncodedSize(1000) - 1);
  EXPECT_THAT(codec().Encode(RandomBytes(1000, 1), 2, room),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("room of")));
}

TEST_P(CodecTest, AnotherSizeIsDamage) {
  const Bytes encoded = Encode(codec(), Bf16(5000), 2);
  for (const size_t size : {0u, 9'999u, 10'001u, 300'000u}) {
    Bytes decoded(size);
    EXPECT_THAT(codec().Decode(encoded, decoded), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
}

TEST_P(CodecTest, EveryCutIsDamage) {
  const Bytes encoded = Encode(codec(), Bf16(200), 2);
  Bytes decoded(400);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_THAT(codec().Decode(ByteView(encoded).first(size), decoded),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST_P(CodecTest, DamagedBytesNeverReachBeyondTheirMemory) {
  // What is decoded may be wrong, the checksum above tells; the sanitizers watch
  // the borders.
  const Bytes good = Encode(codec(), Bf16(2000), 2);
  std::mt19937_64 random(3);
  Bytes decoded(4000);
  for (int round = 0; round < 5000; ++round) {
    Bytes bad = good;
    for (int flips = 0; flips < 3; ++flips) {
      bad[random() % bad.size()] = static_cast<uint8_t>(random());
    }
    const absl::Status status = codec().Decode(bad, decoded);
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  }
}

TEST_P(CodecTest, ServesManyThreads) {
  const Bytes exact = Bf16(100'000);
  const Bytes expected = Encode(codec(), exact, 2);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(Encode(codec(), exact, 2), expected);
        Bytes decoded(exact.size());
        EXPECT_OK(codec().Decode(expected, decoded));
        EXPECT_EQ(decoded, exact);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(Codecs, CodecTest, ::testing::Values(CodecId::kRaw, CodecId::kLossless),
                         [](const auto& info) {
                           return info.param == CodecId::kRaw ? "raw" : "lossless";
                         });

TEST(LosslessCodecTest, HalvesTheExponentsOfBf16) {
  const auto codec = MakeLosslessCodec();
  const Bytes exact = Bf16(1 << 20);
  const size_t split = Encode(*codec, exact, 2).size();
  EXPECT_GE(static_cast<double>(exact.size()) / static_cast<double>(split), 1.3);
  // The planes matter, not the entropy coder alone.
  EXPECT_LT(static_cast<double>(split),
            static_cast<double>(Encode(*codec, exact, 1).size()) * 0.98);
}

TEST(LosslessCodecTest, NoiseCostsEightBytesAtMost) {
  const auto codec = MakeLosslessCodec();
  const Bytes noise = RandomBytes(1'000'000, 9);
  EXPECT_EQ(Encode(*codec, noise, 2).size(), noise.size() + 8);
}

TEST(LosslessCodecTest, RefusesAnElementThatItCannotSplit) {
  const auto codec = MakeLosslessCodec();
  Bytes room(100);
  for (const uint32_t element_bytes : {0u, 3u, 8u}) {
    EXPECT_THAT(codec->Encode(Bytes(10), element_bytes, room),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not 1, 2 or 4")));
  }
}

TEST(LosslessCodecTest, AnotherVersionIsDamage) {
  const auto codec = MakeLosslessCodec();
  Bytes encoded = Encode(*codec, Bytes(100, 1), 1);
  Bytes decoded(100);
  encoded[0] = 2;
  EXPECT_THAT(codec->Decode(encoded, decoded),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("version 2")));
}

// The format itself: these bytes must decode for ever.
TEST(LosslessCodecTest, DecodesTheBytesOfItsFormat) {
  // Version 1, planes, two of them; both stored: "ace" and "bdf".
  const Bytes planes = {1,    1, 2, 0, 0,    0,   0,   0,   3,   0,   0,
                        0x80, 3, 0, 0, 0x80, 'a', 'c', 'e', 'b', 'd', 'f'};
  Bytes decoded(6);
  ASSERT_OK(MakeLosslessCodec()->Decode(planes, decoded));
  EXPECT_EQ(AsText(decoded), "abcdef");
  const Bytes stored = {1, 0, 2, 0, 0, 0, 0, 0, 'x', 'y', 'z'};
  Bytes three(3);
  ASSERT_OK(MakeLosslessCodec()->Decode(stored, three));
  EXPECT_EQ(AsText(three), "xyz");
}

}  // namespace
}  // namespace mnemo

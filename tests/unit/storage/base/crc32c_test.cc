#include "storage/base/crc32c.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace mnemo {
namespace {

// RFC 3720, appendix B.4.
TEST(Crc32cTest, GivesTheValuesOfItsDefinition) {
  std::vector<uint8_t> rising(32);
  std::iota(rising.begin(), rising.end(), uint8_t{0});
  const std::vector<uint8_t> falling(rising.rbegin(), rising.rend());
  for (const auto extend : {ExtendCrc32c, ExtendCrc32cByTables}) {
    EXPECT_EQ(extend(0, {}), 0u);
    EXPECT_EQ(extend(0, std::vector<uint8_t>(32, 0)), 0x8a9136aau);
    EXPECT_EQ(extend(0, std::vector<uint8_t>(32, 0xff)), 0x62a8ab43u);
    EXPECT_EQ(extend(0, rising), 0x46dd794eu);
    EXPECT_EQ(extend(0, falling), 0x113fdb5cu);
  }
}

TEST(Crc32cTest, IsTheSameByInstructionAndByTables) {
  std::mt19937_64 random(7);
  std::vector<uint8_t> bytes(20'000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const ByteView all(bytes);
  for (int i = 0; i < 2000; ++i) {
    const size_t begin = random() % 64;
    // Around the runs of 3 KiB that are taken at once, and anywhere.
    const size_t size =
        i % 2 == 0 ? 3072 * (1 + random() % 5) - 9 + random() % 18 : random() % 16'000;
    const ByteView part = all.subspan(begin, size);
    const auto crc = static_cast<uint32_t>(random());
    ASSERT_EQ(ExtendCrc32c(crc, part), ExtendCrc32cByTables(crc, part)) << begin << " " << size;
  }
}

TEST(Crc32cTest, OfPiecesIsThatOfTheWhole) {
  std::vector<uint8_t> bytes(100'000, 0x5a);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  const ByteView all(bytes);
  const uint32_t whole = ExtendCrc32c(0, all);
  for (const size_t at : {size_t{1}, size_t{3072}, size_t{50'001}, size_t{99'999}}) {
    EXPECT_EQ(ExtendCrc32c(ExtendCrc32c(0, all.first(at)), all.subspan(at)), whole);
  }
}

}  // namespace
}  // namespace mnemo

#include "storage/base/checksum.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

// Stored bytes carry these: whatever the processor and the library, they stay.
// From XXH3_64bits_withSeed of xxHash 0.8.1, built for SSE2.
TEST(Checksum64Test, IsXxh3) {
  std::string bytes(5000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  const std::pair<size_t, uint64_t> known[] = {{0, 0xb029411ff43d84d2},
                                               {5, 0x8adfcb34645740f6},
                                               {200, 0x3a89540324083d55},
                                               {1000, 0xcc0ba398fd7a4ba4},
                                               {5000, 0x1efbe6fa52356c24}};
  for (const auto& [size, checksum] : known) {
    EXPECT_EQ(Checksum64(AsBytes(bytes).first(size), 42), checksum) << size;
    StreamingChecksum64 streaming(42);
    streaming.Update(AsBytes(bytes).first(size));
    EXPECT_EQ(streaming.Digest(), checksum) << size;
  }
}

TEST(StreamingChecksum64Test, EqualsTheChecksumOfAllBytesAtOnce) {
  std::string bytes(5000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{0x9e3779b97f4a7c15}}) {
    StreamingChecksum64 checksum(seed);
    for (size_t at = 0; at < bytes.size(); at += 333) {
      checksum.Update(AsBytes(bytes).subspan(at, std::min<size_t>(333, bytes.size() - at)));
    }
    EXPECT_EQ(checksum.Digest(), Checksum64(AsBytes(bytes), seed));
  }
}

TEST(StreamingChecksum64Test, DoesNotDependOnWhatItsMemoryHeldBefore) {
  constexpr uint64_t kSeed = 0x0123456789abcdef;
  const std::string bytes(3000, 'x');
  const uint64_t expected = Checksum64(AsBytes(bytes), kSeed);
  // States of the same seed come and go between other users of their memory,
  // who overwrite a part of it.
  std::mt19937_64 random(1);
  std::vector<StreamingChecksum64> states;
  std::vector<std::string> others;
  for (int round = 0; round < 20'000; ++round) {
    if (random() % 2 == 0) {
      others.emplace_back(16 + random() % 1000, '\x7f');
    } else {
      states.emplace_back(kSeed);
      states.back().Update(AsBytes(bytes));
      ASSERT_EQ(states.back().Digest(), expected) << "round " << round;
    }
    if (states.size() > random() % 16) states.erase(states.begin());
    if (others.size() > random() % 16) others.erase(others.begin());
  }
}

// Stored bytes carry it: XXH3_128bits of xxHash 0.8.1, built for SSE2.
TEST(DigestTest, IsXxh3) {
  std::string bytes(5000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  const Digest128 known{.low = 0xe69c7c10fe601e8d, .high = 0xa831ba0ab04f5544};
  EXPECT_EQ(DigestOf(AsBytes(bytes)), known);
  StreamingDigest128 streaming;
  for (size_t at = 0, size = 1; at < bytes.size(); at += size, size = size * 3 + 1) {
    streaming.Update(AsBytes(bytes.substr(at, size)));
  }
  EXPECT_EQ(streaming.Digest(), known);
}

}  // namespace
}  // namespace mnemo

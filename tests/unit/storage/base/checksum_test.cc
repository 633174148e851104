#include "storage/base/checksum.h"

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

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
  for (const size_t size : {512u, 576u, 640u, 704u}) {
    // Leaves blocks of about the state's size behind, full of the seed.
    std::vector<void*> blocks;
    for (int i = 0; i < 64; ++i) {
      blocks.push_back(::operator new(size, std::align_val_t{64}));
      // Volatile, or the compiler drops what is freed unread.
      auto* const words = static_cast<volatile uint64_t*>(blocks.back());
      for (size_t word = 0; word < size / sizeof(uint64_t); ++word) words[word] = kSeed;
    }
    for (void* const block : blocks) ::operator delete(block, std::align_val_t{64});
    for (int i = 0; i < 16; ++i) {
      StreamingChecksum64 checksum(kSeed);
      checksum.Update(AsBytes(bytes));
      ASSERT_EQ(checksum.Digest(), expected);
    }
  }
}

}  // namespace
}  // namespace mnemo

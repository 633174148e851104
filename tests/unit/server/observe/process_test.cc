#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "server/observe/node_figures.h"
#include "storage/base/mutex.h"  // MNEMO_TSAN

namespace mnemo {
namespace {

constexpr size_t kBytes = 256 << 20;

TEST(ProcessFiguresTest, CountsItsOwnMemoryAndNotWhatItShares) {
#ifdef MNEMO_TSAN
  GTEST_SKIP() << "its shadow of what is shared is memory of our own";
#endif
  const uint64_t before = ReadProcess().resident_bytes;
  ASSERT_GT(before, 0u);
  const int file = ::memfd_create("client", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(file, kBytes), 0);
  void* shared = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(shared, MAP_FAILED);
  std::memset(shared, 1, kBytes);
  EXPECT_LT(ReadProcess().resident_bytes, before + kBytes / 2);
  void* own = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(own, MAP_FAILED);
  std::memset(own, 1, kBytes);
  EXPECT_GE(ReadProcess().resident_bytes, before + kBytes / 2);
  ::munmap(own, kBytes);
  ::munmap(shared, kBytes);
  ::close(file);
}

}  // namespace
}  // namespace mnemo

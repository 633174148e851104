#include "server/transfer/guarded_copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace mnemo {
namespace {

constexpr size_t kBytes = 1 << 20;

// A mapping whose second half has no pages: to touch it is SIGBUS.
class CutMapping {
 public:
  CutMapping() {
    file_ = ::memfd_create("cut", MFD_CLOEXEC);
    EXPECT_EQ(::ftruncate(file_, kBytes), 0);
    base_ =
        static_cast<char*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0));
    std::memset(base_, 'x', kBytes);
    EXPECT_EQ(::ftruncate(file_, kBytes / 2), 0);
  }
  ~CutMapping() {
    ::munmap(base_, kBytes);
    ::close(file_);
  }
  char* base() { return base_; }

 private:
  int file_ = -1;
  char* base_ = nullptr;
};

TEST(GuardedCopyTest, CopiesWhatIsThere) {
  CutMapping mapping;
  std::vector<char> bytes(kBytes / 2);
  ASSERT_TRUE(GuardedCopy(bytes.data(), mapping.base(), bytes.size()));
  EXPECT_EQ(bytes, std::vector<char>(kBytes / 2, 'x'));
  EXPECT_TRUE(GuardedCopy(nullptr, nullptr, 0));
}

TEST(GuardedCopyTest, SaysSoWhereAPageIsNotThere) {
  CutMapping mapping;
  std::vector<char> bytes(kBytes);
  EXPECT_FALSE(GuardedCopy(bytes.data(), mapping.base(), kBytes));
  EXPECT_FALSE(GuardedCopy(mapping.base(), bytes.data(), kBytes));
  // And goes on working.
  EXPECT_FALSE(GuardedCopy(bytes.data(), mapping.base(), kBytes));
  EXPECT_TRUE(GuardedCopy(bytes.data(), mapping.base(), kBytes / 2));
}

TEST(GuardedCopyTest, FailsOnlyTheThreadThatTouchedIt) {
  CutMapping mapping;
  std::vector<char> good(kBytes, 'g');
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, fails = i % 2 == 0] {
      std::vector<char> bytes(kBytes);
      for (int round = 0; round < 100; ++round) {
        const char* from = fails ? mapping.base() : good.data();
        if (GuardedCopy(bytes.data(), from, kBytes) == fails) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(GuardedCopyDeathTest, LeavesOtherFaultsToTheSystem) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        CutMapping mapping;
        std::vector<char> bytes(kBytes);
        if (GuardedCopy(bytes.data(), mapping.base(), kBytes)) _exit(0);
        *const_cast<volatile char*>(mapping.base() + kBytes - 1) = 1;
        _exit(0);
      },
      "");
}

}  // namespace
}  // namespace mnemo

// Commits, on request, one sin of each kind that the sanitizers are there to
// find, so that a build whose sanitizer sees nothing is noticed; and the same
// work done rightly, so that one that cries wolf is noticed too.
//
// Usage: planted race|guarded|use-after-free|leak|overflow
#include <climits>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <thread>

#include "storage/base/mutex.h"

namespace mnemo {
namespace {

constexpr int kRounds = 1000;

// A race as it would be written by mistake: a field that nothing guards.
int Race() {
  int64_t count = 0;
  const auto add = [&count] {
    for (int i = 0; i < kRounds; ++i) ++count;
  };
  std::thread first(add);
  std::thread second(add);
  first.join();
  second.join();
  std::printf("raced to %lld\n", static_cast<long long>(count));
  return 0;
}

class Counter {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++count_;
    changed_.SignalAll();
  }
  void AwaitAtLeast(int64_t target) {
    MutexLock lock(mutex_);
    while (count_ < target) changed_.Wait(mutex_);
  }
  int64_t count() {
    MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The same under the house's mutex and condition: must be silent.
int Guarded() {
  Counter counter;
  const auto add = [&counter] {
    for (int i = 0; i < kRounds; ++i) counter.Add();
  };
  std::thread first(add);
  std::thread second(add);
  counter.AwaitAtLeast(2 * kRounds);
  first.join();
  second.join();
  return counter.count() == 2 * kRounds ? 0 : 1;
}

int UseAfterFree() {
  auto owner = std::make_unique<volatile int>(7);
  // Itself volatile, so that the compiler does not see what is coming.
  volatile int* volatile stale = owner.get();
  owner.reset();
  return *stale;
}

int Leak() {
  volatile char* leaked = new char[64];
  leaked[0] = 1;
  leaked = nullptr;
  return 0;
}

int Overflow(int by) {
  volatile int value = INT_MAX;
  value = value + by;
  return value == 0 ? 1 : 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  const std::string_view sin = argc > 1 ? argv[1] : "";
  if (sin == "race") return mnemo::Race();
  if (sin == "guarded") return mnemo::Guarded();
  if (sin == "use-after-free") return mnemo::UseAfterFree();
  if (sin == "leak") return mnemo::Leak();
  if (sin == "overflow") return mnemo::Overflow(argc);
  std::fprintf(stderr, "usage: planted race|guarded|use-after-free|leak|overflow\n");
  return 2;
}

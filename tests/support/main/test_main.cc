// main() of every GoogleTest program: a case that hangs says so, with the stacks of
// all threads, before CTest's limit takes the whole program without a word.
//
// MNEMO_TEST_CASE_SECONDS: how long one case may take; without it, as long as it likes.
#include <absl/debugging/symbolize.h>
#include <dirent.h>
#include <execinfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace mnemo {
namespace {

sem_t printed;

void PrintStack(int) {
  void* frames[40];
  const int depth = backtrace(frames, 40);
  char line[400];
  dprintf(STDERR_FILENO, "--- thread %ld\n", syscall(SYS_gettid));
  for (int i = 0; i < depth; ++i) {
    const bool named = absl::Symbolize(frames[i], line, sizeof(line));
    dprintf(STDERR_FILENO, "    %p %s\n", frames[i], named ? line : "?");
  }
  sem_post(&printed);
}

// One thread after the other, so that lines do not mix; one that does not answer
// within a second is left out.
void PrintStacks() {
  sem_init(&printed, 0, 0);
  signal(SIGUSR2, PrintStack);
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return;
  while (const dirent* task = readdir(tasks)) {
    const long thread = strtol(task->d_name, nullptr, 10);
    if (thread == 0) continue;
    syscall(SYS_tgkill, getpid(), thread, SIGUSR2);
    timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    ++end.tv_sec;
    sem_timedwait(&printed, &end);
  }
}

// Not safe in a signal handler by the letter; the process ends here anyway.
void GiveUp(int) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  dprintf(STDERR_FILENO, "%s.%s still runs: it hangs\n",
          test == nullptr ? "?" : test->test_suite_name(), test == nullptr ? "?" : test->name());
  PrintStacks();
  signal(SIGABRT, SIG_DFL);
  abort();
}

class CaseLimit : public ::testing::EmptyTestEventListener {
 public:
  explicit CaseLimit(unsigned seconds) : seconds_(seconds) {}
  void OnTestStart(const ::testing::TestInfo&) override { alarm(seconds_); }
  void OnTestEnd(const ::testing::TestInfo&) override { alarm(0); }

 private:
  const unsigned seconds_;
};

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  absl::InitializeSymbolizer(argv[0]);
  ::testing::InitGoogleMock(&argc, argv);
  if (const char* seconds = getenv("MNEMO_TEST_CASE_SECONDS")) {
    signal(SIGALRM, mnemo::GiveUp);
    ::testing::UnitTest::GetInstance()->listeners().Append(
        new mnemo::CaseLimit(strtoul(seconds, nullptr, 10)));
  }
  return RUN_ALL_TESTS();
}

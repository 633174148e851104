// Kills a process that works on a block store, and looks at what is left: with
// kill -9, then with the loss of everything that was not synced.
//
//   crash_store [--cycles N] [--power-cycles N] [--seed S] [--keep]
//
// Prints the seed, which replays the workload (not the scheduling), and ends
// with 1 if something was there that must not be, or was not that must.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/stress/crash_child.h"
#include "tests/stress/crash_oracle.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

// Beyond the interval itself: a busy machine's scheduling, and a slow sync.
constexpr int64_t kWindowSlackMs = 1500;

struct Cycle {
  bool power_loss = false;
  int64_t after_ms = 0;
  uint64_t seed = 0;
  bool check_only = false;
};

class CrashTest {
 public:
  CrashTest(std::string program, std::string directory)
      : program_(std::move(program)),
        directory_(std::move(directory)),
        oracle_(std::chrono::milliseconds(kCrashWalIntervalMs + kWindowSlackMs)) {}

  // False if the child did not come up or ended wrongly.
  bool Run(const Cycle& cycle) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      ExecChild(cycle, ends[1]);
    }
    close(ends[1]);
    if (child < 0) return false;
    const bool ready = Listen(ends[0], child, cycle);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (!ready) std::fprintf(stderr, "the child did not come up: status %d\n", status);
    const bool ended_well = cycle.power_loss || cycle.check_only
                                ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                                : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!ended_well) std::fprintf(stderr, "the child ended with status %d\n", status);
    return ready && ended_well;
  }

  const CrashOracle& oracle() const { return oracle_; }

 private:
  [[noreturn]] void ExecChild(const Cycle& cycle, int pipe) {
    const std::string seed = std::to_string(cycle.seed);
    const std::string after = std::to_string(cycle.power_loss ? cycle.after_ms : 0);
    const std::string fd = std::to_string(pipe);
    execl(program_.c_str(), program_.c_str(), "--child", directory_.c_str(), seed.c_str(),
          fd.c_str(), after.c_str(), cycle.check_only ? "1" : "0", nullptr);
    _exit(127);
  }

  // Takes what the child says until the pipe ends. Kills it, if this is such a
  // cycle, `after_ms` after it was ready.
  bool Listen(int pipe, pid_t child, const Cycle& cycle) {
    bool ready = false;
    bool killed = false;
    int64_t kill_at = 0;
    std::vector<char> buffer;
    while (true) {
      pollfd watched{pipe, POLLIN, 0};
      int timeout = -1;
      if (kill_at != 0 && !killed) {
        timeout = static_cast<int>(std::max<int64_t>(0, (kill_at - MachineNanos()) / 1'000'000));
      }
      poll(&watched, 1, timeout);
      if (kill_at != 0 && !killed && MachineNanos() >= kill_at) {
        kill(child, SIGKILL);
        oracle_.Crashed(MachineNanos());
        killed = true;
      }
      if ((watched.revents & (POLLIN | POLLHUP)) == 0) continue;
      char chunk[1 << 16];
      const ssize_t got = read(pipe, chunk, sizeof(chunk));
      if (got <= 0) break;
      buffer.insert(buffer.end(), chunk, chunk + got);
      size_t taken = 0;
      for (; buffer.size() - taken >= sizeof(CrashRecord); taken += sizeof(CrashRecord)) {
        CrashRecord record;
        std::memcpy(&record, buffer.data() + taken, sizeof(record));
        oracle_.Take(record);
        if (record.kind != CrashRecord::Kind::kReady) continue;
        ready = true;
        if (!cycle.power_loss && !cycle.check_only) {
          kill_at = MachineNanos() + cycle.after_ms * 1'000'000;
        }
      }
      buffer.erase(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(taken));
    }
    if (!killed) oracle_.Crashed(MachineNanos());
    return ready;
  }

  const std::string program_;
  const std::string directory_;
  CrashOracle oracle_;
};

int RunCycles(const std::string& program, int kills, int power_losses, uint64_t seed, bool keep) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  std::mt19937_64 random(seed);
  int failures = 0;
  for (const bool power : {false, true}) {
    const int cycles = power ? power_losses : kills;
    if (cycles == 0) continue;
    std::string directory;
    {
      TempDir dir;
      directory = dir / "data";
      CrashTest test(program, directory);
      bool ran = true;
      for (int i = 0; i < cycles && ran && test.oracle().violations().empty(); ++i) {
        ran = test.Run({power, static_cast<int64_t>(30 + random() % 500), random(), false});
        if (isatty(STDOUT_FILENO) != 0) std::printf("\r%d of %d", i + 1, cycles);
      }
      if (ran) ran = test.Run({false, 0, 0, true});
      for (const std::string& line : test.oracle().violations()) {
        std::printf("%s\n", line.c_str());
      }
      const CrashOracle& oracle = test.oracle();
      const bool passed = ran && oracle.violations().empty() && oracle.acknowledged() > 0;
      std::printf("%s: %d cycles, %llu operations acknowledged, lost: sync %llu, interval %llu, "
                  "cache %llu: %s\n",
                  power ? "power loss" : "kill -9", cycles,
                  static_cast<unsigned long long>(oracle.acknowledged()),
                  static_cast<unsigned long long>(oracle.lost(Durability::kSync)),
                  static_cast<unsigned long long>(oracle.lost(Durability::kInterval)),
                  static_cast<unsigned long long>(oracle.lost(Durability::kCache)),
                  passed ? "passed" : "FAILED");
      std::fflush(stdout);
      if (!passed) ++failures;
      if (!passed && keep) {
        std::printf("kept: %s\n", directory.c_str());
        std::fflush(stdout);
        _exit(1);
      }
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 6 && arguments[0] == "--child") {
    mnemo::CrashChildOptions child;
    child.directory = arguments[1];
    child.seed = std::strtoull(arguments[2].c_str(), nullptr, 10);
    child.pipe = std::atoi(arguments[3].c_str());
    child.power_loss_after_ms = std::atoll(arguments[4].c_str());
    child.check_only = arguments[5] == "1";
    return mnemo::RunCrashChild(child);
  }
  int kills = 20;
  int power_losses = 20;
  uint64_t seed = std::random_device{}();
  bool keep = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const bool has_value = i + 1 < arguments.size();
    if (arguments[i] == "--keep") {
      keep = true;
    } else if (arguments[i] == "--cycles" && has_value) {
      kills = std::atoi(arguments[++i].c_str());
    } else if (arguments[i] == "--power-cycles" && has_value) {
      power_losses = std::atoi(arguments[++i].c_str());
    } else if (arguments[i] == "--seed" && has_value) {
      seed = std::strtoull(arguments[++i].c_str(), nullptr, 10);
    } else {
      std::fprintf(stderr, "usage: crash_store [--cycles N] [--power-cycles N] [--seed S] [--keep]\n");
      return 2;
    }
  }
  return mnemo::RunCycles("/proc/self/exe", kills, power_losses, seed, keep);
}

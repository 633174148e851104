#include "tests/support/daemon/daemon_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

std::string Binary() {
  const char* chosen = std::getenv("MNEMOD_BINARY");
  return chosen != nullptr ? chosen : MNEMOD_BINARY;
}

std::vector<std::string> CommandLine(const std::string& folder,
                                     const std::vector<std::string>& settings) {
  std::vector<std::string> line = {Binary(),        "--data-dir",     folder + "/data",
                                   "--listen",      "127.0.0.1:0",    "--metrics-listen",
                                   "off",           "--probe-listen", "off",
                                   "--unix-socket", folder + "/s",    "--streams-unix-socket",
                                   folder + "/t",   "--ready-file",   "-"};
  line.insert(line.end(), settings.begin(), settings.end());
  return line;
}

// In the child: only what is safe between fork and exec.
[[noreturn]] void Become(char* const* argv, int output, int log) {
  // A parent that ends early leaves nobody who holds its output open.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(output, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(argv[0], argv);
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DaemonProcess>> DaemonProcess::Start(
    const std::string& folder, const std::vector<std::string>& settings) {
  std::vector<std::string> line = CommandLine(folder, settings);
  std::vector<char*> argv;
  for (std::string& word : line) argv.push_back(word.data());
  argv.push_back(nullptr);

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("pipe2 failed");
  const std::string log_path = folder + "/log.txt";
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const pid_t pid = log < 0 ? -1 : fork();
  if (pid == 0) Become(argv.data(), ends[1], log);
  const int error = errno;
  if (log >= 0) close(log);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return absl::InternalError(fmt::format("{}: {}", line[0], std::strerror(error)));
  }

  std::unique_ptr<DaemonProcess> daemon(new DaemonProcess(pid, ends[0]));
  MNEMO_RETURN_IF_ERROR(daemon->ReadReadyLine());
  return daemon;
}

DaemonProcess::~DaemonProcess() {
  if (pid_ != 0) Kill();
  close(output_);
}

absl::Status DaemonProcess::ReadReadyLine() {
  std::string line;
  char byte = 0;
  while (read(output_, &byte, 1) == 1 && byte != '\n') line.push_back(byte);
  const auto ready = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (ready.is_discarded()) {
    return absl::InternalError(fmt::format("the daemon ended with {} before it served", Wait()));
  }
  tcp_ = ready.at("grpc").get<std::string>();
  unix_ = "unix:" + ready.at("unix").get<std::string>();
  streams_ = ready.value("streams", "");
  return absl::OkStatus();
}

void DaemonProcess::Signal(int number) { kill(pid_, number); }

// The signal alone is not enough: on a busy machine threads go on for as long as
// none of them has been scheduled to take it.
void DaemonProcess::Freeze() {
  Signal(SIGSTOP);
  siginfo_t info;
  while (waitid(P_PID, pid_, &info, WSTOPPED) < 0 && errno == EINTR) {
  }
}

void DaemonProcess::Thaw() { Signal(SIGCONT); }

uint64_t DaemonProcess::StatusBytes(const std::string& field) const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  std::string word;
  uint64_t kib = 0;
  while (status >> word) {
    if (word == field && status >> kib) return kib * 1024;
  }
  return 0;
}

void DaemonProcess::Kill() {
  Signal(SIGKILL);
  Wait();
}

int DaemonProcess::Stop() {
  Signal(SIGTERM);
  return Wait();
}

int DaemonProcess::Wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace mnemo

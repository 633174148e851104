#include "tests/integration/cpp/daemon_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "storage/base/status_macros.h"

extern char** environ;

namespace mnemo {
namespace {

std::string Binary() {
  const char* chosen = std::getenv("MNEMOD_BINARY");
  return chosen != nullptr ? chosen : MNEMOD_BINARY;
}

std::vector<std::string> CommandLine(const std::string& folder,
                                     const std::vector<std::string>& more) {
  std::vector<std::string> line = {Binary(),         "--data-dir",     folder + "/data",
                                   "--listen",       "127.0.0.1:0",    "--metrics-listen",
                                   "off",            "--probe-listen", "off",
                                   "--unix-socket",  folder + "/s",    "--ready-file",
                                   "-",              "--memory-total", "256MiB",
                                   "--disk-total",   "1GiB"};
  line.insert(line.end(), more.begin(), more.end());
  return line;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DaemonProcess>> DaemonProcess::Start(
    const std::string& folder, const std::vector<std::string>& arguments) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("pipe2 failed");

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  const std::string log = folder + "/log.txt";
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);

  std::vector<std::string> line = CommandLine(folder, arguments);
  std::vector<char*> argv;
  for (std::string& word : line) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) {
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
  return absl::OkStatus();
}

void DaemonProcess::Signal(int number) { kill(pid_, number); }

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

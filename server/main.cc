// mnemod: command line, signals and exit codes around one Daemon.
#include <fmt/format.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "server/config/budget.h"
#include "server/config/config.h"
#include "server/config/describe.h"
#include "server/daemon.h"
#include "server/exit_code.h"
#include "server/observe/announce.h"
#include "server/observe/log.h"
#include "server/options.h"
#include "storage/base/file_system.h"
#include "storage/base/lock_order.h"

#ifdef MNEMO_WITH_JEMALLOC
// Read by jemalloc before main. Freed pages go back within a second, by a
// thread of its own, so that resident memory stays within memory.total; with
// few arenas, less lies free in each. Buffers of large values, too: from 8 MiB on
// jemalloc would give each back at once, and its pages would be faulted in again.
extern "C" const char* malloc_conf;
const char* malloc_conf =
    "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4,oversize_threshold:0";
#endif

namespace mnemo {
namespace {

int Fail(ExitCode code, const std::string& reason) {
  std::fprintf(stderr, "mnemod: %s\n", reason.c_str());
  return static_cast<int>(code);
}

int Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(ExitCode::kFailure);
}

std::string ConfigInForce(const LoadedConfig& loaded) {
  std::string text;
  for (const ConfigEntry& entry : loaded.entries) {
    text += fmt::format("{}: {}  # {}\n", entry.key, entry.value.empty() ? "\"\"" : entry.value,
                        entry.origin);
  }
  return text;
}

// SIGTERM and SIGINT are taken by WaitForStop alone: blocked before any thread
// is made, so that all inherit it.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A peer that goes away is an error of the write, not of the process.
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

int WaitForStop(const sigset_t& signals) {
  int received = 0;
  while (sigwait(&signals, &received) != 0) {
  }
  return received;
}

// RocksDB keeps its files open, and each connection is one more.
void RaiseFileLimit(Logger& log) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) log.Warning("file-limit-not-raised");
}

void Notify(const std::string& socket, const std::string& state, Logger& log) {
  const absl::Status status = NotifyServiceManager(socket, state);
  if (!status.ok()) log.Warning("notify-failed", {{"reason", std::string(status.message())}});
}

// gRPC logs through a function without context; this is the context. Null
// when nobody serves.
std::atomic<Logger*> grpc_log{nullptr};

// What gRPC calls an error is mostly a peer's doing, so it is information here:
// our own failures come as a Status and are logged where they are handled.
void WriteGrpcLog(gpr_log_func_args* line) {
  constexpr size_t kLongest = 500;
  Logger* log = grpc_log.load();
  if (log == nullptr) return;
  const std::string text = std::string(line->message).substr(0, kLongest);
  if (line->severity == GPR_LOG_SEVERITY_ERROR) {
    log->Info("grpc", {{"text", text}});
  } else {
    log->Debug("grpc", {{"text", text}});
  }
}

// Sends gRPC's log to ours while it lives.
class GrpcLogScope {
 public:
  explicit GrpcLogScope(Logger& log) {
    grpc_log = &log;
    gpr_set_log_function(&WriteGrpcLog);
  }
  ~GrpcLogScope() { grpc_log = nullptr; }
  GrpcLogScope(const GrpcLogScope&) = delete;
  GrpcLogScope& operator=(const GrpcLogScope&) = delete;
};

int Serve(const LoadedConfig& loaded, const std::string& notify_socket) {
  IgnoreLockOrder();
  const sigset_t signals = BlockStopSignals();
  const Config& config = loaded.config;
  SystemClock clock;
  Logger log({.level = ParseLogLevel(config.log_level), .json = config.log_format == "json"}, clock,
             std::cerr);
  log.Info("starting", {{"version", MNEMO_VERSION}, {"pid", getpid()}});
  for (const std::string& warning : loaded.warnings) log.Warning("config", {{"text", warning}});
  RaiseFileLimit(log);
  const GrpcLogScope grpc_log_scope(log);

  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(loaded, *files, clock, log);
  if (!daemon.ok()) {
    const int code = static_cast<int>(ExitCodeOf(daemon.status()));
    log.Error("start-failed",
              {{"reason", std::string(daemon.status().message())}, {"exit_code", code}});
    return code;
  }
  const BoundAddresses& bound = (*daemon)->bound();
  const absl::Status written =
      WriteReadyLine(*files, config.ready_file, ReadyLine(getpid(), bound));
  if (!written.ok()) {
    log.Error("start-failed", {{"reason", std::string(written.message())}, {"exit_code", 1}});
    return static_cast<int>(ExitCode::kFailure);
  }
  log.Info("ready", {{"grpc", bound.grpc},
                     {"unix", bound.unix_socket},
                     {"streams", bound.streams},
                     {"streams_tcp", bound.streams_tcp},
                     {"metrics", bound.metrics},
                     {"probes", bound.probes}});
  Notify(notify_socket, "READY=1\nSTATUS=serving", log);

  const int received = WaitForStop(signals);
  log.Info("stopping", {{"signal", strsignal(received)}});
  Notify(notify_socket, "STOPPING=1", log);
  const MonoTime start = clock.Mono();
  const absl::Status stopped = (*daemon)->Stop();
  if (!stopped.ok()) {
    log.Error("close-failed", {{"reason", std::string(stopped.message())}});
    return static_cast<int>(ExitCode::kFailure);
  }
  log.Info("stopped", {{"took_ms", (clock.Mono() - start).count() / 1'000'000}});
  return static_cast<int>(ExitCode::kOk);
}

int Run(const std::vector<std::string>& arguments) {
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(arguments);
  if (!command_line.ok()) {
    return Fail(ExitCode::kConfig, std::string(command_line.status().message()));
  }
  using Action = CommandLine::Action;
  switch (command_line->action) {
    case Action::kPrintHelp:
      return Print(command_line->help);
    case Action::kPrintVersion:
      return Print(fmt::format("mnemod {}\n", MNEMO_VERSION));
    case Action::kPrintSchema:
      return Print(ConfigSchema());
    case Action::kPrintReference:
      return Print(ConfigReference());
    case Action::kPrintExample:
      return Print(ConfigExample());
    default:
      break;
  }
  const Environment environment = ReadEnvironment();
  const absl::StatusOr<LoadedConfig> loaded = LoadConfig(
      *command_line, environment, [](const std::string& data_dir) { return ProbeHost(data_dir); });
  if (!loaded.ok()) return Fail(ExitCode::kConfig, std::string(loaded.status().message()));
  if (const absl::Status checked = CheckOptions(loaded->config); !checked.ok()) {
    return Fail(ExitCode::kConfig, std::string(checked.message()));
  }
  if (command_line->action == Action::kPrintConfig) return Print(ConfigInForce(*loaded));
  if (command_line->action == Action::kCheckConfig) {
    for (const std::string& warning : loaded->warnings) {
      std::fprintf(stderr, "mnemod: warning: %s\n", warning.c_str());
    }
    return Print("configuration ok\n");
  }
  const auto socket = environment.find("NOTIFY_SOCKET");
  return Serve(*loaded, socket == environment.end() ? "" : socket->second);
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) { return mnemo::Run({argv + 1, argv + argc}); }

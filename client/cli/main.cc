// mnemoctl: administration of a mnemo daemon from the command line.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "client/cli/command.h"

int main(int argc, char** argv) {
  // Ctrl-C cancels what the daemon does for us; a thread of its own waits for it,
  // since a handler may do next to nothing.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  // The only place of the client side that reads the environment.
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const bool colour = mnemo::cli::MayColour(isatty(STDOUT_FILENO) != 0, std::getenv("NO_COLOR"),
                                            std::getenv("TERM"));
  const mnemo::cli::Surroundings surroundings{
      .out = std::cout,
      .err = std::cerr,
      .in = std::cin,
      .input_is_terminal = isatty(STDIN_FILENO) != 0,
      .messages_on_terminal = isatty(STDERR_FILENO) != 0,
      .colour = colour,
      .default_server = environment("MNEMO_SERVER"),
      .default_files = {.token = environment("MNEMO_TOKEN_FILE"),
                        .ca = environment("MNEMO_TLS_CA"),
                        .certificate = environment("MNEMO_TLS_CERT"),
                        .key = environment("MNEMO_TLS_KEY"),
                        .server_name = environment("MNEMO_TLS_SERVER_NAME")}};
  const auto watch_signals = [&](mnemo::client::CancelSource& cancel) {
    std::thread([&cancel, signals] {
      int signal = 0;
      sigwait(&signals, &signal);
      cancel.Cancel();
      // A second one means it.
      sigwait(&signals, &signal);
      std::_Exit(128 + signal);
    }).detach();
  };
  const auto code = mnemo::cli::RunMnemoctl(argc, argv, surroundings, watch_signals);
  std::cout.flush();
  // The waiting thread must not see statics go.
  std::_Exit(static_cast<int>(code));
}

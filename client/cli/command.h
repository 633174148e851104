// What every command of mnemoctl is given.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <istream>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "mnemo/client.h"

namespace mnemo::cli {

// What a command shows of its caller, and how it knows the daemon: names of files,
// but for `server_name`. Empty: not given.
struct ConnectionFiles {
  std::string token;        // a token and nothing else
  std::string ca;           // PEM
  std::string certificate;  // PEM
  std::string key;          // PEM
  std::string server_name;
};

// Where a command reads and writes, and what the environment says. Data goes to
// `out`, everything else to `err`.
struct Surroundings {
  std::ostream& out;
  std::ostream& err;
  std::istream& in;
  bool input_is_terminal = false;
  bool messages_on_terminal = false;   // `err`: whether progress may be drawn
  bool colour = false;                 // `out`: see MayColour
  std::string default_server = {};     // of the environment; may be empty
  ConnectionFiles default_files = {};  // the same
};

// One run of the program.
class Invocation {
 public:
  explicit Invocation(Surroundings surroundings) : surroundings_(surroundings) {}

  // Connects on first use.
  absl::StatusOr<client::Client*> Connect();
  client::CallOptions call_options();
  client::CancelSource& cancel() { return cancel_; }

  std::ostream& out() { return surroundings_.out; }
  std::ostream& err() { return surroundings_.err; }
  std::istream& in() { return surroundings_.in; }
  const Surroundings& surroundings() const { return surroundings_; }

  // Prints `value` as JSON or YAML, or else what `table` draws.
  void Print(const nlohmann::ordered_json& value, const std::function<void(bool wide)>& table);
  // Says what failed, and answers the exit code.
  ExitCode Fail(const absl::Status& status);
  // Asks "… [y/N]" unless --yes was given. Without a terminal the answer is no.
  bool Confirm(const std::string& question);

  // Set by the command line.
  std::string server;
  ConnectionFiles files;
  bool tls = false;  // also without any of its files
  std::string timeout = "10s";
  Format format = Format::kTable;
  bool yes = false;
  // What the chosen command does.
  std::function<ExitCode()> action;

 private:
  Surroundings surroundings_;
  client::CancelSource cancel_;
  std::unique_ptr<client::Client> client_;
};

// Each adds its noun and verbs to the command line.
void AddStatusCommand(CLI::App& app, Invocation& run);
void AddTierCommands(CLI::App& app, Invocation& run);
void AddSpaceCommands(CLI::App& app, Invocation& run);
void AddContextCommands(CLI::App& app, Invocation& run);
void AddAuthCommands(CLI::App& app, Invocation& run);
void AddTenantCommands(CLI::App& app, Invocation& run);
void AddConfigCommands(CLI::App& app, Invocation& run);
void AddBenchCommand(CLI::App& app, Invocation& run);
void AddVersionCommand(CLI::App& app, Invocation& run);
void AddCompletionCommand(CLI::App& app, Invocation& run);

// Parses and runs one command line. `cancelled`, if it is set, is handed the
// source that stops the run.
ExitCode RunMnemoctl(int argc, const char* const* argv, const Surroundings& surroundings,
                     const std::function<void(client::CancelSource&)>& cancelled = {});

// A key as people write it: hexadecimal, or text behind "text:". Errors:
// kInvalidArgument.
absl::StatusOr<std::string> ParseKey(const std::string& text);
// A space by name, or by id behind "id:" in hexadecimal.
absl::StatusOr<client::SpaceRef> ParseSpace(const std::string& text);
std::string_view LevelName(client::Level level);

}  // namespace mnemo::cli

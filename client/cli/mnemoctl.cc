// The command line as a whole.
#include <fmt/format.h>

#include "client/cli/command.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

const std::map<std::string, Format> kFormats = {{"table", Format::kTable},
                                                {"wide", Format::kWide},
                                                {"json", Format::kJson},
                                                {"yaml", Format::kYaml}};

// The checks of CLI11: what is wrong, or nothing.
std::string CheckTimeout(const std::string& text) {
  const auto parsed = ParseDuration(text);
  if (!parsed.ok()) return std::string(parsed.status().message());
  if (*parsed < std::chrono::milliseconds(1) || *parsed > std::chrono::hours(24)) {
    return fmt::format("'{}' is out of range; it must be 1ms to 24h", text);
  }
  return "";
}

std::string CheckFormat(const std::string& text) {
  if (kFormats.contains(text)) return "";
  return fmt::format("'{}' is not one of {}", text, kFormatNames);
}

void AddGlobalOptions(CLI::App& app, Invocation& run) {
  app.add_option("--server", run.server,
                 "HOST:PORT or unix:PATH; default MNEMO_SERVER, then 127.0.0.1:7070");
  // Files, not values: a command line is everybody's to read.
  app.add_option("--token-file", run.files.token,
                 "file with the token to show; default MNEMO_TOKEN_FILE");
  app.add_flag("--tls", run.tls, "connect with TLS, trusting what the system trusts");
  app.add_option("--tls-ca", run.files.ca,
                 "PEM of the CA to trust instead, with TLS; default MNEMO_TLS_CA");
  app.add_option("--tls-cert", run.files.certificate,
                 "PEM of the certificate to show; default MNEMO_TLS_CERT");
  app.add_option("--tls-key", run.files.key, "PEM of its key; default MNEMO_TLS_KEY");
  app.add_option("--tls-server-name", run.files.server_name,
                 "the name on the daemon's certificate; default MNEMO_TLS_SERVER_NAME, then the "
                 "host of --server");
  app.add_option("--timeout", run.timeout, "how long a call may take, such as 500ms or 10s")
      ->capture_default_str()
      ->check(CheckTimeout);
  app.add_option_function<std::string>(
         "-o,--output", [&run](const std::string& name) { run.format = kFormats.at(name); },
         "table, wide, json or yaml")
      ->check(CheckFormat)
      ->option_text("FORMAT");
  app.add_flag("-y,--yes", run.yes, "do not ask before something is lost");
  // Global options may stand behind the verb too, where people type them.
  app.fallthrough();
}

// What to say of a command line that cannot be run. CLI11 speaks of
// subcommands and does not name the word that it stumbled over.
std::string UsageMessage(const CLI::App* root, const CLI::Error& error) {
  const CLI::App* app = root;
  std::string path = "mnemoctl";
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    path += " " + app->get_name();
  }
  std::string known;
  for (const CLI::App* child : app->get_subcommands([](const CLI::App*) { return true; })) {
    known += (known.empty() ? "" : ", ") + child->get_name();
  }
  std::string what = error.what();
  const std::vector<std::string> extras = root->remaining(/*recurse=*/true);
  const int code = error.get_exit_code();
  const bool misplaced = code == static_cast<int>(CLI::ExitCodes::RequiredError) ||
                         code == static_cast<int>(CLI::ExitCodes::ExtrasError);
  if (misplaced && !extras.empty()) {
    const std::string word = Printable(extras.front());
    what = word.starts_with("-") ? fmt::format("no option {} here", word)
           : known.empty()       ? fmt::format("'{}' is one word too many", word)
                                 : fmt::format("no command '{}' here; there are {}", word, known);
  } else if (misplaced && !known.empty()) {
    what = fmt::format("a command is missing; there are {}", known);
  }
  return fmt::format("mnemoctl: {}\nRun '{} --help' to see what it takes.\n", what, path);
}

}  // namespace

ExitCode RunMnemoctl(int argc, const char* const* argv, const Surroundings& surroundings,
                     const std::function<void(client::CancelSource&)>& cancelled) {
  Invocation run(surroundings);
  CLI::App app("Administers a mnemo daemon.", "mnemoctl");
  app.require_subcommand(1);
  app.failure_message(UsageMessage);
  AddGlobalOptions(app, run);
  AddStatusCommand(app, run);
  AddTierCommands(app, run);
  AddSpaceCommands(app, run);
  AddContextCommands(app, run);
  AddAuthCommands(app, run);
  AddTenantCommands(app, run);
  AddConfigCommands(app, run);
  AddBenchCommand(app, run);
  AddVersionCommand(app, run);
  AddCompletionCommand(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 reports by exception; help and version are its successes.
    const int code = app.exit(error, surroundings.out, surroundings.err);
    return code == 0 ? ExitCode::kOk : ExitCode::kUsage;
  }
  if (cancelled) cancelled(run.cancel());
  return run.action();
}

}  // namespace mnemo::cli

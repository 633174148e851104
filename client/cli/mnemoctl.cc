// The command line as a whole.
#include <fmt/format.h>

#include "client/cli/command.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

void AddGlobalOptions(CLI::App& app, Invocation& run) {
  app.add_option("--server", run.server,
                 "HOST:PORT or unix:PATH; default MNEMO_SERVER, then 127.0.0.1:7070");
  app.add_option("--timeout", run.timeout, "how long a call may take, such as 500ms or 10s")
      ->capture_default_str()
      ->check([](const std::string& text) {
        const auto parsed = ParseDuration(text);
        return parsed.ok() ? "" : std::string(parsed.status().message());
      });
  const std::map<std::string, Format> formats = {{"table", Format::kTable},
                                                 {"wide", Format::kWide},
                                                 {"json", Format::kJson},
                                                 {"yaml", Format::kYaml}};
  app.add_option("-o,--output", run.format, "table, wide, json or yaml")
      ->transform(CLI::CheckedTransformer(formats, CLI::ignore_case).description(""))
      ->option_text("FORMAT");
  app.add_flag("-y,--yes", run.yes, "do not ask before something is lost");
  // Global options may stand behind the verb too, where people type them.
  app.fallthrough();
}

}  // namespace

ExitCode RunMnemoctl(int argc, const char* const* argv, const Surroundings& surroundings,
                     const std::function<void(client::CancelSource&)>& cancelled) {
  Invocation run(surroundings);
  CLI::App app("Administers a mnemo daemon.", "mnemoctl");
  app.require_subcommand(1);
  AddGlobalOptions(app, run);
  AddStatusCommand(app, run);
  AddTierCommands(app, run);
  AddSpaceCommands(app, run);
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

// mnemoctl status, version and config.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "client/cli/command.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Since(int64_t unix_us) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto age =
      std::chrono::duration_cast<std::chrono::seconds>(now - std::chrono::microseconds(unix_us));
  return FormatDuration(std::max(age, std::chrono::seconds(0)));
}

Json ToJson(const client::NodeStatus& status) {
  return {{"node_id", status.node_id},
          {"version", status.version},
          {"format_version", status.format_version},
          {"ready", status.ready},
          {"problems", status.problems},
          {"started_unix_us", status.started_unix_us},
          {"spaces", status.spaces},
          {"parts", status.parts},
          {"resident_bytes", status.resident_bytes},
          {"memory_budget_bytes", status.memory_budget_bytes},
          {"disk_used_bytes", status.disk_used_bytes},
          {"disk_budget_bytes", status.disk_budget_bytes},
          {"disk_free_bytes", status.disk_free_bytes},
          {"addresses", status.addresses},
          {"recovery", status.recovery},
          {"insecure", status.insecure},
          {"context_l3_bytes", status.context_l3_bytes},
          {"context_l3_capacity_bytes", status.context_l3_capacity_bytes},
          {"context_archive_bytes", status.context_archive_bytes},
          {"contexts_waiting", status.contexts_waiting}};
}

void PrintStatus(Invocation& run, const client::NodeStatus& status) {
  const auto paint = [&](Tone tone, std::string_view text) {
    return Painted(run.surroundings().colour, tone, text);
  };
  const auto line = [&](std::string_view name, const std::string& value) {
    run.out() << fmt::format("{:<10}{}\n", name, value);
  };
  line("node", fmt::format("{}, version {}, formats {}", status.node_id, status.version,
                           status.format_version));
  line("state",
       fmt::format("{}, up {}",
                   status.ready ? paint(Tone::kGood, "ready") : paint(Tone::kBad, "NOT READY"),
                   Since(status.started_unix_us)));
  line("holds", fmt::format("{} parts in {} {}", Grouped(status.parts), status.spaces,
                            status.spaces == 1 ? "space" : "spaces"));
  line("memory", fmt::format("{} resident of {}", FormatByteSize(status.resident_bytes),
                             FormatByteSize(status.memory_budget_bytes)));
  line("disk", fmt::format("{} used of {}, {} free", FormatByteSize(status.disk_used_bytes),
                           FormatByteSize(status.disk_budget_bytes),
                           FormatByteSize(status.disk_free_bytes)));
  line("contexts",
       fmt::format("{} of {} at L3, {} in the archive; {} wait for summaries",
                   FormatByteSize(status.context_l3_bytes),
                   FormatByteSize(status.context_l3_capacity_bytes),
                   FormatByteSize(status.context_archive_bytes), Grouped(status.contexts_waiting)));
  for (const std::string& address : status.addresses) line("listens", Printable(address));
  if (status.insecure)
    line("security", paint(Tone::kBad, "INSECURE: listens beyond this host without TLS"));
  if (!status.recovery.empty()) line("recovery", Printable(status.recovery));
  for (const std::string& problem : status.problems)
    line("problem", paint(Tone::kBad, Printable(problem)));
}

ExitCode Status(Invocation& run) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto status = (*client)->admin().GetNodeStatus(run.call_options());
  if (!status.ok()) return run.Fail(status.status());
  run.Print(ToJson(*status), [&](bool) { PrintStatus(run, *status); });
  return status->ready && status->problems.empty() ? ExitCode::kOk : ExitCode::kUnhealthy;
}

ExitCode ConfigShow(Invocation& run, bool origin) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto entries = (*client)->admin().GetConfig(run.call_options());
  if (!entries.ok()) return run.Fail(entries.status());
  Json value = Json::array();
  Table table({{"KEY"}, {"VALUE"}, {"ORIGIN", false, !origin}, {"DESCRIPTION", false, true}});
  for (const client::ConfigEntry& entry : *entries) {
    value.push_back({{"key", entry.key},
                     {"value", entry.value},
                     {"origin", entry.origin},
                     {"description", entry.description}});
    table.AddRow({entry.key, Printable(entry.value), Printable(entry.origin), entry.description});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

}  // namespace

void AddStatusCommand(CLI::App& app, Invocation& run) {
  CLI::App* status = app.add_subcommand("status", "what the node is and how it does");
  status->callback([&run] { run.action = [&run] { return Status(run); }; });
}

void AddConfigCommands(CLI::App& app, Invocation& run) {
  CLI::App* config = app.add_subcommand("config", "the configuration in force");
  config->require_subcommand(1);
  CLI::App* show = config->add_subcommand("show", "every setting and its value");
  auto origin = std::make_shared<bool>(false);
  show->add_flag("--origin", *origin, "also say where each value came from");
  show->callback(
      [&run, origin] { run.action = [&run, origin] { return ConfigShow(run, *origin); }; });
}

void AddVersionCommand(CLI::App& app, Invocation& run) {
  CLI::App* version = app.add_subcommand("version", "the version of mnemoctl");
  version->callback([&run] {
    run.action = [&run] {
      run.Print(Json{{"version", MNEMO_VERSION}},
                [&](bool) { run.out() << "mnemoctl " << MNEMO_VERSION << '\n'; });
      return ExitCode::kOk;
    };
  });
}

}  // namespace mnemo::cli

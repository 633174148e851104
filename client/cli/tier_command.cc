// mnemoctl tier list, stats and inspect.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "client/cli/command.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Fidelity(uint32_t bits) { return bits == 0 ? "exact" : fmt::format("{} bit", bits); }

std::string Micros(double us) {
  return us == 0 ? "-" : FormatDuration(std::chrono::nanoseconds(static_cast<int64_t>(us * 1e3)));
}

ExitCode List(Invocation& run) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto tiers = (*client)->admin().ListTiers(run.call_options());
  if (!tiers.ok()) return run.Fail(tiers.status());
  Json value = Json::array();
  Table table({{"TIER"},
               {"LEVEL"},
               {"FIDELITY"},
               {"PARTS", true},
               {"BYTES", true},
               {"ACTIVE"},
               {"WHAT LIES THERE"},
               {"MOVES ON WHEN", false, true}});
  for (const client::TierInfo& tier : *tiers) {
    value.push_back({{"name", tier.name},
                     {"level", LevelName(tier.level)},
                     {"bits_per_value", tier.bits_per_value},
                     {"parts", tier.parts},
                     {"bytes", tier.bytes},
                     {"active", tier.active},
                     {"description", tier.description},
                     {"moves_on_when", tier.moves_on_when}});
    table.AddRow({tier.name, std::string(LevelName(tier.level)), Fidelity(tier.bits_per_value),
                  Grouped(tier.parts), FormatByteSize(tier.bytes), tier.active ? "yes" : "no",
                  tier.description, tier.moves_on_when});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

Json ToJson(const client::LevelInfo& level) {
  return {{"level", level.label},
          {"capacity_bytes", level.capacity_bytes},
          {"used_bytes", level.used_bytes},
          {"live_bytes", level.live_bytes},
          {"exact_bytes", level.exact_bytes},
          {"parts", level.parts},
          {"lookups", level.lookups},
          {"hits", level.hits},
          {"hit_ratio", level.hit_ratio},
          {"hit_ratio_objective", level.hit_ratio_objective},
          {"p50_us", level.p50_us},
          {"p99_us", level.p99_us},
          {"p99_objective_us", level.p99_objective_us},
          {"demoted", level.demoted},
          {"promoted", level.promoted},
          {"evicted", level.evicted},
          {"high_watermark", level.high_watermark},
          {"low_watermark", level.low_watermark}};
}

ExitCode Stats(Invocation& run) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto levels = (*client)->admin().ListLevels(run.call_options());
  if (!levels.ok()) return run.Fail(levels.status());
  Json value = Json::array();
  Table table({{"LEVEL"},
               {"USED", true},
               {"CAPACITY", true},
               {"FULL", true},
               {"PARTS", true},
               {"HIT RATIO", true},
               {"P50", true},
               {"P99", true},
               {"P99 GOAL", true},
               {"DEMOTED", true},
               {"PROMOTED", true},
               {"EVICTED", true},
               {"LOOK-UPS", true, true},
               {"EXACT", true, true},
               {"WATERMARKS", true, true}});
  for (const client::LevelInfo& level : *levels) {
    value.push_back(ToJson(level));
    const double full = level.capacity_bytes == 0 ? 0
                                                  : static_cast<double>(level.used_bytes) /
                                                        static_cast<double>(level.capacity_bytes);
    table.AddRow(
        {level.label, FormatByteSize(level.used_bytes), FormatByteSize(level.capacity_bytes),
         Percent(full), Grouped(level.parts), level.lookups == 0 ? "-" : Percent(level.hit_ratio),
         Micros(level.p50_us), Micros(level.p99_us), Micros(level.p99_objective_us),
         Grouped(level.demoted), Grouped(level.promoted), Grouped(level.evicted),
         Grouped(level.lookups), FormatByteSize(level.exact_bytes),
         fmt::format("{} / {}", Percent(level.high_watermark), Percent(level.low_watermark))});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

struct InspectOptions {
  std::string key;
  std::string space;
  std::string salt;
  std::string stretch;
};

Json ToJson(const client::Placement& placement) {
  Json copies = Json::array();
  for (const client::Level level : placement.copies) copies.push_back(LevelName(level));
  Json signals = Json::object();
  for (const client::Signal& signal : placement.signals) signals[signal.name] = signal.value;
  const client::PartInfo& part = placement.part;
  return {{"key", Hex(part.key)},
          {"group", part.part.group},
          {"tp_rank", part.part.tp_rank},
          {"pp_rank", part.part.pp_rank},
          {"level", LevelName(part.level)},
          {"tier", placement.tier},
          {"copies", copies},
          {"codec", part.codec},
          {"size", part.size},
          {"stored_bytes", part.stored_bytes},
          {"digest", fmt::format("{:016x}{:016x}", part.digest.high, part.digest.low)},
          {"depth", part.depth},
          {"shard", placement.shard},
          {"pinned", part.pinned},
          {"leased", part.leased},
          {"rule", placement.rule},
          {"explanation", placement.explanation},
          {"signals", signals}};
}

absl::StatusOr<std::vector<client::Placement>> Explain(Invocation& run,
                                                       const InspectOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const std::string key, ParseKey(options.key));
  MNEMO_ASSIGN_OR_RETURN(const client::SpaceRef space, ParseSpace(options.space));
  std::string stretch;
  if (!options.stretch.empty()) {
    MNEMO_ASSIGN_OR_RETURN(stretch, ParseKey(options.stretch));
  }
  MNEMO_ASSIGN_OR_RETURN(client::Client * client, run.Connect());
  return client->admin().Explain(
      {.space = space, .salt = options.salt, .key = key, .stretch = stretch}, run.call_options());
}

// One line a part: where it lies, and why.
ExitCode Inspect(Invocation& run, const InspectOptions& options) {
  const auto placements = Explain(run, options);
  if (!placements.ok()) return run.Fail(placements.status());
  Json value = Json::array();
  for (const client::Placement& placement : *placements) value.push_back(ToJson(placement));
  run.Print(value, [&](bool) {
    for (const client::Placement& placement : *placements) {
      const client::PartInfo& part = placement.part;
      run.out() << fmt::format("group {} rank {}/{}: {} as {} at {}; depth {}, shard {}\n",
                               part.part.group, part.part.tp_rank, part.part.pp_rank,
                               FormatByteSize(part.size), FormatByteSize(part.stored_bytes),
                               Printable(placement.explanation), part.depth, placement.shard);
    }
  });
  return ExitCode::kOk;
}

}  // namespace

void AddTierCommands(CLI::App& app, Invocation& run) {
  CLI::App* tier = app.add_subcommand("tier", "levels and tiers, and what lies where");
  tier->require_subcommand(1);
  tier->add_subcommand("list", "the tiers: policy classes over the levels")->callback([&run] {
    run.action = [&run] { return List(run); };
  });
  tier->add_subcommand("stats", "the levels with their figures")->callback([&run] {
    run.action = [&run] { return Stats(run); };
  });
  CLI::App* inspect = tier->add_subcommand("inspect", "where a block lies, and why");
  auto options = std::make_shared<InspectOptions>();
  inspect->add_option("KEY", options->key, "hexadecimal, or text:CHARACTERS")->required();
  inspect->add_option("-s,--space", options->space, "its space: a name, or id:HEX")->required();
  inspect->add_option("--salt", options->salt, "its salt, if it has one");
  inspect->add_option("--stretch", options->stretch,
                      "its stretch, where the space has chain affinity; as KEY");
  inspect->callback(
      [&run, options] { run.action = [&run, options] { return Inspect(run, *options); }; });
}

}  // namespace mnemo::cli

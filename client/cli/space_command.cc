// mnemoctl space list, show, create, set and delete.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "client/cli/command.h"
#include "client/cli/space_file.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string FloorText(uint32_t bits) { return bits == 0 ? "exact" : fmt::format("{} bits", bits); }

ExitCode List(Invocation& run) {
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto spaces = (*client)->spaces().List(run.call_options());
  if (!spaces.ok()) return run.Fail(spaces.status());
  Json value = Json::array();
  Table table({{"NAME"},
               {"ID", false, true},
               {"GROUPS", true},
               {"BLOCK", true},
               {"PARTS", true},
               {"BYTES", true},
               {"TOKENS", true},
               {"CLASS"},
               {"FLOOR"},
               {"CREATED", false, true}});
  for (const client::SpaceAndUsage& listed : *spaces) {
    value.push_back(ToJson(listed));
    const client::Space& space = listed.space;
    table.AddRow(
        {Printable(space.name), fmt::format("{:016x}", space.id),
         fmt::to_string(space.groups.size()), fmt::format("{} tokens", space.tokens_per_block),
         Grouped(listed.usage.parts), FormatByteSize(listed.usage.bytes),
         Grouped(listed.usage.tokens), std::string(DurabilityName(space.policy.durability)),
         FloorText(space.policy.floor_bits_per_value.value_or(0)), Date(space.created_unix_us)});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

void PrintSpace(std::ostream& out, const client::SpaceAndUsage& listed, bool wide) {
  const client::Space& space = listed.space;
  const auto line = [&](std::string_view name, const std::string& value) {
    out << fmt::format("{:<14}{}\n", name, value);
  };
  line("name", Printable(space.name));
  const bool exists = space.id != 0;
  if (exists) line("id", fmt::format("{:016x}", space.id));
  line("block", fmt::format("{} tokens", space.tokens_per_block));
  if (exists) {
    line("holds", fmt::format("{} parts, {}, {} tokens", Grouped(listed.usage.parts),
                              FormatByteSize(listed.usage.bytes), Grouped(listed.usage.tokens)));
  }
  if (exists && listed.usage.reencoding) {
    line("encoding",
         fmt::format("{} of {} parts looked at", Grouped(listed.usage.reencoding->looked_at),
                     Grouped(listed.usage.reencoding->parts)));
  }
  const std::string_view durability = DurabilityName(space.policy.durability);
  line("class", durability.empty() ? "the daemon's default" : std::string(durability));
  line("time to live",
       space.policy.time_to_live_seconds == 0
           ? "without end"
           : FormatDuration(std::chrono::seconds(space.policy.time_to_live_seconds)));
  line("floor", FloorText(space.policy.floor_bits_per_value.value_or(0)));
  if (space.policy.level_bits && *space.policy.level_bits != client::LevelBits()) {
    const auto bits = [&](const std::optional<uint32_t>& level) {
      return FloorText(level.value_or(space.policy.floor_bits_per_value.value_or(0)));
    };
    line("by level",
         fmt::format("L2 {}, L3 {}, archive {}", bits(space.policy.level_bits->l2),
                     bits(space.policy.level_bits->l3), bits(space.policy.level_bits->archive)));
  }
  line("salt", space.salt_required ? "required" : "not required");
  const auto if_set = [](const std::string& text) { return text.empty() ? "-" : Printable(text); };
  line("weights", if_set(space.fingerprint.weights_digest));
  line("state format", if_set(space.fingerprint.state_format));
  if (exists) line("created", Date(space.created_unix_us));
  out << '\n';
  Table table({{"GROUP"},
               {"KIND"},
               {"LAYERS", true},
               {"KV HEADS", true},
               {"K", true},
               {"V", true},
               {"WINDOW", true},
               {"RANKS", true, true},
               {"A PART", true}});
  for (size_t i = 0; i < space.groups.size(); ++i) {
    const client::Group& group = space.groups[i];
    std::string part = "-";  // the daemon computes it
    if (i < space.part_bytes.size()) {
      part = space.part_bytes[i] == 0 ? "any" : FormatByteSize(space.part_bytes[i]);
    }
    table.AddRow({Printable(group.name), std::string(KindName(group.kind)),
                  fmt::to_string(group.layers), fmt::to_string(group.kv_heads),
                  fmt::to_string(group.k_dimension), fmt::to_string(group.v_dimension),
                  group.window_tokens == 0 ? "-" : fmt::to_string(group.window_tokens),
                  fmt::to_string(std::max(group.tensor_parallel_size, 1u)), part});
  }
  table.Print(out, wide);
}

ExitCode Show(Invocation& run, const std::string& name) {
  const auto space = ParseSpace(name);
  if (!space.ok()) return run.Fail(space.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto listed = (*client)->spaces().Get(*space, run.call_options());
  if (!listed.ok()) return run.Fail(listed.status());
  run.Print(ToJson(*listed), [&](bool wide) { PrintSpace(run.out(), *listed, wide); });
  return ExitCode::kOk;
}

struct CreateOptions {
  std::string name;
  std::string file;
  uint32_t opaque_tokens = 0;
  bool dry_run = false;
};

absl::StatusOr<client::Space> SpaceToCreate(const CreateOptions& options) {
  client::Space space;
  if (!options.file.empty()) {
    MNEMO_ASSIGN_OR_RETURN(space, ReadSpaceFile(options.file));
  } else {
    space.tokens_per_block = options.opaque_tokens;
    space.groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}};
  }
  space.name = options.name;
  return space;
}

// A dry run asks the daemon too: it refuses what a real run would refuse.
ExitCode Create(Invocation& run, const CreateOptions& options) {
  const auto space = SpaceToCreate(options);
  if (!space.ok()) return run.Fail(space.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto opened = (*client)->spaces().Open(*space, options.dry_run, run.call_options());
  if (options.dry_run && absl::IsNotFound(opened.status())) {
    const client::SpaceAndUsage planned{.space = *space};
    run.Print(ToJson(planned), [&](bool wide) { PrintSpace(run.out(), planned, wide); });
    run.err() << fmt::format("space '{}' would be created; nothing was done: --dry-run\n",
                             Printable(options.name));
    return ExitCode::kOk;
  }
  if (!opened.ok()) return run.Fail(opened.status());
  run.Print(ToJson({.space = opened->space}),
            [&](bool) { run.out() << fmt::format("{:016x}\n", opened->space.id); });
  run.err() << fmt::format("space '{}' {}\n", Printable(options.name),
                           opened->created ? "created" : "was there already, the same");
  return ExitCode::kOk;
}

struct SetOptions {
  std::string name;
  std::optional<std::string> floor;
  std::optional<std::string> l2, l3, archive;
  std::optional<std::string> durability;
  std::optional<uint64_t> time_to_live_seconds;
  bool dry_run = false;

  bool HasLevels() const { return l2 || l3 || archive; }
};

absl::StatusOr<uint32_t> ParseBits(std::string_view option, const std::string& text) {
  if (text == "exact") return 0;
  for (const uint32_t bits : {2U, 3U, 4U, 5U, 8U}) {
    if (text == fmt::to_string(bits)) return bits;
  }
  return absl::InvalidArgumentError(fmt::format("{} is '{}'; it must be exact, 2, 3, 4, 5 or 8{}",
                                                option, Printable(text),
                                                option == "--floor" ? "" : ", or floor"));
}

// "floor" takes back what was said of a level.
absl::Status ChangeLevel(std::string_view option, const std::optional<std::string>& text,
                         std::optional<uint32_t>& bits) {
  if (!text) return absl::OkStatus();
  bits.reset();
  if (*text == "floor") return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(bits, ParseBits(option, *text));
  return absl::OkStatus();
}

// What was asked for, in place of what is there.
absl::StatusOr<client::SpacePolicy> Changed(client::SpacePolicy policy, const SetOptions& options) {
  if (options.floor) {
    MNEMO_ASSIGN_OR_RETURN(policy.floor_bits_per_value, ParseBits("--floor", *options.floor));
  }
  client::LevelBits levels = policy.level_bits.value_or(client::LevelBits());
  MNEMO_RETURN_IF_ERROR(ChangeLevel("--l2", options.l2, levels.l2));
  MNEMO_RETURN_IF_ERROR(ChangeLevel("--l3", options.l3, levels.l3));
  MNEMO_RETURN_IF_ERROR(ChangeLevel("--archive", options.archive, levels.archive));
  policy.level_bits = levels;
  if (options.durability) {
    MNEMO_ASSIGN_OR_RETURN(policy.durability, ParseDurability(*options.durability));
  }
  policy.time_to_live_seconds = options.time_to_live_seconds.value_or(policy.time_to_live_seconds);
  return policy;
}

bool IsRaised(uint32_t before, uint32_t after) {
  return before != 0 && (after == 0 || after > before);
}

ExitCode Set(Invocation& run, const SetOptions& options) {
  const auto space = ParseSpace(options.name);
  if (!space.ok()) return run.Fail(space.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  auto listed = (*client)->spaces().Get(*space, run.call_options());
  if (!listed.ok()) return run.Fail(listed.status());
  const client::SpacePolicy before = listed->space.policy;
  auto policy = Changed(before, options);
  if (!policy.ok()) return run.Fail(policy.status());
  const uint32_t floor_before = before.floor_bits_per_value.value_or(0);
  const uint32_t floor = policy->floor_bits_per_value.value_or(0);
  const bool raised = IsRaised(floor_before, floor);
  const auto print = [&](const client::SpaceAndUsage& shown) {
    run.Print(ToJson(shown), [&](bool wide) { PrintSpace(run.out(), shown, wide); });
  };
  if (options.dry_run) {
    listed->space.policy = *policy;
    print(*listed);
    if (raised) run.err() << "what is kept below the new floor would be dropped\n";
    run.err() << "nothing was changed: --dry-run\n";
    return ExitCode::kOk;
  }
  if (raised && !run.Confirm(fmt::format(
                    "Raise the floor of space '{}' from {} to {} and drop what "
                    "is kept below it?",
                    Printable(listed->space.name), FloorText(floor_before), FloorText(floor)))) {
    run.err() << "nothing was changed\n";
    return ExitCode::kFailure;
  }
  // What was not asked for stays as it is by then, not as it was read.
  if (!options.floor) policy->floor_bits_per_value.reset();
  if (!options.HasLevels()) policy->level_bits.reset();
  const auto updated =
      (*client)->spaces().Update(client::SpaceRef(listed->space.id), *policy, run.call_options());
  if (!updated.ok()) return run.Fail(updated.status());
  listed->space = *updated;
  print(*listed);
  return ExitCode::kOk;
}

ExitCode Delete(Invocation& run, const std::string& name, bool dry_run) {
  const auto space = ParseSpace(name);
  if (!space.ok()) return run.Fail(space.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto listed = (*client)->spaces().Get(*space, run.call_options());
  if (!listed.ok()) return run.Fail(listed.status());
  const std::string what =
      fmt::format("space '{}' with {} parts, {}", Printable(listed->space.name),
                  Grouped(listed->usage.parts), FormatByteSize(listed->usage.bytes));
  if (dry_run) {
    run.Print(Json{{"parts_to_delete", listed->usage.parts}},
              [&](bool) { run.out() << fmt::format("would delete {}\n", what); });
    run.err() << "nothing was deleted: --dry-run\n";
    return ExitCode::kOk;
  }
  if (!run.Confirm(fmt::format("Delete {}?", what))) {
    run.err() << "nothing was deleted\n";
    return ExitCode::kFailure;
  }
  const auto deleted =
      (*client)->spaces().Delete(client::SpaceRef(listed->space.id), run.call_options());
  if (!deleted.ok()) return run.Fail(deleted.status());
  run.Print(Json{{"parts_deleted", *deleted}},
            [&](bool) { run.out() << fmt::format("{} parts deleted\n", Grouped(*deleted)); });
  return ExitCode::kOk;
}

}  // namespace

void AddSpaceCommands(CLI::App& app, Invocation& run) {
  CLI::App* space = app.add_subcommand("space", "one model's KV geometry, and its blocks");
  space->require_subcommand(1);
  space->add_subcommand("list", "all spaces")->callback([&run] {
    run.action = [&run] { return List(run); };
  });
  auto name = std::make_shared<std::string>();
  CLI::App* show = space->add_subcommand("show", "one space");
  show->add_option("SPACE", *name, "a name, or id:HEX")->required();
  show->callback([&run, name] { run.action = [&run, name] { return Show(run, *name); }; });

  auto create_options = std::make_shared<CreateOptions>();
  CLI::App* create = space->add_subcommand("create", "make a space, or find it the same");
  create->add_option("NAME", create_options->name, "1 to 128 bytes of UTF-8")->required();
  CLI::Option* file = create->add_option("-f,--file", create_options->file,
                                         "YAML or JSON with the fields of mnemo.v1.Space");
  CLI::Option* opaque =
      create->add_option("--opaque", create_options->opaque_tokens,
                         "make a space of opaque bytes, with so many tokens a block");
  opaque->check(CLI::Range(1u, 65535u));
  file->excludes(opaque);
  create->add_flag("--dry-run", create_options->dry_run, "only show what would be made");
  create->callback([&run, create_options] {
    if (create_options->file.empty() && create_options->opaque_tokens == 0) {
      throw CLI::RequiredError("one of --file and --opaque");
    }
    run.action = [&run, create_options] { return Create(run, *create_options); };
  });

  auto set_options = std::make_shared<SetOptions>();
  CLI::App* set = space->add_subcommand("set", "change a space's policy; what is not named stays");
  set->add_option("SPACE", set_options->name, "a name, or id:HEX")->required();
  set->add_option("--floor", set_options->floor,
                  "the fewest bits of a value below L1: exact, 2, 3, 4, 5 or 8; a raised floor "
                  "drops what is kept below it");
  set->add_option("--l2", set_options->l2,
                  "bits of a value at L2, at least the floor and no fewer than further down: "
                  "exact, 2, 3, 4, 5 or 8; floor: what the floor says");
  set->add_option("--l3", set_options->l3, "the same at L3");
  set->add_option("--archive", set_options->archive, "the same at the archive");
  set->add_option("--durability", set_options->durability, "cache, interval or sync");
  set->add_option("--time-to-live", set_options->time_to_live_seconds,
                  "seconds that blocks live after their put; 0: without end");
  set->add_flag("--dry-run", set_options->dry_run, "only show what would be");
  set->callback([&run, set_options] {
    if (!set_options->floor && !set_options->HasLevels() && !set_options->durability &&
        !set_options->time_to_live_seconds) {
      throw CLI::RequiredError(
          "one of --floor, --l2, --l3, --archive, --durability and --time-to-live");
    }
    run.action = [&run, set_options] { return Set(run, *set_options); };
  });

  auto dry_run = std::make_shared<bool>(false);
  CLI::App* remove = space->add_subcommand("delete", "delete a space and all its blocks");
  remove->add_option("SPACE", *name, "a name, or id:HEX")->required();
  remove->add_flag("--dry-run", *dry_run, "only say what would be lost");
  remove->callback([&run, name, dry_run] {
    run.action = [&run, name, dry_run] { return Delete(run, *name, *dry_run); };
  });
}

}  // namespace mnemo::cli

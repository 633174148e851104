// mnemoctl context list, show and delete; context_search.cc has search.
#include "client/cli/context_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "client/cli/command.h"
#include "client/cli/context_picture.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kPictureWidth = 64;

std::string_view MetricName(client::Metric metric) {
  constexpr std::string_view kNames[] = {"cosine", "cosine", "inner product", "L2"};
  const auto index = static_cast<size_t>(metric);
  return index < std::size(kNames) ? kNames[index] : "?";
}

std::string_view StoredName(client::DType type) {
  switch (type) {
    case client::DType::kInt8:
      return "int8";
    case client::DType::kInt4:
      return "int4";
    default:
      return "fp16";
  }
}

std::string LabelsOf(const client::Context& context) {
  std::string text;
  for (const auto& [key, value] : context.labels) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", Printable(key), Printable(value));
  }
  return text.empty() ? "-" : text;
}

Json ToJson(const client::Context& context) {
  Json labels = Json::object();
  for (const auto& [key, value] : context.labels) labels[key] = value;
  Json kinds = Json::array();
  for (const client::TokenKind kind : context.kinds) kinds.push_back(TokenKindName(kind));
  return {{"id", fmt::format("{:016x}", context.id)},
          {"name", context.name},
          {"dimension", context.dimension},
          {"metric", MetricName(context.metric)},
          {"stored", StoredName(context.stored_dtype)},
          {"kinds", kinds},
          {"labels", labels},
          {"class", context.durability == client::Durability::kInterval ? "interval" : "sync"},
          {"created_unix_us", context.created_unix_us},
          {"tokens", context.tokens},
          {"sealed", context.sealed}};
}

Json ToJson(const client::ContextDescription& description) {
  Json value = ToJson(description.context);
  Json levels = Json::array();
  for (const client::LevelShare& share : description.levels) {
    levels.push_back(
        {{"level", LevelName(share.level)}, {"tokens", share.tokens}, {"bytes", share.bytes}});
  }
  Json summaries = Json::object();
  for (const client::SummaryShare& share : description.summary_shares) {
    summaries[fmt::to_string(share.resolution)] = share.count;
  }
  Json runs = Json::array();
  for (const client::ContextRun& run : description.runs) {
    runs.push_back({{"first_position", run.first_position},
                    {"count", run.count},
                    {"level", LevelName(run.level)},
                    {"bits_per_value", run.bits_per_value},
                    {"index", run.index}});
  }
  value["writer_id"] = fmt::format("{:016x}", description.writer_id);
  value["payloads"] = description.payloads;
  value["payload_bytes"] = description.payload_bytes;
  value["links"] = description.links;
  value["levels"] = levels;
  value["indexed_tokens"] = description.indexed_tokens;
  value["segments"] = description.segments;
  value["index_bytes"] = description.index_bytes;
  value["summaries"] = summaries;
  value["runs"] = runs;
  return value;
}

// "key=value" as a label. Errors: kInvalidArgument.
absl::StatusOr<client::Labels> ParseLabels(const std::vector<std::string>& texts) {
  client::Labels labels;
  for (const std::string& text : texts) {
    const size_t at = text.find('=');
    if (at == std::string::npos || at == 0) {
      return absl::InvalidArgumentError(
          fmt::format("label '{}': it must be KEY=VALUE", Printable(text)));
    }
    labels.emplace_back(text.substr(0, at), text.substr(at + 1));
  }
  return labels;
}

absl::StatusOr<std::vector<client::Context>> Find(Invocation& run,
                                                  const std::vector<std::string>& texts) {
  MNEMO_ASSIGN_OR_RETURN(const client::Labels labels, ParseLabels(texts));
  MNEMO_ASSIGN_OR_RETURN(client::Client * client, run.Connect());
  return client->contexts().List(labels, run.call_options());
}

ExitCode List(Invocation& run, const std::vector<std::string>& labels) {
  const auto contexts = Find(run, labels);
  if (!contexts.ok()) return run.Fail(contexts.status());
  Json value = Json::array();
  Table table({{"NAME"},
               {"ID", false, true},
               {"TOKENS", true},
               {"DIMENSION", true},
               {"METRIC"},
               {"STORED"},
               {"SEALED"},
               {"LABELS"},
               {"CREATED", false, true}});
  for (const client::Context& context : *contexts) {
    value.push_back(ToJson(context));
    table.AddRow({Printable(context.name), fmt::format("{:016x}", context.id),
                  Grouped(context.tokens), fmt::to_string(context.dimension),
                  std::string(MetricName(context.metric)),
                  std::string(StoredName(context.stored_dtype)), context.sealed ? "yes" : "no",
                  LabelsOf(context), Date(context.created_unix_us)});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

std::string SummariesOf(const client::ContextDescription& description) {
  std::string text;
  for (const client::SummaryShare& share : description.summary_shares) {
    text += fmt::format("{}{} of {} tokens", text.empty() ? "" : ", ", Grouped(share.count),
                        Grouped(share.resolution));
  }
  return text.empty() ? "none yet" : text;
}

void PrintContext(std::ostream& out, const client::ContextDescription& description) {
  const client::Context& context = description.context;
  const auto line = [&](std::string_view name, const std::string& value) {
    out << fmt::format("{:<14}{}\n", name, value);
  };
  line("name", Printable(context.name));
  line("id", fmt::format("{:016x}", context.id));
  line("tokens", fmt::format("{}{}", Grouped(context.tokens), context.sealed ? ", sealed" : ""));
  line("embeddings", fmt::format("{} values, {}, {}", context.dimension,
                                 StoredName(context.stored_dtype), MetricName(context.metric)));
  line("labels", LabelsOf(context));
  line("payloads", fmt::format("{}, {}", Grouped(description.payloads),
                               FormatByteSize(description.payload_bytes)));
  line("links", Grouped(description.links));
  line("index", fmt::format("{} of {} tokens in sealed segments; {} segments, {} of RAM",
                            Grouped(description.indexed_tokens), Grouped(context.tokens),
                            description.segments, FormatByteSize(description.index_bytes)));
  line("summaries", SummariesOf(description));
  line("created", Date(context.created_unix_us));
  for (const client::LevelShare& share : description.levels) {
    line(LevelName(share.level),
         fmt::format("{} tokens, {}", Grouped(share.tokens), FormatByteSize(share.bytes)));
  }
  if (context.tokens != 0) out << '\n' << DrawContext(description, kPictureWidth);
}

ExitCode Show(Invocation& run, const std::string& name) {
  const auto context = ParseContext(name);
  if (!context.ok()) return run.Fail(context.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto description =
      (*client)->contexts().Describe(*context, kPictureWidth, run.call_options());
  if (!description.ok()) return run.Fail(description.status());
  run.Print(ToJson(*description), [&](bool) { PrintContext(run.out(), *description); });
  return ExitCode::kOk;
}

struct DeleteOptions {
  std::string name;
  bool dry_run = false;
  bool wait = false;
};

ExitCode Delete(Invocation& run, const DeleteOptions& options) {
  const auto context = ParseContext(options.name);
  if (!context.ok()) return run.Fail(context.status());
  const auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto description = (*client)->contexts().Describe(*context, 1, run.call_options());
  if (!description.ok()) return run.Fail(description.status());
  const std::string what =
      fmt::format("context '{}' with {} tokens", Printable(description->context.name),
                  Grouped(description->context.tokens));
  if (options.dry_run) {
    run.err() << fmt::format("would delete {}\n", what);
    return ExitCode::kOk;
  }
  if (!run.Confirm(fmt::format("Delete {}?", what))) return ExitCode::kFailure;
  const auto deleted = (*client)->contexts().Delete(client::ContextRef(description->context.id),
                                                    options.wait, run.call_options());
  if (!deleted.ok()) return run.Fail(deleted.status());
  run.Print(Json{{"tokens_deleted", *deleted}},
            [&](bool) { run.out() << fmt::format("{} tokens deleted\n", Grouped(*deleted)); });
  return ExitCode::kOk;
}

}  // namespace

absl::StatusOr<client::ContextRef> ParseContext(const std::string& text) {
  // Contexts are named on a command line as spaces are.
  MNEMO_ASSIGN_OR_RETURN(const client::SpaceRef ref, ParseSpace(text));
  if (const auto* id = std::get_if<uint64_t>(&ref.ref)) return client::ContextRef(*id);
  return client::ContextRef(std::get<std::string>(ref.ref));
}

std::string_view TokenKindName(client::TokenKind kind) {
  constexpr std::string_view kNames[] = {"-",    "system",   "user", "assistant",
                                         "tool", "document", "code"};
  const auto index = static_cast<size_t>(kind);
  return index < std::size(kNames) ? kNames[index] : "?";
}

void AddContextCommands(CLI::App& app, Invocation& run) {
  CLI::App* context = app.add_subcommand("context", "streams of token embeddings");
  context->require_subcommand(1);
  CLI::App* list = context->add_subcommand("list", "all contexts, or those with certain labels");
  auto labels = std::make_shared<std::vector<std::string>>();
  list->add_option("-l,--label", *labels, "KEY=VALUE; may be given several times");
  list->callback([&run, labels] { run.action = [&run, labels] { return List(run, *labels); }; });

  auto name = std::make_shared<std::string>();
  CLI::App* show = context->add_subcommand("show", "one context, and what lies where");
  show->add_option("CONTEXT", *name, "a name, or id:HEX")->required();
  show->callback([&run, name] { run.action = [&run, name] { return Show(run, *name); }; });

  AddContextSearch(*context, run);

  auto options = std::make_shared<DeleteOptions>();
  CLI::App* remove = context->add_subcommand("delete", "delete a context and all that is in it");
  remove->add_option("CONTEXT", options->name, "a name, or id:HEX")->required();
  remove->add_flag("--wait", options->wait, "return when the bytes are gone from the disk");
  remove->add_flag("--dry-run", options->dry_run, "only say what would be lost");
  remove->callback(
      [&run, options] { run.action = [&run, options] { return Delete(run, *options); }; });
}

}  // namespace mnemo::cli

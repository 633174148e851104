// mnemoctl context search: near to what a range of tokens means, or to a vector.
#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "client/cli/context_command.h"
#include "storage/base/status_macros.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownText = 60;  // characters of a payload in a table

struct SearchOptions {
  std::string name;
  std::optional<std::string> at;
  std::optional<std::string> vector;
  uint32_t k = 10;
  uint32_t resolution = 1;
  bool text = false;
};

// "FIRST" or "FIRST:COUNT".
absl::StatusOr<std::pair<uint64_t, uint64_t>> ParseRange(const std::string& text) {
  std::pair<uint64_t, uint64_t> range{0, 1};
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, range.first);
  if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == ':') {
    parsed = std::from_chars(parsed.ptr + 1, end, range.second);
  }
  if (parsed.ec == std::errc() && parsed.ptr == end && range.second > 0) return range;
  return absl::InvalidArgumentError(
      fmt::format("--at is '{}'; it must be FIRST or FIRST:COUNT", Printable(text)));
}

absl::StatusOr<std::vector<float>> ReadVector(Invocation& run, const std::string& path) {
  std::string bytes;
  if (path == "-") {
    bytes.assign(std::istreambuf_iterator<char>(run.in()), {});
  } else {
    std::ifstream file(path, std::ios::binary);
    if (!file) return absl::NotFoundError(fmt::format("cannot read {}", path));
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  if (bytes.empty() || bytes.size() % sizeof(float) != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "--vector has {} bytes; it must be little-endian float32 values", bytes.size()));
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

absl::StatusOr<client::SearchResult> Find(Invocation& run, const SearchOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const client::ContextRef context, ParseContext(options.name));
  std::vector<float> query;
  if (options.vector) {
    MNEMO_ASSIGN_OR_RETURN(query, ReadVector(run, *options.vector));
  }
  std::pair<uint64_t, uint64_t> range;
  if (options.at) {
    MNEMO_ASSIGN_OR_RETURN(range, ParseRange(*options.at));
  }
  MNEMO_ASSIGN_OR_RETURN(client::Client * client, run.Connect());
  if (query.empty()) {
    MNEMO_ASSIGN_OR_RETURN(
        const client::RangeSummary summary,
        client->contexts().Summarize(context, range.first, range.second, run.call_options()));
    query = summary.mean;
  }
  return client->contexts().Search({.contexts = {context},
                                    .dimension = static_cast<uint32_t>(query.size()),
                                    .queries = query,
                                    .k = options.k,
                                    .resolution = options.resolution,
                                    .with_payloads = options.text},
                                   run.call_options());
}

Json ToJson(const client::SearchHit& hit) {
  Json value = {{"position", hit.position},
                {"first_position", hit.first_position},
                {"count", hit.count},
                {"score", hit.score},
                {"kind", TokenKindName(hit.kind)},
                {"token_id", hit.token_id},
                {"time_unix_us", hit.time_unix_us},
                {"level", LevelName(hit.level)},
                {"indexed", hit.indexed}};
  if (hit.payload) {
    value["payload"] = {{"first_position", hit.payload->first_position},
                        {"count", hit.payload->count},
                        {"data_hex", Hex(hit.payload->data)}};
  }
  return value;
}

ExitCode Search(Invocation& run, const SearchOptions& options) {
  const auto result = Find(run, options);
  if (!result.ok()) return run.Fail(result.status());
  Json hits = Json::array();
  Table table({{"POSITION", true},
               {"COUNT", true, true},
               {"SCORE", true},
               {"KIND"},
               {"TOKEN", true, true},
               {"LEVEL"},
               {"INDEXED", false, true},
               {"PAYLOAD"}});
  for (const client::SearchHit& hit : result->hits.at(0)) {
    hits.push_back(ToJson(hit));
    const std::string text = hit.payload ? Printable(hit.payload->data.substr(0, kShownText)) : "-";
    table.AddRow({Grouped(hit.position), Grouped(hit.count), fmt::format("{:.4f}", hit.score),
                  std::string(TokenKindName(hit.kind)), fmt::to_string(hit.token_id),
                  std::string(LevelName(hit.level)), hit.indexed ? "yes" : "no", text});
  }
  const client::SearchWork& work = result->work;
  const Json value = {{"hits", hits},
                      {"work",
                       {{"segments", work.segments},
                        {"distances", work.distances},
                        {"reranked", work.reranked},
                        {"unindexed_tokens", work.unindexed_tokens},
                        {"engine_us", work.engine_us}}}};
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  run.err() << fmt::format("{} hits in {:.1f} ms; {} distances in {} segments\n", hits.size(),
                           static_cast<double>(work.engine_us) / 1e3, Grouped(work.distances),
                           work.segments);
  return ExitCode::kOk;
}

}  // namespace

void AddContextSearch(CLI::App& context, Invocation& run) {
  CLI::App* search = context.add_subcommand("search", "what is nearest to a range or a vector");
  auto options = std::make_shared<SearchOptions>();
  search->add_option("CONTEXT", options->name, "a name, or id:HEX")->required();
  CLI::Option* at = search->add_option("--at", options->at,
                                       "FIRST or FIRST:COUNT: near to the mean of these tokens");
  CLI::Option* vector = search->add_option("--vector", options->vector,
                                           "a file of float32 values, or - for standard input");
  at->excludes(vector);
  search->add_option("-k", options->k, "how many hits; 1 to 1,024")->capture_default_str();
  search->add_option("--resolution", options->resolution, "1: tokens; 128, 512 or 2048: summaries")
      ->capture_default_str();
  search->add_flag("--payloads", options->text, "show the payload that covers each hit");
  search->callback([&run, options, at, vector] {
    if (at->count() + vector->count() == 0) throw CLI::RequiredError("--at or --vector");
    run.action = [&run, options] { return Search(run, *options); };
  });
}

}  // namespace mnemo::cli

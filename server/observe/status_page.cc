#include "server/observe/status_page.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/observe/metric_families.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--ink:#1d2530;--dim:#5c6876;--line:#d8dee6;--bg:#fff;--bar:#3b76c4;
--track:#e8edf3;--good:#1c7c3f;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ee;--dim:#98a4b3;--line:#333c47;--bg:#14181d;
--bar:#6aa3ec;--track:#262e38;--good:#6fcf8f;--bad:#ff8a80}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--bg);max-width:76rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.3rem 0}.dim{color:var(--dim)}.good{color:var(--good)}.bad{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.35rem .5rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--dim)}
svg{display:block;width:7rem;height:.7rem}.narrow{width:auto}.track{fill:var(--track)}.fill{fill:var(--bar)}
)";

// For a content policy that allows this one style and no other.
std::string HashOfStyle() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  MNEMO_CHECK(EVP_Digest(kStyle.data(), kStyle.size(), digest, &size, EVP_sha256(), nullptr) == 1);
  unsigned char text[2 * EVP_MAX_MD_SIZE];
  EVP_EncodeBlock(text, digest, static_cast<int>(size));
  return fmt::format("sha256-{}", reinterpret_cast<const char*>(text));
}

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

double HitRatio(const LevelFigures& level) {
  return level.lookups == 0 ? 0
                            : static_cast<double>(level.hits) / static_cast<double>(level.lookups);
}

// A value beside what it is meant to be; green or red once it was measured.
std::string Judged(const std::string& value, bool measured, bool met,
                   const std::string& objective) {
  if (!measured) return R"(<td class="dim">-</td>)";
  if (objective.empty()) return fmt::format("<td>{}</td>", value);
  return fmt::format(R"(<td class="{}">{} {} {}</td>)", met ? "good" : "bad", met ? "✓" : "✗",
                     value, objective);
}

std::string Bar(uint64_t used, uint64_t capacity) {
  const double share =
      capacity == 0 ? 0 : std::min(1.0, static_cast<double>(used) / static_cast<double>(capacity));
  return fmt::format(
      R"(<svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{:.0f} percent">)"
      R"(<rect class="track" width="100" height="8"/><rect class="fill" width="{:.2f}" height="8"/>)"
      R"(</svg>)",
      share * 100, share * 100);
}

std::string LevelRow(size_t index, const LevelFigures& level, const LevelObjective& objective,
                     const LatencyHistogram::Snapshot& times) {
  const Nanos p99 = times.Quantile(0.99);
  const double hit_ratio = HitRatio(level);
  const std::string hits =
      Judged(fmt::format("{:.3f}", hit_ratio), level.lookups > 0, hit_ratio >= objective.hit_ratio,
             objective.hit_ratio > 0 ? fmt::format("of {:.2f}", objective.hit_ratio) : "");
  const std::string latency =
      Judged(FormatDuration(p99), times.count() > 0, p99 <= objective.p99,
             objective.p99.count() > 0 ? fmt::format("of {}", FormatDuration(objective.p99)) : "");
  return fmt::format(
      "<tr><td>{}</td><td>{}</td><td>{} of {}</td><td>{}</td>{}<td>{}</td>{}<td>{}</td><td>{}</td>"
      "<td>{}</td></tr>\n",
      LevelLabel(static_cast<Level>(index)),
      Bar(level.stats.used_bytes, level.stats.capacity_bytes),
      FormatByteSize(level.stats.used_bytes), FormatByteSize(level.stats.capacity_bytes),
      level.parts, hits, times.count() > 0 ? FormatDuration(times.Quantile(0.5)) : "-", latency,
      level.promoted, level.demoted, level.evicted);
}

std::string BudgetRow(std::string_view name, uint64_t used, uint64_t budget) {
  return fmt::format("<tr><td>{}</td><td>{}</td><td>{} of {}</td></tr>\n", name, Bar(used, budget),
                     FormatByteSize(used), FormatByteSize(budget));
}

std::string MethodTable(const std::vector<Metrics::MethodFigures>& methods) {
  if (methods.empty()) return R"(<p class="dim">No calls yet.</p>)";
  std::string table =
      R"(<div class="wide"><table><tr><th>method</th><th>calls</th><th>errors</th><th>p50</th>)"
      "<th>p99</th></tr>\n";
  for (const Metrics::MethodFigures& method : methods) {
    table += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                         Escape(method.method), method.calls, method.errors,
                         FormatDuration(method.p50), FormatDuration(method.p99));
  }
  return table + "</table></div>";
}

Json LevelJson(size_t index, const LevelFigures& level, const LevelObjective& objective,
               const LatencyHistogram::Snapshot& times) {
  return {{"level", LevelLabel(static_cast<Level>(index))},
          {"used_bytes", level.stats.used_bytes},
          {"capacity_bytes", level.stats.capacity_bytes},
          {"parts", level.parts},
          {"lookups", level.lookups},
          {"hits", level.hits},
          {"hit_ratio", HitRatio(level)},
          {"hit_ratio_objective", objective.hit_ratio},
          {"p50_seconds", Seconds(times.Quantile(0.5))},
          {"p99_seconds", Seconds(times.Quantile(0.99))},
          {"p99_objective_seconds", Seconds(objective.p99)},
          {"promoted", level.promoted},
          {"demoted", level.demoted},
          {"evicted", level.evicted}};
}

}  // namespace

StatusPage::StatusPage(const Metrics& metrics, const Health& health, Clock& clock,
                       NodeDescription description, FiguresSource figures)
    : metrics_(metrics),
      health_(health),
      clock_(clock),
      description_(std::move(description)),
      figures_(std::move(figures)),
      style_hash_(HashOfStyle()) {}

HttpResponse StatusPage::Html() const {
  const Health::Phase phase = health_.phase();
  const NodeFigures figures = phase == Health::Phase::kReady ? figures_() : NodeFigures{};
  const ProcessFigures process = ReadProcess();
  const Nanos uptime(clock_.Wall().nanos - description_.started.nanos);

  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\">"
      "<meta http-equiv=\"refresh\" content=\"10\"><title>mnemod {}</title><style>{}</style></head>"
      "<body>\n<h1>mnemod <span class=\"{}\">{}</span></h1>\n",
      Escape(description_.node_id), kStyle, phase == Health::Phase::kReady ? "good" : "bad",
      PhaseName(phase));
  page += fmt::format("<p class=\"dim\">version {}, format {}, node {}, up {}</p>\n",
                      Escape(description_.version), description_.format_version,
                      Escape(description_.node_id), FormatDuration(uptime));
  for (const std::string& address : description_.addresses) {
    page += fmt::format("<p class=\"dim\">{}</p>\n", Escape(address));
  }
  if (description_.insecure) {
    page += "<p class=\"bad\">Insecure: everybody who reaches the port reads and writes.</p>\n";
  }
  if (!description_.recovery.empty()) {
    page += fmt::format("<p>Recovery at start: {}</p>\n", Escape(description_.recovery));
  }
  for (const std::string& problem : health_.problems()) {
    page += fmt::format("<p class=\"bad\">{}</p>\n", Escape(problem));
  }
  page +=
      "<h2>Levels</h2>\n<div class=\"wide\"><table><tr><th>level</th><th></th><th>used</th>"
      "<th>parts</th><th>hit ratio</th><th>p50</th><th>p99</th><th>promoted</th><th>demoted</th>"
      "<th>evicted</th></tr>\n";
  for (size_t i = 0; i < kLevelCount; ++i) {
    page += LevelRow(i, figures.levels[i], description_.objectives[i],
                     metrics_.ReadTimes(static_cast<Level>(i)));
  }
  page += "</table></div>\n<h2>Budgets</h2>\n<div class=\"wide\"><table class=\"narrow\">\n";
  page += BudgetRow("memory", process.resident_bytes, figures.memory_budget_bytes);
  page += BudgetRow("in flight", figures.inflight_bytes, figures.inflight_capacity_bytes);
  page += BudgetRow("disk", figures.disk_used_bytes, figures.disk_budget_bytes);
  page +=
      BudgetRow("contexts at L3", figures.contexts.l3.bytes, figures.contexts.l3_capacity_bytes);
  page += fmt::format("</table></div>\n<h2>Calls</h2>\n{}\n</body></html>\n",
                      MethodTable(metrics_.Methods()));
  return {.content_type = "text/html; charset=utf-8", .body = page, .style_hash = style_hash_};
}

HttpResponse StatusPage::Json() const {
  const Health::Phase phase = health_.phase();
  const NodeFigures figures = phase == Health::Phase::kReady ? figures_() : NodeFigures{};
  nlohmann::ordered_json json = {
      {"node_id", description_.node_id},
      {"version", description_.version},
      {"format_version", description_.format_version},
      {"phase", PhaseName(phase)},
      {"problems", health_.problems()},
      {"recovery", description_.recovery},
      {"insecure", description_.insecure},
      {"uptime_seconds", Seconds(Nanos(clock_.Wall().nanos - description_.started.nanos))},
      {"addresses", description_.addresses},
      {"parts", figures.parts},
      {"spaces", figures.spaces},
      {"memory",
       {{"resident_bytes", ReadProcess().resident_bytes},
        {"budget_bytes", figures.memory_budget_bytes}}},
      {"inflight",
       {{"bytes", figures.inflight_bytes}, {"capacity_bytes", figures.inflight_capacity_bytes}}},
      {"disk",
       {{"used_bytes", figures.disk_used_bytes},
        {"budget_bytes", figures.disk_budget_bytes},
        {"free_bytes", figures.disk_free_bytes}}}};
  const ContextUpkeepFigures& contexts = figures.contexts;
  json["contexts"] = {{"l3_bytes", contexts.l3.bytes},
                      {"l3_capacity_bytes", contexts.l3_capacity_bytes},
                      {"archive_bytes", contexts.archive.bytes},
                      {"waiting", contexts.waiting},
                      {"sweeping", contexts.sweeping},
                      {"summaries", contexts.summaries},
                      {"demoted", contexts.demoted},
                      {"promoted", contexts.promoted},
                      {"failures", contexts.failures}};
  json["levels"] = Json::array();
  for (size_t i = 0; i < kLevelCount; ++i) {
    json["levels"].push_back(LevelJson(i, figures.levels[i], description_.objectives[i],
                                       metrics_.ReadTimes(static_cast<Level>(i))));
  }
  json["methods"] = Json::array();
  for (const Metrics::MethodFigures& method : metrics_.Methods()) {
    json["methods"].push_back({{"method", method.method},
                               {"calls", method.calls},
                               {"errors", method.errors},
                               {"p50_seconds", Seconds(method.p50)},
                               {"p99_seconds", Seconds(method.p99)}});
  }
  return {.content_type = "application/json",
          .body = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"};
}

}  // namespace mnemo

// One long context: summaries of any range, and a start after kill -9.
//
//   bench_contexts_long prepare FOLDER [TOKENS]
//   bench_contexts_long measure FOLDER > long.json
//
// Dimension 256, fp16, durability interval. Preparing ends with kill -9 right
// behind an append, so that the start has a log to replay; prepared again, a
// context that broke off is completed. Measuring begins with that start. A summary's time is what
// its call takes beyond the median of a call for a context that is not there.
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/bench/contexts/context_load.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 256;
constexpr uint64_t kLastTokens = 200'000;  // that are only in the log, at most
constexpr int kSummaries = 5000;
constexpr char kName[] = "long";
constexpr char kMemory[] = "4GiB";

int Prepare(const std::string& folder, uint64_t tokens) {
  RowMaker rows(kDimension, 1);
  const auto daemon = StartDaemon(folder, kMemory);
  const auto client = Connect(*daemon);
  const auto there = Require(client->contexts().Create(ContextOf(kName, kDimension)), "create");
  const uint64_t last = std::min(kLastTokens, tokens / 10);
  const uint64_t first = tokens - last;
  if (there.context.tokens < first) Fill(*client, kName, rows, first - there.context.tokens);
  WaitForWorkers(*client, kName);
  Fill(*client, kName, rows, last);
  daemon->Kill();
  return 0;
}

double MissingContextMs(client::Client& client) {
  const auto began = BenchClock::now();
  if (!absl::IsNotFound(client.contexts().Summarize(uint64_t{1}).status())) {
    std::fprintf(stderr, "there is a context 1\n");
    std::exit(1);
  }
  return Seconds(BenchClock::now() - began) * 1e3;
}

// Ranges of any length, each length's order of magnitude as likely as another.
double SummaryMs(client::Client& client, uint64_t tokens, std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(0, std::log2(static_cast<double>(tokens)));
  const uint64_t count = std::min(tokens, static_cast<uint64_t>(std::exp2(exponent(random))) + 1);
  const uint64_t first = random() % (tokens - count + 1);
  const auto began = BenchClock::now();
  const auto summary = Require(client.contexts().Summarize(kName, first, count), "summarize");
  const double milliseconds = Seconds(BenchClock::now() - began) * 1e3;
  if (summary.count != count || summary.mean.size() != kDimension) {
    std::fprintf(stderr, "a summary of %zu tokens at %zu is of %zu\n", static_cast<size_t>(count),
                 static_cast<size_t>(first), static_cast<size_t>(summary.count));
    std::exit(1);
  }
  return milliseconds;
}

void MeasureSummaries(client::Client& client, uint64_t tokens, nlohmann::ordered_json& out) {
  std::mt19937_64 random(7);
  std::vector<double> whole;
  std::vector<double> empty;
  for (int i = 0; i < kSummaries; ++i) {
    whole.push_back(SummaryMs(client, tokens, random));
    empty.push_back(MissingContextMs(client));
  }
  const double overhead = Percentile(empty, 0.5);
  out["range_summary_p99_ms"] = Percentile(whole, 0.99) - overhead;
  out["range_summary_p50_ms"] = Percentile(whole, 0.5) - overhead;
  out["range_summary_call_p99_ms"] = Percentile(whole, 0.99);
  out["range_summary_empty_call_p50_ms"] = overhead;
  out["range_summary_empty_call_p99_ms"] = Percentile(empty, 0.99);
}

int Measure(const std::string& folder) {
  RowMaker rows(kDimension, 1);
  const std::vector<float> query = rows.DrawQuery();
  nlohmann::ordered_json out;
  const auto began = BenchClock::now();
  const auto since = [began] { return Seconds(BenchClock::now() - began); };
  const auto daemon = StartDaemon(folder, kMemory);
  out["restart_10m_ready_s"] = since();
  const auto client = Connect(*daemon);
  const uint64_t tokens = Require(client->contexts().Summarize(kName), "summarize").count;
  out["restart_10m_summary_s"] = since();
  SearchMs(*client, kName, query);
  out["restart_10m_s"] = since();
  out["restart_10m_tokens"] = tokens;
  out["restart_10m_second_search_ms"] = SearchMs(*client, kName, query);
  WaitForWorkers(*client, kName);
  MeasureSummaries(*client, tokens, out);
  out["range_summary_resident_mib"] = static_cast<double>(daemon->resident_bytes()) / (1 << 20);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  using Numbers = std::vector<uint64_t>;
  return mnemo::RunPrepareOrMeasure(
      argc, argv, mnemo::kName, {10'000'000},
      [](const std::string& folder, const Numbers& n) { return mnemo::Prepare(folder, n[0]); },
      [](const std::string& folder, const Numbers&) { return mnemo::Measure(folder); });
}

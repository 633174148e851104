// Many small contexts: what an idle one costs, a start with all of them, and
// the first search of one.
//
//   bench_contexts_many prepare FOLDER [CONTEXTS [TOKENS]] > written.json
//   bench_contexts_many measure FOLDER [CONTEXTS] > many.json
//
// One context in a hundred has dimension 256, and is what is searched; the
// others have 32, so that a hundred thousand fit on a disk. All fp16, durability
// interval. Preparing ends with kill -9 behind the last append; measuring begins
// with the start after it.
//
// idle_bytes_per_context is resident memory of the daemon: after that start, over
// a daemon with an empty folder. Both have 256 MiB, so that the caches, which fill
// with whatever is there up to their bounds, are a small part of it. idle_bytes_per_context_written
// is how much it grew, for each context, while the second half of them was written.
#include <nlohmann/json.hpp>

#include "tests/bench/contexts/context_load.h"

namespace mnemo {
namespace {

constexpr uint64_t kSearchedEach = 100;
constexpr uint32_t kSearchedDimension = 256;
constexpr uint32_t kOtherDimension = 32;
constexpr char kMeasuredMemory[] = "256MiB";
constexpr uint64_t kWriters = 4;
constexpr uint64_t kSearches = 500;  // of each kind, at most

std::string NameOf(uint64_t number) { return "context-" + std::to_string(number); }
uint32_t DimensionOf(uint64_t number) {
  return number % kSearchedEach == 0 ? kSearchedDimension : kOtherDimension;
}

// Contexts [first, end), each by one of the writers.
void Write(client::Client& client, uint64_t first, uint64_t end, uint64_t tokens) {
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < kWriters; ++w) {
    writers.emplace_back([&client, w, first, end, tokens] {
      RowMaker large(kSearchedDimension, w);
      RowMaker small(kOtherDimension, w);
      for (uint64_t i = first + w; i < end; i += kWriters) {
        const std::string name = NameOf(i);
        Require(client.contexts().Create(ContextOf(name, DimensionOf(i)), kPatient), "create");
        Fill(client, name, DimensionOf(i) == kSearchedDimension ? large : small, tokens);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

int Prepare(const std::string& folder, uint64_t contexts, uint64_t tokens) {
  const auto daemon = StartDaemon(folder, "1GiB");
  const auto client = Connect(*daemon);
  Write(*client, 0, contexts / 2, tokens);
  const uint64_t half = SettledBytes(*daemon);
  const auto began = BenchClock::now();
  Write(*client, contexts / 2, contexts, tokens);
  const double seconds = Seconds(BenchClock::now() - began);
  const uint64_t all = SettledBytes(*daemon);
  daemon->Kill();
  nlohmann::ordered_json out;
  out["contexts_written_per_second"] = static_cast<double>(contexts - contexts / 2) / seconds;
  out["idle_bytes_per_context_written"] = (static_cast<double>(all) - static_cast<double>(half)) /
                                          static_cast<double>(contexts - contexts / 2);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

// First searches of `count` contexts that nobody has searched, from `number` on.
std::vector<double> FirstSearches(client::Client& client, uint64_t number, uint64_t count) {
  RowMaker rows(kSearchedDimension, 99);
  std::vector<double> milliseconds;
  for (uint64_t i = 0; i < count; ++i) {
    milliseconds.push_back(
        SearchMs(client, NameOf((number + i) * kSearchedEach), rows.DrawQuery()));
  }
  return milliseconds;
}

int Measure(const std::string& folder, uint64_t contexts) {
  const uint64_t searched = (contexts - 1) / kSearchedEach;
  const uint64_t searches = std::min(kSearches, searched / 2);
  if (searches == 0) {
    std::fprintf(stderr, "at least 201 contexts\n");
    return 2;
  }
  nlohmann::ordered_json out;
  const uint64_t empty = SettledBytes(*StartDaemon(folder + "-empty", kMeasuredMemory));

  RowMaker rows(kSearchedDimension, 3);
  const std::vector<float> query = rows.DrawQuery();
  const auto began = BenchClock::now();
  const auto daemon = StartDaemon(folder, kMeasuredMemory);
  out["restart_100k_contexts_ready_s"] = Seconds(BenchClock::now() - began);
  const auto client = Connect(*daemon);
  SearchMs(*client, NameOf(0), query);
  out["restart_100k_contexts_s"] = Seconds(BenchClock::now() - began);
  out["restart_contexts"] = contexts;

  const uint64_t idle = SettledBytes(*daemon);
  out["idle_bytes_per_context"] =
      (static_cast<double>(idle) - static_cast<double>(empty)) / static_cast<double>(contexts);
  out["idle_resident_mib"] = static_cast<double>(idle) / (1 << 20);

  std::vector<double> first = FirstSearches(*client, 1, searches);
  out["first_search_cold_p50_ms"] = Percentile(first, 0.5);
  out["first_search_cold_p99_ms"] = Percentile(first, 0.99);
  DropFromPageCache(folder);
  std::vector<double> dropped = FirstSearches(*client, 1 + searches, searches);
  out["first_search_dropped_p50_ms"] = Percentile(dropped, 0.5);
  out["first_search_dropped_p99_ms"] = Percentile(dropped, 0.99);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  using Numbers = std::vector<uint64_t>;
  return mnemo::RunPrepareOrMeasure(
      argc, argv, "many", {100'000, 1000},
      [](const std::string& folder, const Numbers& n) {
        return mnemo::Prepare(folder, n[0], n[1]);
      },
      [](const std::string& folder, const Numbers& n) { return mnemo::Measure(folder, n[0]); });
}

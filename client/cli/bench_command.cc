// mnemoctl bench: what this daemon gives this host, now.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "storage/base/clock.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

using Json = nlohmann::ordered_json;
using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kLargestPart = 64 * kMiB;
constexpr int kMatchKeys = 256;

struct BenchOptions {
  std::string size = "2MiB";
  uint32_t count = 64;
};

struct Figures {
  std::string name;
  uint64_t bytes_each = 0;
  std::vector<double> seconds;

  double Percentile(double share) const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
    return sorted[std::max<size_t>(rank, 1) - 1];
  }
  double GigabytesPerSecond() const {
    double total = 0;
    for (const double s : seconds) total += s;
    return static_cast<double>(bytes_each * seconds.size()) / total / 1e9;
  }
};

// A space of its own, deleted however the run ends.
class ScratchSpace {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchSpace>> Make(client::Client& client) {
    std::random_device entropy;
    client::Space space{
        .name = fmt::format("mnemoctl-bench-{:08x}", entropy()),
        .tokens_per_block = 256,
        .groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}}};
    space.policy.time_to_live_seconds = 3600;  // should this process be killed
    MNEMO_ASSIGN_OR_RETURN(const auto opened, client.spaces().Open(space));
    return std::unique_ptr<ScratchSpace>(new ScratchSpace(client, opened.space.id));
  }
  ~ScratchSpace() {
    // Nothing is left to do about a failure; the time to live sees to it.
    (void)client_.spaces().Delete(client::SpaceRef(id_));
  }
  client::SpaceRef ref() const { return id_; }

 private:
  ScratchSpace(client::Client& client, uint64_t id) : client_(client), id_(id) {}
  client::Client& client_;
  const uint64_t id_;
};

class Bench {
 public:
  Bench(Invocation& run, client::Client& client, const ScratchSpace& space, uint64_t bytes,
        uint32_t count)
      : run_(run), client_(client), space_(space), count_(count), payload_(bytes), back_(bytes) {
    std::mt19937_64 random(count);
    for (size_t i = 0; i + 8 <= payload_.size(); i += 8) {
      const uint64_t word = random();
      std::copy_n(reinterpret_cast<const uint8_t*>(&word), 8, payload_.data() + i);
    }
    for (uint32_t i = 0; i < std::max<uint32_t>(count, kMatchKeys); ++i) {
      keys_.push_back(fmt::format("block-{:08}", i));
    }
  }

  absl::StatusOr<std::vector<Figures>> Run() {
    std::vector<Figures> all;
    MNEMO_ASSIGN_OR_RETURN(Figures put,
                           Repeat("put", payload_.size(), [&](uint32_t i) { return Put(i); }));
    MNEMO_ASSIGN_OR_RETURN(Figures get,
                           Repeat("get", payload_.size(), [&](uint32_t i) { return Get(i); }));
    MNEMO_ASSIGN_OR_RETURN(Figures match, Repeat("match", 0, [&](uint32_t) { return Match(); }));
    all.push_back(std::move(put));
    all.push_back(std::move(get));
    all.push_back(std::move(match));
    return all;
  }

 private:
  absl::StatusOr<Figures> Repeat(std::string name, uint64_t bytes,
                                 const std::function<absl::Status(uint32_t)>& once) {
    Figures figures{.name = std::move(name), .bytes_each = bytes};
    std::ostream* terminal = run_.surroundings().messages_on_terminal ? &run_.err() : nullptr;
    const SystemClock clock;
    Progress progress(terminal, clock, figures.name, count_, bytes);
    for (uint32_t i = 0; i < count_; ++i) {
      const auto start = SteadyClock::now();
      MNEMO_RETURN_IF_ERROR(once(i));
      figures.seconds.push_back(std::chrono::duration<double>(SteadyClock::now() - start).count());
      progress.Update(i + 1);
    }
    return figures;
  }
  absl::Status Put(uint32_t i) {
    client::PutRequest request{.space = space_.ref()};
    // Other bytes for every block.
    std::copy_n(reinterpret_cast<const uint8_t*>(&i), std::min<size_t>(4, payload_.size()),
                payload_.data());
    request.parts = {{.key = keys_[i],
                      .data = payload_,
                      .depth = i,
                      .parent = i == 0 ? std::string_view() : std::string_view(keys_[i - 1])}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, client_.blocks().Put(request, run_.call_options()));
    return result.parts[0].status;
  }
  absl::Status Get(uint32_t i) {
    const std::string_view key = keys_[i];
    const client::Destination destination{.memory = back_};
    client::GetRequest request{.space = space_.ref()};
    request.keys = {&key, 1};
    request.destinations = {&destination, 1};
    request.verify = true;
    MNEMO_ASSIGN_OR_RETURN(const auto result, client_.blocks().Get(request, run_.call_options()));
    return result.parts[0].status;
  }
  absl::Status Match() {
    const std::vector<std::string_view> views = client::ViewsOf(std::span(keys_).first(kMatchKeys));
    client::MatchRequest request{.space = space_.ref()};
    request.keys = views;
    return client_.blocks().Match(request, run_.call_options()).status();
  }

  Invocation& run_;
  client::Client& client_;
  const ScratchSpace& space_;
  const uint32_t count_;
  std::vector<uint8_t> payload_;
  std::vector<uint8_t> back_;
  std::vector<std::string> keys_;
};

absl::StatusOr<std::vector<Figures>> Measure(Invocation& run, const BenchOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const uint64_t bytes, ParseByteSize(options.size));
  if (bytes < 8 || bytes > kLargestPart) {
    return absl::InvalidArgumentError(fmt::format("--size is {}; it must be 8B to {}", options.size,
                                                  FormatByteSize(kLargestPart)));
  }
  MNEMO_ASSIGN_OR_RETURN(client::Client * client, run.Connect());
  MNEMO_ASSIGN_OR_RETURN(const auto space, ScratchSpace::Make(*client));
  return Bench(run, *client, *space, bytes, options.count).Run();
}

ExitCode RunBench(Invocation& run, const BenchOptions& options) {
  const auto figures = Measure(run, options);
  if (!figures.ok()) return run.Fail(figures.status());
  Json value = Json::array();
  Table table(
      {{"CALL"}, {"SIZE", true}, {"CALLS", true}, {"P50", true}, {"P99", true}, {"GB/S", true}});
  for (const Figures& call : *figures) {
    const auto time = [&](double share) {
      return std::chrono::nanoseconds(static_cast<int64_t>(call.Percentile(share) * 1e9));
    };
    const bool payload = call.bytes_each != 0;
    value.push_back({{"call", call.name},
                     {"bytes", call.bytes_each},
                     {"calls", call.seconds.size()},
                     {"p50_us", static_cast<double>(time(0.5).count()) / 1e3},
                     {"p99_us", static_cast<double>(time(0.99).count()) / 1e3},
                     {"gb_per_second", payload ? call.GigabytesPerSecond() : 0.0}});
    table.AddRow(
        {call.name, payload ? FormatByteSize(call.bytes_each) : fmt::format("{} keys", kMatchKeys),
         fmt::to_string(call.seconds.size()), FormatDuration(time(0.5)), FormatDuration(time(0.99)),
         payload ? fmt::format("{:.2f}", call.GigabytesPerSecond()) : "-"});
  }
  run.Print(value, [&](bool wide) { table.Print(run.out(), wide); });
  return ExitCode::kOk;
}

}  // namespace

void AddBenchCommand(CLI::App& app, Invocation& run) {
  CLI::App* bench =
      app.add_subcommand("bench", "time put, get and match in a space made for it and deleted");
  auto options = std::make_shared<BenchOptions>();
  bench->add_option("--size", options->size, "bytes of a block")->capture_default_str();
  bench->add_option("--count", options->count, "calls of each kind")
      ->check(CLI::Range(1u, 100000u))
      ->capture_default_str();
  bench->callback(
      [&run, options] { run.action = [&run, options] { return RunBench(run, *options); }; });
}

}  // namespace mnemo::cli

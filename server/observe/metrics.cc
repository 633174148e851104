#include "server/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>

#include "server/observe/metric_families.h"

namespace mnemo {
namespace {

using prometheus::Counter;
using prometheus::MetricType;

constexpr size_t kClasses = 4;
constexpr size_t kCodes = 17;
constexpr std::string_view kClassLabels[kClasses] = {"critical", "default", "batch", "background"};
constexpr std::string_view kOther = "other";

// From 10 microseconds to 100 seconds, at 1, 2.5 and 5 of each decade.
std::vector<Nanos> CallLimits() {
  std::vector<Nanos> limits;
  for (int64_t decade = 10'000; decade <= 10'000'000'000; decade *= 10) {
    for (const int64_t tenths : {10, 25, 50}) limits.emplace_back(decade / 10 * tenths);
  }
  return limits;
}

// Reads are quicker, and judged by their objectives, which are limits here.
std::vector<Nanos> ReadLimits() {
  std::vector<Nanos> limits;
  for (int64_t decade = 1'000; decade <= 1'000'000'000; decade *= 10) {
    for (const int64_t tenths : {10, 25, 50}) limits.emplace_back(decade / 10 * tenths);
  }
  return limits;
}

std::string CodeLabel(size_t code) {
  return code == 0 ? "OK" : absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

Counter& MakeCounter(prometheus::Registry& registry, const std::string& name,
                     const std::string& help, const prometheus::Labels& labels = {}) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

// By level, made at once: four series each.
using LevelCounters = std::array<Counter*, kLevelCount>;
LevelCounters MakeLevelCounters(prometheus::Registry& registry, const std::string& name,
                                const std::string& help) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  LevelCounters counters{};
  for (size_t i = 0; i < kLevelCount; ++i) {
    counters[i] = &family.Add({{"level", std::string(LevelLabel(static_cast<Level>(i)))}});
  }
  return counters;
}

using OutcomeCounters = std::array<Counter*, kAuthOutcomeCount>;
OutcomeCounters MakeOutcomeCounters(prometheus::Registry& registry) {
  auto& family = prometheus::BuildCounter()
                     .Name("mnemo_authentications_total")
                     .Help("Calls by whether the gate knew their caller and let it in.")
                     .Register(registry);
  OutcomeCounters counters{};
  for (size_t i = 0; i < kAuthOutcomeCount; ++i) {
    const auto outcome = static_cast<AuthOutcome>(i);
    counters[i] = &family.Add({{"outcome", std::string(AuthOutcomeLabel(outcome))}});
  }
  return counters;
}

// One method's counters; a series appears with its first event.
struct MethodSeries {
  std::array<std::array<std::atomic<Counter*>, kCodes>, kClasses> finished{};
  LatencyHistogram took;
};

}  // namespace

std::string_view CallClassLabel(CallClass call_class) {
  return kClassLabels[static_cast<size_t>(call_class)];
}

struct Metrics::Series {
  Series(prometheus::Registry& registry, const std::vector<std::string>& names)
      : requests(prometheus::BuildCounter()
                     .Name("mnemo_grpc_requests_total")
                     .Help("Calls answered, by method, status code and class.")
                     .Register(registry)),
        shed(prometheus::BuildCounter()
                 .Name("mnemo_shed_total")
                 .Help("Calls refused by the gate, by class and reason.")
                 .Register(registry)),
        authentications(MakeOutcomeCounters(registry)),
        lookup_tokens(MakeCounter(registry, "mnemo_lookup_tokens_total",
                                  "Tokens whose blocks were asked for by Match.")),
        hit_tokens(MakeLevelCounters(registry, "mnemo_hit_tokens_total",
                                     "Tokens found by Match, by the level they lay at.")),
        read_bytes(MakeLevelCounters(registry, "mnemo_read_bytes_total",
                                     "Exact bytes of parts read, by the level that answered.")),
        read_misses(MakeCounter(registry, "mnemo_read_misses_total",
                                "Reads of parts that are not there.")) {
    for (const std::string& name : names) methods.try_emplace(name);
    methods.try_emplace(std::string(kOther));
  }

  MethodSeries& MethodOf(std::string_view name) {
    const auto found = methods.find(name);
    return found != methods.end() ? found->second : methods.find(kOther)->second;
  }

  prometheus::Family<Counter>& requests;
  prometheus::Family<Counter>& shed;
  OutcomeCounters authentications;
  Counter& lookup_tokens;
  LevelCounters hit_tokens;
  LevelCounters read_bytes;
  Counter& read_misses;
  std::map<std::string, MethodSeries, std::less<>> methods;  // its keys never change
  std::array<LatencyHistogram, kClasses> queue_delay;
  std::array<LatencyHistogram, kLevelCount> read_times;
  LatencyHistogram log_sync;
};

Metrics::Metrics(prometheus::Registry& registry, const std::vector<std::string>& methods)
    : series_(std::make_unique<Series>(registry, methods)) {}
Metrics::~Metrics() = default;

void Metrics::OnMatch(uint64_t tokens, const uint64_t (&hit_tokens)[kLevelCount]) {
  series_->lookup_tokens.Increment(static_cast<double>(tokens));
  for (size_t i = 0; i < kLevelCount; ++i) {
    if (hit_tokens[i] > 0) series_->hit_tokens[i]->Increment(static_cast<double>(hit_tokens[i]));
  }
}

void Metrics::OnRead(Level level, uint64_t bytes, Nanos took) {
  const auto index = static_cast<size_t>(level);
  series_->read_bytes[index]->Increment(static_cast<double>(bytes));
  series_->read_times[index].Record(took);
}

void Metrics::OnMiss() { series_->read_misses.Increment(); }

void Metrics::OnQueued(CallClass call_class, Nanos waited) {
  series_->queue_delay[static_cast<size_t>(call_class)].Record(waited);
}

void Metrics::OnShed(CallClass call_class, std::string_view reason) {
  series_->shed
      .Add({{"class", std::string(CallClassLabel(call_class))}, {"reason", std::string(reason)}})
      .Increment();
}

void Metrics::OnFinished(std::string_view method, CallClass call_class, absl::StatusCode code,
                         Nanos took) {
  MethodSeries& series = series_->MethodOf(method);
  const size_t number = std::min(static_cast<size_t>(code), kCodes - 1);
  std::atomic<Counter*>& slot = series.finished[static_cast<size_t>(call_class)][number];
  Counter* counter = slot.load(std::memory_order_acquire);
  if (counter == nullptr) {
    // Two threads may come here at once: the family gives both the same one.
    const auto found = series_->methods.find(method);
    counter = &series_->requests.Add(
        {{"method", found != series_->methods.end() ? found->first : std::string(kOther)},
         {"class", std::string(CallClassLabel(call_class))},
         {"code", CodeLabel(number)}});
    slot.store(counter, std::memory_order_release);
  }
  counter->Increment();
  series.took.Record(took);
}

void Metrics::OnAuthenticated(AuthOutcome outcome) {
  series_->authentications[static_cast<size_t>(outcome)]->Increment();
}

void Metrics::OnLogSync(Nanos took) { series_->log_sync.Record(took); }

LatencyHistogram::Snapshot Metrics::ReadTimes(Level level) const {
  return series_->read_times[static_cast<size_t>(level)].Read();
}

std::vector<Metrics::MethodFigures> Metrics::Methods() const {
  std::vector<MethodFigures> methods;
  for (const auto& [name, series] : series_->methods) {
    const LatencyHistogram::Snapshot took = series.took.Read();
    if (took.count() == 0) continue;
    MethodFigures figures{.method = name,
                          .calls = took.count(),
                          .errors = 0,
                          .p50 = took.Quantile(0.5),
                          .p99 = took.Quantile(0.99)};
    for (const auto& codes : series.finished) {
      for (size_t code = 1; code < kCodes; ++code) {
        const Counter* counter = codes[code].load(std::memory_order_acquire);
        if (counter != nullptr) figures.errors += static_cast<uint64_t>(counter->Value());
      }
    }
    methods.push_back(std::move(figures));
  }
  return methods;
}

std::vector<prometheus::MetricFamily> Metrics::CollectHistograms() const {
  const std::vector<Nanos> call_limits = CallLimits();
  const std::vector<Nanos> read_limits = ReadLimits();
  MetricFamilyBuilder calls("mnemo_grpc_request_duration_seconds",
                            "Time from a call's start to its answer, by method.",
                            MetricType::Histogram);
  for (const auto& [name, series] : series_->methods) {
    const LatencyHistogram::Snapshot took = series.took.Read();
    if (took.count() > 0) calls.Add(took, call_limits, {{"method", name}});
  }
  MetricFamilyBuilder queues("mnemo_queue_delay_seconds",
                             "Time that admitted calls waited for a thread, by class.",
                             MetricType::Histogram);
  for (size_t i = 0; i < kClasses; ++i) {
    queues.Add(series_->queue_delay[i].Read(), call_limits,
               {{"class", std::string(kClassLabels[i])}});
  }
  MetricFamilyBuilder reads("mnemo_level_latency_seconds",
                            "Time from a decoded request to a part's bytes in hand, by level.",
                            MetricType::Histogram);
  for (size_t i = 0; i < kLevelCount; ++i) {
    reads.Add(series_->read_times[i].Read(), read_limits,
              {{"level", std::string(LevelLabel(static_cast<Level>(i)))}});
  }
  MetricFamilyBuilder syncs("mnemo_wal_fsync_duration_seconds",
                            "Time that a sync of a write-ahead log took.", MetricType::Histogram);
  syncs.Add(series_->log_sync.Read(), call_limits);
  return {calls.Take(), queues.Take(), reads.Take(), syncs.Take()};
}

}  // namespace mnemo

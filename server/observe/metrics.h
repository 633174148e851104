// What happened, counted: calls, queues, reads, syncs.
//
// What must add up, on one scrape of an idle daemon:
//   sum over code and class of mnemo_grpc_requests_total{method}
//       = mnemo_grpc_request_duration_seconds_count{method}
//   sum over level of mnemo_hit_tokens_total <= mnemo_lookup_tokens_total
//   mnemo_level_lookups_total{level} - mnemo_level_hits_total{level}
//       = mnemo_level_lookups_total{next level}; 0 after the last
//   mnemo_level_latency_seconds_count{level} = mnemo_level_hits_total{level}
//   mnemo_authentications_total{unauthenticated}
//       <= sum over method of mnemo_grpc_requests_total{UNAUTHENTICATED}
//   mnemo_authentications_total{denied}
//       <= sum over method of mnemo_grpc_requests_total{PERMISSION_DENIED}
//   mnemo_prefetch_asked_parts_total{origin} = mnemo_prefetch_waiting_parts{origin}
//       + sum over result of mnemo_prefetch_parts_total{origin}
//   mnemo_prefetch_used_parts_total{origin} <= mnemo_prefetch_parts_total{origin,brought}
//   mnemo_streams = mnemo_streams_opened_total - sum over reason of mnemo_streams_closed_total
//   mnemo_level_live_bytes <= mnemo_level_used_bytes
//   mnemo_block_idle_before_evict_seconds_count = sum of mnemo_evictions_total
//   mnemo_context_runs{archive} = mnemo_context_moves_total{archive}
//       - mnemo_context_moves_total{l3_disk}, of a daemon that began without contexts
//       and deleted none
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/engine/call.h"
#include "server/engine/engine_observer.h"
#include "server/identity/identity.h"
#include "server/observe/latency.h"
#include "storage/tier/block_level.h"

namespace prometheus {
class Registry;
struct MetricFamily;
}  // namespace prometheus

namespace mnemo {

// "critical", "default", "batch", "background": the label of metrics.
std::string_view CallClassLabel(CallClass call_class);

// Thread-safe. Counting neither blocks nor allocates, but for the first event
// of its kind.
class Metrics final : public EngineObserver {
 public:
  // Counters live in `registry`, which outlives this. A call of a method that
  // is not among `methods` counts as "other", so that no client can make
  // series.
  Metrics(prometheus::Registry& registry, const std::vector<std::string>& methods);
  ~Metrics() override;

  // The engine.
  void OnMatch(uint64_t tokens, const uint64_t (&hit_tokens)[kLevelCount]) override;
  void OnRead(Level level, uint64_t bytes, Nanos took) override;
  void OnMiss() override;
  // Nothing: the store counts damage where it finds it, and is asked for it.
  void OnCorruption(Level level) override {}

  // The gate.
  void OnQueued(CallClass call_class, Nanos waited);
  // `reason` is a literal such as "queue-full".
  void OnShed(CallClass call_class, std::string_view reason);
  void OnFinished(std::string_view method, CallClass call_class, absl::StatusCode code, Nanos took);
  void OnAuthenticated(AuthOutcome outcome);

  // The file system beneath the store.
  void OnLogSync(Nanos took);

  // Durations of reads answered at `level`.
  LatencyHistogram::Snapshot ReadTimes(Level level) const;

  struct MethodFigures {
    std::string method;
    uint64_t calls = 0;
    uint64_t errors = 0;  // answered with another code than OK
    Nanos p50{0};
    Nanos p99{0};
  };
  // Methods that were called, by name.
  std::vector<MethodFigures> Methods() const;

  // The histograms; the counters are in the registry.
  std::vector<prometheus::MetricFamily> CollectHistograms() const;

 private:
  struct Series;
  const std::unique_ptr<Series> series_;
};

}  // namespace mnemo

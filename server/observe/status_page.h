// The status page and its JSON twin.
#pragma once

#include <string>

#include "server/observe/http_server.h"
#include "server/observe/metrics.h"
#include "server/observe/node_figures.h"

namespace mnemo {

// Read-only pages that show the same figures: "/" for people, "/status.json"
// for programs. Thread-safe; what is handed in outlives it.
//
// JSON, all of it always there: node_id, version, format_version, phase,
// problems [text], recovery, insecure, uptime_seconds, addresses [text],
// parts, spaces, memory {resident_bytes, budget_bytes}, inflight {bytes,
// capacity_bytes}, disk {used_bytes, budget_bytes, free_bytes}, levels [{level,
// used_bytes, capacity_bytes, parts, lookups, hits, hit_ratio,
// hit_ratio_objective, p50_seconds, p99_seconds, p99_objective_seconds,
// promoted, demoted, evicted}], methods [{method, calls, errors, p50_seconds,
// p99_seconds}].
class StatusPage {
 public:
  StatusPage(const Metrics& metrics, const Health& health, Clock& clock,
             NodeDescription description, FiguresSource figures);

  HttpResponse Html() const;
  HttpResponse Json() const;

 private:
  const Metrics& metrics_;
  const Health& health_;
  Clock& clock_;
  const NodeDescription description_;
  const FiguresSource figures_;
  const std::string style_hash_;
};

}  // namespace mnemo

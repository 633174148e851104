// Families of metrics whose values are read when somebody scrapes.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "server/observe/latency.h"

namespace mnemo {

// Label names and values.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// Collects values under one name. Not thread-safe.
class MetricFamilyBuilder {
 public:
  MetricFamilyBuilder(std::string name, std::string help, prometheus::MetricType type);

  MetricFamilyBuilder& Add(double value, const MetricLabels& labels = {});
  // `limits` as of LatencyHistogram::Snapshot::CountUpTo.
  MetricFamilyBuilder& Add(const LatencyHistogram::Snapshot& durations,
                           const std::vector<Nanos>& limits, const MetricLabels& labels = {});
  // Counts of what took at most limits[i] and more than the limit before; the
  // last of `counts` holds the rest.
  MetricFamilyBuilder& AddHistogram(std::span<const uint64_t> counts,
                                    std::span<const std::chrono::seconds> limits, Nanos sum,
                                    const MetricLabels& labels = {});
  prometheus::MetricFamily Take() { return std::move(family_); }

 private:
  prometheus::ClientMetric& Append(const MetricLabels& labels);
  prometheus::MetricFamily family_;
};

inline double Seconds(Nanos duration) { return static_cast<double>(duration.count()) / 1e9; }

}  // namespace mnemo

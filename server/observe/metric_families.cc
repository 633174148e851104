#include "server/observe/metric_families.h"

namespace mnemo {

MetricFamilyBuilder::MetricFamilyBuilder(std::string name, std::string help,
                                         prometheus::MetricType type) {
  family_.name = std::move(name);
  family_.help = std::move(help);
  family_.type = type;
}

prometheus::ClientMetric& MetricFamilyBuilder::Append(const MetricLabels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  family_.metric.push_back(std::move(metric));
  return family_.metric.back();
}

MetricFamilyBuilder& MetricFamilyBuilder::Add(double value, const MetricLabels& labels) {
  prometheus::ClientMetric& metric = Append(labels);
  if (family_.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return *this;
}

MetricFamilyBuilder& MetricFamilyBuilder::Add(const LatencyHistogram::Snapshot& durations,
                                              const std::vector<Nanos>& limits,
                                              const MetricLabels& labels) {
  prometheus::ClientMetric::Histogram& histogram = Append(labels).histogram;
  histogram.sample_count = durations.count();
  histogram.sample_sum = Seconds(durations.sum());
  for (const Nanos limit : limits) {
    histogram.bucket.push_back({durations.CountUpTo(limit), Seconds(limit)});
  }
  return *this;
}

MetricFamilyBuilder& MetricFamilyBuilder::AddHistogram(std::span<const uint64_t> counts,
                                                       std::span<const std::chrono::seconds> limits,
                                                       Nanos sum, const MetricLabels& labels) {
  prometheus::ClientMetric::Histogram& histogram = Append(labels).histogram;
  uint64_t count = 0;
  for (size_t i = 0; i < limits.size(); ++i) {
    count += counts[i];
    histogram.bucket.push_back({count, Seconds(limits[i])});
  }
  histogram.sample_count = count + counts.back();
  histogram.sample_sum = Seconds(sum);
  return *this;
}

}  // namespace mnemo

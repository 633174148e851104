// The text of /metrics.
#pragma once

#include <string>

#include "server/observe/metrics.h"
#include "server/observe/node_figures.h"

namespace mnemo {

// Everything there is to scrape. Thread-safe; what is handed in outlives it.
class Scrape {
 public:
  Scrape(const prometheus::Registry& registry, const Metrics& metrics, const Health& health,
         NodeDescription description, FiguresSource figures);

  // Prometheus text format, families by name. While the daemon starts or stops
  // the levels are not asked, and their families are absent.
  std::string Text() const;

 private:
  const prometheus::Registry& registry_;
  const Metrics& metrics_;
  const Health& health_;
  const NodeDescription description_;
  const FiguresSource figures_;
};

// Measured over objective, so that at least 1 is met: hit ratio over its
// objective, and the objective of the 99th percentile over what it is.
struct ObjectiveRatio {
  std::string objective;  // "l1_ram_p99", "l1_ram_hit_ratio"
  double ratio = 0;
};
// Of objectives that something was measured for.
std::vector<ObjectiveRatio> ObjectiveRatios(const LevelObjectives& objectives,
                                            const Metrics& metrics, const NodeFigures& figures);

}  // namespace mnemo

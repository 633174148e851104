// Streams, counted for metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "server/observe/node_figures.h"
#include "server/transfer/region_table.h"
#include "server/transfer/stream_observer.h"

namespace mnemo {

// Thread-safe.
class StreamCounts final : public StreamObserver {
 public:
  void OnStreamOpened() override;
  void OnStreamClosed(stream::CloseReason reason) override;
  // With those of `regions`; null: no streams are served.
  StreamFigures Figures(const RegionLedger* regions) const;

 private:
  std::atomic<uint64_t> opened_{0};
  std::array<std::atomic<uint64_t>, stream::kCloseReasonCount> closed_{};
};

}  // namespace mnemo

// What is read when somebody looks: levels, budgets, process.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/engine/context_upkeep_figures.h"
#include "server/engine/prefetch_queue.h"
#include "server/engine/stored_context_engine.h"
#include "server/observe/health.h"
#include "storage/base/clock.h"
#include "storage/block/block_store.h"

namespace mnemo {

// What a level is meant to reach.
struct LevelObjective {
  Nanos p99{0};          // 0: none
  double hit_ratio = 0;  // 0: none
};
using LevelObjectives = std::array<LevelObjective, kLevelCount>;

// Streams, and memory of clients.
struct StreamFigures {
  uint64_t open = 0;
  uint64_t opened = 0;
  // By reason, those that have ended; every reason is there.
  std::vector<std::pair<std::string_view, uint64_t>> closed;
  struct Memory {
    std::string_view form;  // "mapped", "shared", "process", "staging"
    uint64_t regions = 0;   // now
    uint64_t bytes = 0;     // of these
    uint64_t registered = 0;
    uint64_t refused = 0;
    uint64_t bytes_in = 0;
    uint64_t bytes_out = 0;
    uint64_t failed_copies = 0;
  };
  std::vector<Memory> memory;
};

// The node at one moment.
struct NodeFigures {
  std::array<LevelFigures, kLevelCount> levels{};
  BlockStoreCounters counters;
  uint64_t reencoding_parts_left = 0;
  std::vector<CodecFigures> codecs;
  ContextUpkeepFigures contexts;
  uint64_t parts = 0;
  uint64_t spaces = 0;
  ContextIndexFigures index;
  uint64_t inflight_bytes = 0;
  uint64_t inflight_capacity_bytes = 0;
  uint64_t memory_budget_bytes = 0;
  uint64_t disk_budget_bytes = 0;
  uint64_t disk_used_bytes = 0;
  uint64_t disk_free_bytes = 0;
  std::array<PrefetchFigures, kPrefetchOrigins> prefetches{};
  StreamFigures streams;
  std::optional<WallTime> certificate_expires;  // none: no TLS
};
// Called on the threads that serve pages.
using FiguresSource = std::function<NodeFigures()>;

// What does not change while the process lives.
struct NodeDescription {
  std::string version;
  uint32_t format_version = 0;
  std::string node_id;
  WallTime started;
  bool insecure = false;
  std::vector<std::string> addresses;  // "grpc=127.0.0.1:7070"
  std::string recovery;                // what the start found; empty: a clean stop
  LevelObjectives objectives{};
};

// This process, from /proc; zeros where that cannot be read.
struct ProcessFigures {
  uint64_t resident_bytes = 0;  // without memory that is shared with clients
  double cpu_seconds = 0;
  uint64_t open_files = 0;
  uint64_t max_files = 0;
};
ProcessFigures ReadProcess();

}  // namespace mnemo

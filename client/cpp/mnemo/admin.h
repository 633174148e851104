// Answers of the admin service; proto/mnemo/v1/admin.proto says what each
// field means.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mnemo/blocks.h"
#include "mnemo/types.h"

namespace mnemo::client {

struct NodeStatus {
  std::string node_id;
  std::string version;
  uint32_t format_version = 0;
  bool ready = false;
  std::vector<std::string> problems;
  int64_t started_unix_us = 0;
  uint64_t spaces = 0;
  uint64_t parts = 0;
  uint64_t resident_bytes = 0;
  uint64_t memory_budget_bytes = 0;
  uint64_t disk_budget_bytes = 0;
  uint64_t disk_used_bytes = 0;
  uint64_t disk_free_bytes = 0;
  std::vector<std::string> addresses;
  std::string recovery;
  bool insecure = false;
  uint64_t context_l3_bytes = 0;
  uint64_t context_l3_capacity_bytes = 0;
  uint64_t context_archive_bytes = 0;
  uint64_t contexts_waiting = 0;
};

struct LevelInfo {
  Level level = Level::kNone;
  std::string label;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t live_bytes = 0;
  uint64_t parts = 0;
  uint64_t lookups = 0;
  uint64_t hits = 0;
  double hit_ratio = 0;
  double hit_ratio_objective = 0;
  double p50_us = 0;
  double p99_us = 0;
  double p99_objective_us = 0;
  uint64_t demoted = 0;
  uint64_t promoted = 0;
  uint64_t evicted = 0;
  double high_watermark = 0;
  double low_watermark = 0;
  uint64_t exact_bytes = 0;
};

struct TierInfo {
  std::string name;
  std::string description;
  Level level = Level::kNone;
  uint32_t bits_per_value = 0;
  std::string moves_on_when;
  bool active = false;
  uint64_t parts = 0;
  uint64_t bytes = 0;
};

struct Signal {
  std::string name;
  double value = 0;
};

struct Placement {
  PartInfo part;
  uint32_t shard = 0;
  std::string tier;
  std::vector<Level> copies;
  std::string rule;
  std::string explanation;
  std::vector<Signal> signals;
};

struct ConfigEntry {
  std::string key;
  std::string value;
  std::string origin;
  std::string description;
};

struct ExplainRequest {
  SpaceRef space;
  std::string_view salt = {};
  std::string_view key;
  std::string_view stretch = {};
};

}  // namespace mnemo::client

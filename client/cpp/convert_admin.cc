// Answers to operators.
#include "client/cpp/convert.h"

namespace mnemo::client {

NodeStatus FromMessage(const v1::GetNodeStatusResponse& message) {
  return {.node_id = message.node_id(),
          .version = message.version(),
          .format_version = message.format_version(),
          .ready = message.ready(),
          .problems = {message.problems().begin(), message.problems().end()},
          .started_unix_us = message.started_unix_us(),
          .spaces = message.spaces(),
          .parts = message.parts(),
          .resident_bytes = message.resident_bytes(),
          .memory_budget_bytes = message.memory_budget_bytes(),
          .disk_budget_bytes = message.disk_budget_bytes(),
          .disk_used_bytes = message.disk_used_bytes(),
          .disk_free_bytes = message.disk_free_bytes(),
          .addresses = {message.addresses().begin(), message.addresses().end()},
          .recovery = message.recovery(),
          .insecure = message.insecure(),
          .context_l3_bytes = message.context_l3_bytes(),
          .context_l3_capacity_bytes = message.context_l3_capacity_bytes(),
          .context_archive_bytes = message.context_archive_bytes(),
          .contexts_waiting = message.contexts_waiting()};
}

LevelInfo FromMessage(const v1::LevelInfo& message) {
  return {.level = ToLevel(message.level()),
          .label = message.label(),
          .capacity_bytes = message.capacity_bytes(),
          .used_bytes = message.used_bytes(),
          .live_bytes = message.live_bytes(),
          .parts = message.parts(),
          .lookups = message.lookups(),
          .hits = message.hits(),
          .hit_ratio = message.hit_ratio(),
          .hit_ratio_objective = message.hit_ratio_objective(),
          .p50_us = message.p50_us(),
          .p99_us = message.p99_us(),
          .p99_objective_us = message.p99_objective_us(),
          .demoted = message.demoted(),
          .promoted = message.promoted(),
          .evicted = message.evicted(),
          .high_watermark = message.high_watermark(),
          .low_watermark = message.low_watermark(),
          .exact_bytes = message.exact_bytes()};
}

TierInfo FromMessage(const v1::TierInfo& message) {
  return {.name = message.name(),
          .description = message.description(),
          .level = ToLevel(message.level()),
          .bits_per_value = message.bits_per_value(),
          .moves_on_when = message.moves_on_when(),
          .active = message.active(),
          .parts = message.parts(),
          .bytes = message.bytes()};
}

Placement FromMessage(const v1::Placement& message) {
  Placement placement{.part = FromMessage(message.part()),
                      .shard = message.shard(),
                      .tier = message.tier(),
                      .rule = message.rule(),
                      .explanation = message.explanation()};
  for (const int level : message.copies()) {
    placement.copies.push_back(ToLevel(static_cast<v1::Level>(level)));
  }
  for (const v1::Signal& signal : message.signals()) {
    placement.signals.push_back({.name = signal.name(), .value = signal.value()});
  }
  return placement;
}

ConfigEntry FromMessage(const v1::ConfigEntry& message) {
  return {.key = message.key(),
          .value = message.value(),
          .origin = message.origin(),
          .description = message.description()};
}

}  // namespace mnemo::client

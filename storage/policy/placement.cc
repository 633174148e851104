#include "storage/policy/placement.h"

#include <fmt/format.h>

namespace mnemo {

absl::Status PlacementRules::Validate() const {
  if (admit_hits < 1 || admit_hits > 10) {
    return absl::InvalidArgumentError(fmt::format("admit_hits is {}, not 1 to 10", admit_hits));
  }
  if (promote_hits < 1 || promote_hits > 10) {
    return absl::InvalidArgumentError(fmt::format("promote_hits is {}, not 1 to 10", promote_hits));
  }
  if (demote_after < std::chrono::seconds(10) || demote_after > std::chrono::seconds(600)) {
    return absl::InvalidArgumentError(
        fmt::format("demote_after is {} s, not 10 to 600 s",
                    std::chrono::duration_cast<std::chrono::seconds>(demote_after).count()));
  }
  if (archive_after < demote_after) {
    return absl::InvalidArgumentError("archive_after is shorter than demote_after");
  }
  return absl::OkStatus();
}

Placement Place(const PlacementSignals& signals, const PlacementRules& rules) {
  const Level background = rules.has_l2 ? Level::kL2 : Level::kL1;
  const Level archive = rules.has_archive ? Level::kDisk : Level::kL3;
  // From the strongest reason to the weakest; the first that holds decides.
  if (signals.pinned) return {Level::kL1, "FOCUS", "pinned"};
  if (signals.leased) return {Level::kL1, "ACTIVE", "leased"};
  if (signals.left_window) {
    return {signals.on_disk ? Level::kL3 : background, "BACKGROUND", "left-its-window"};
  }
  if (signals.idle < rules.demote_after) {
    // A part farther off comes nearer by uses, not by one look.
    if (IsRam(signals.nearest) || signals.hits >= rules.promote_hits) {
      return {Level::kL1, "FOREGROUND", "used-recently"};
    }
    return {Level::kL3, "EPISODIC", "too-few-uses-to-promote"};
  }
  const bool kept_on_disk = signals.on_disk || AdmitToDisk(signals, rules).admit;
  if (signals.idle >= rules.archive_after && kept_on_disk) {
    return {archive, "ARCHIVAL", "idle-for-long"};
  }
  if (IsRam(signals.nearest)) return {background, "BACKGROUND", "idle"};
  return {Level::kL3, "EPISODIC", "idle-on-disk"};
}

Admission AdmitToDisk(const PlacementSignals& signals, const PlacementRules& rules) {
  if (signals.on_disk) return {false, "on-disk-already"};
  if (signals.durability != Durability::kCache) return {true, "durable-class"};
  if (signals.pinned) return {true, "pinned"};
  if (signals.prefix_of_pinned) return {true, "prefix-of-pinned"};
  if (signals.left_window) return {false, "left-its-window"};
  if (signals.hits >= rules.admit_hits) return {true, "second-touch"};
  return {false, "not-used-again-yet"};
}

bool Promote(Level found, uint32_t hits, const PlacementRules& rules) {
  return found != Level::kL1 && hits >= rules.promote_hits;
}

absl::StatusOr<Watermark> Watermark::Create(double low, double high) {
  if (!(low > 0 && low <= high && high <= 1)) {
    return absl::InvalidArgumentError(fmt::format(
        "low_watermark is {} and high_watermark {}, not 0 < low <= high <= 1", low, high));
  }
  return Watermark(low, high);
}

uint64_t Watermark::BytesToFree(uint64_t used, uint64_t capacity, uint64_t incoming) {
  if (capacity == 0) return 0;
  const double wanted = static_cast<double>(used) + static_cast<double>(incoming);
  const double low = low_ * static_cast<double>(capacity);
  const double high = high_ * static_cast<double>(capacity);
  if (wanted > high) moving_ = true;
  if (wanted <= low) moving_ = false;
  return moving_ ? static_cast<uint64_t>(wanted - low) : 0;
}

}  // namespace mnemo

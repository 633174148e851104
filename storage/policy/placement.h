// Where a part belongs, and why: pure functions of signals.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/level.h"

namespace mnemo {

// Everything that placing looks at.
struct PlacementSignals {
  Durability durability = Durability::kCache;
  bool pinned = false;
  bool leased = false;
  bool prefix_of_pinned = false;  // an ancestor of a pinned part
  bool left_window = false;       // its group's window has passed it
  uint32_t hits = 0;              // uses since it was stored
  Nanos idle{0};                  // since the last use
  Level nearest = Level::kL1;     // the nearest level that holds it
  bool on_disk = false;
  Level disk_level = Level::kL3;  // if on_disk
};

struct PlacementRules {
  uint32_t admit_hits = 1;    // uses after the put that send a cache part to disk
  uint32_t promote_hits = 2;  // uses at a farther level that bring a part nearer; 1 to 10
  Nanos demote_after = std::chrono::seconds(60);  // idle that makes a part background; 10 to 600 s
  Nanos archive_after = std::chrono::hours(24);   // idle that makes a part archival
  bool has_l2 = true;
  bool has_archive = true;

  // Errors: kInvalidArgument, naming field and range.
  absl::Status Validate() const;
};

// A level, the tier it stands for, and the rule that says so. Both names are
// static strings.
struct Placement {
  Level level = Level::kL1;
  std::string_view tier;
  std::string_view rule;
};

// Where the part belongs, budgets left aside: what `tier inspect` explains, and
// what movement works toward.
Placement Place(const PlacementSignals& signals, const PlacementRules& rules);

// Whether a part that lies in RAM alone is to be written to disk; `rule` is a
// static string either way.
struct Admission {
  bool admit = false;
  std::string_view rule;
};
Admission AdmitToDisk(const PlacementSignals& signals, const PlacementRules& rules);

// Whether a use at `found` brings the part nearer. `hits` counts this use.
bool Promote(Level found, uint32_t hits, const PlacementRules& rules);

// A level's use against its bounds, with hysteresis: from `high` on, parts move
// on until `low`. A value; one for each level.
class Watermark {
 public:
  // 0 < low <= high <= 1. Errors: kInvalidArgument.
  static absl::StatusOr<Watermark> Create(double low, double high);

  // Bytes that have to leave a level of `capacity` (0: unbounded) with `used`
  // bytes, of which `incoming` more are waiting for room; 0 between the marks
  // while nothing was moving.
  uint64_t BytesToFree(uint64_t used, uint64_t capacity, uint64_t incoming = 0);
  bool moving() const { return moving_; }

 private:
  Watermark(double low, double high) : low_(low), high_(high) {}
  double low_;
  double high_;
  bool moving_ = false;
};

}  // namespace mnemo

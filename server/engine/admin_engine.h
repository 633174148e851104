// What operators ask: where things lie and why.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/block_engine.h"
#include "server/engine/call.h"
#include "server/engine/space_engine.h"
#include "storage/block/block_store.h"

namespace mnemo {

// One tier of the design's table: a policy class over the levels.
struct TierRow {
  std::string_view name;
  std::string_view description;
  Level level;
  uint32_t bits_per_value;
  std::string_view moves_on_when;
  bool active;  // this version places blocks there
  uint64_t parts = 0;
  uint64_t bytes = 0;
};

struct Placement {
  PartState state;
  std::string_view tier;
  std::vector<Level> copies;
  std::string explanation;
  std::vector<std::pair<std::string_view, double>> signals;
};

// Thread-safe.
class AdminEngine {
 public:
  AdminEngine(const SpaceEngine& spaces, BlockStore& store) : spaces_(spaces), store_(store) {}

  std::array<LevelFigures, kLevelCount> Levels() const { return store_.Levels(); }
  std::vector<TierRow> Tiers() const;
  // Errors: kNotFound, kInvalidArgument.
  absl::StatusOr<std::vector<Placement>> Explain(const CallContext& call, const SpaceRef& space,
                                                 std::string_view salt, std::string_view key,
                                                 std::string_view stretch) const;

 private:
  const SpaceEngine& spaces_;
  BlockStore& store_;
};

// The tier of a part, from what is known of it.
std::string_view TierOf(const PartState& state);

}  // namespace mnemo

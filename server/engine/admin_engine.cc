#include "server/engine/admin_engine.h"

#include <fmt/format.h>

#include <cmath>

#include "server/engine/request_keys.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// The design's table. Rows that are not active wait for contexts and codecs.
constexpr TierRow kTiers[] = {
    {"FOCUS", "pinned; sinks and landmarks", Level::kL1, 0, "unpinned", true},
    {"ACTIVE", "the live window of a running sequence", Level::kL1, 0, "window passes", false},
    {"FOREGROUND", "the last turns", Level::kL1, 0, "demote delay, or pressure", true},
    {"BACKGROUND", "recent context", Level::kL2, 8, "importance falls below the tier's bound",
     true},
    {"EPISODIC", "verbatim, in time order", Level::kL3, 8, "age", true},
    {"SEMANTIC", "distilled: summaries with their sources", Level::kL2, 8, "unused", false},
    {"GENERAL", "shared by several sessions of a tenant", Level::kL2, 8, "unused", false},
    {"CATEGORICAL", "cluster prototypes", Level::kL3, 4, "unused", false},
    {"ARCHIVAL", "cold", Level::kDisk, 4, "never by itself", true},
    {"REFERENCE", "immutable, cited", Level::kL3, 0, "never by itself", false},
    {"CONSOLIDATED", "merged tokens with provenance", Level::kDisk, 4, "never by itself", false},
    {"OFFLOADED", "kept by an object store", Level::kDisk, 4, "never by itself", false},
};

std::string Explain(const PartState& state, std::string_view tier) {
  const std::string form =
      state.codec == "raw" ? "exact bytes" : fmt::format("{} encoding", state.codec);
  std::string where = fmt::format("{} ({}), {}", LevelLabel(state.level), tier, form);
  if (state.on_disk && state.level < Level::kL3) {
    where += fmt::format(", with a copy on {}", LevelLabel(state.disk_level));
  }
  return fmt::format("{}; rule {}: used {} times, idle for {}{}{}", where, state.rule, state.uses,
                     FormatDuration(state.idle), state.pinned ? ", pinned" : "",
                     state.leased ? ", leased" : "");
}

}  // namespace

std::string_view TierOf(const PartState& state) {
  if (state.pinned) return "FOCUS";
  switch (state.level) {
    case Level::kL1:
      return "FOREGROUND";
    case Level::kL2:
      return "BACKGROUND";
    case Level::kL3:
      return "EPISODIC";
    default:
      return "ARCHIVAL";
  }
}

std::vector<TierRow> AdminEngine::Tiers() const {
  std::vector<TierRow> rows(std::begin(kTiers), std::end(kTiers));
  const std::array<LevelFigures, kLevelCount> levels = store_.Levels();
  const auto add = [&](std::string_view tier, uint64_t parts, uint64_t bytes) {
    for (TierRow& row : rows) {
      if (row.name != tier) continue;
      row.parts += parts;
      row.bytes += bytes;
    }
  };
  for (size_t i = 0; i < kLevelCount; ++i) {
    const LevelFigures& level = levels[i];
    add(TierOf({.level = static_cast<Level>(i)}), level.nearest_parts - level.pinned_parts,
        level.nearest_exact_bytes - level.pinned_exact_bytes);
    add(TierOf({.pinned = true}), level.pinned_parts, level.pinned_exact_bytes);
  }
  return rows;
}

absl::StatusOr<std::vector<Placement>> AdminEngine::Explain(const CallContext& call,
                                                            const SpaceRef& space,
                                                            std::string_view salt,
                                                            std::string_view key,
                                                            std::string_view stretch) const {
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope, ResolveScope(spaces_, call, space, salt));
  KeysView keys{.keys = {key}};
  if (!stretch.empty()) keys.stretches = {stretch};
  MNEMO_RETURN_IF_ERROR(CheckKeys(scope, keys, 1));
  std::vector<Placement> placements;
  for (const PartKey& part : PartKeysOf(scope, keys, 0, 1, AllParts(scope.spec()))) {
    std::optional<PartState> state = store_.Describe(part);
    if (!state || state->pending) continue;
    Placement placement{.state = *state, .tier = TierOf(*state)};
    placement.copies.push_back(state->level);
    if (state->on_disk && state->disk_level != state->level) {
      placement.copies.push_back(state->disk_level);
    }
    placement.explanation = mnemo::Explain(*state, placement.tier);
    placement.signals = {{"uses", static_cast<double>(state->uses)},
                         {"idle_seconds", std::chrono::duration<double>(state->idle).count()},
                         {"depth", static_cast<double>(state->depth)},
                         {"pinned", state->pinned ? 1.0 : 0.0},
                         {"leased", state->leased ? 1.0 : 0.0}};
    placements.push_back(std::move(placement));
  }
  if (placements.empty()) return absl::NotFoundError("no part of this block is kept");
  return placements;
}

}  // namespace mnemo

#include "storage/block/part_views.h"

#include "storage/block/part_encoding.h"

namespace mnemo {

namespace {

std::vector<Lookup> LookupsOf(std::span<const PartHit> hits) {
  std::vector<Lookup> found(hits.size());
  for (size_t i = 0; i < hits.size(); ++i) {
    switch (hits[i].state) {
      case EntryState::kAbsent:
        break;
      case EntryState::kPending:
        found[i] = {.presence = Presence::kPending, .entry = hits[i].ref.id};
        break;
      case EntryState::kPresent:
        found[i] = {.presence = Presence::kPresent,
                    .level = hits[i].nearest,
                    .entry = hits[i].ref.id,
                    .payload_bytes = hits[i].payload_bytes};
        break;
    }
  }
  return found;
}

}  // namespace

std::vector<Lookup> PartViews::Find(std::span<const PartKey> keys) const {
  std::vector<PartHit> hits(keys.size());
  core_.directory.Lookup(keys, hits);
  return LookupsOf(hits);
}

std::vector<Lookup> PartViews::Find(const BlockParts& blocks) const {
  std::vector<PartHit> hits(blocks.size());
  core_.directory.Lookup(blocks, hits);
  return LookupsOf(hits);
}

PartState PartViews::StateOf(const DirectoryEntry& entry) const {
  PartState state;
  state.key = entry.key;
  state.digest = entry.digest;
  state.payload_bytes = entry.payload_bytes;
  state.depth = entry.depth;
  state.tokens = entry.tokens;
  state.durability = entry.durability;
  state.pinned = entry.pinned;
  state.leased = entry.leases > 0;
  state.created = core_.time().Shown(entry.created);
  state.expires = core_.time().Shown(entry.expires);
  state.uses = entry.hits;
  state.idle = entry.idle;
  if (std::optional<BlockKey> parent = core_.directory.KeyOf(entry.parent)) state.parent = *parent;
  state.pending = entry.state != EntryState::kPresent;
  if (state.pending) {
    state.rule = "being-written";
    return state;
  }
  state.level = entry.nearest();
  state.stored_bytes = entry.ram ? entry.ram->stored_bytes : entry.disk->stored_bytes;
  const uint8_t form = entry.ram ? entry.ram->codec : entry.disk->codec;
  state.codec = FormName(form);
  state.lossy = IsLossyForm(form);
  state.below_floor = IsBelowFloor(core_, entry);
  state.on_disk = entry.disk.has_value();
  if (entry.disk) state.disk_level = entry.disk->level;
  state.rule = Place(core_.Signals(entry), core_.rules()).rule;
  return state;
}

std::optional<PartState> PartViews::Describe(const PartKey& key) const {
  const std::optional<DirectoryEntry> entry = core_.directory.Find(key);
  if (!entry) return std::nullopt;
  return StateOf(*entry);
}

void PartViews::List(KeyScope scope, const std::optional<SaltDigest>& salt,
                     std::string_view key_prefix, const std::string& after, size_t limit,
                     std::vector<PartState>& parts, std::string& next) const {
  ListFilter filter;
  filter.tenant = scope.tenant;
  filter.space = scope.space;
  filter.salt = salt;
  filter.key_prefix = std::string(key_prefix);
  next = after;
  for (const DirectoryEntry& entry : core_.directory.List(filter, next, limit)) {
    parts.push_back(StateOf(entry));
  }
}

std::array<LevelFigures, kLevelCount> PartViews::Levels() const {
  const DirectoryUsage usage = core_.directory.TotalUsage();
  std::array<LevelFigures, kLevelCount> levels;
  for (size_t i = 0; i < kLevelCount; ++i) {
    const auto level = static_cast<Level>(i);
    LevelFigures& figures = levels[i];
    figures.stats.capacity_bytes = core_.Capacity(level);
    figures.stats.used_bytes = core_.Used(level);
    figures.stats.live_bytes = usage.level_bytes[i];
    figures.stats.values = usage.level_parts[i];
    figures.exact_bytes = usage.level_exact_bytes[i];
    figures.parts = usage.level_parts[i];
    figures.nearest_parts = usage.nearest_parts[i];
    figures.nearest_exact_bytes = usage.nearest_exact_bytes[i];
    figures.pinned_parts = usage.pinned_parts[i];
    figures.pinned_exact_bytes = usage.pinned_exact_bytes[i];
    figures.lookups = core_.tally.lookups[i];
    figures.hits = core_.tally.hits[i];
    figures.demoted = core_.tally.demoted[i];
    figures.promoted = core_.tally.promoted[i];
    figures.evicted = core_.tally.evicted[i];
  }
  return levels;
}

ScopeUsage PartViews::Usage(KeyScope scope) const {
  const DirectoryUsage usage =
      scope.space == 0 ? core_.directory.TenantUsage(scope.tenant) : core_.directory.Usage(scope);
  return {usage.parts, usage.exact_bytes, usage.first_part_blocks, usage.level_bytes};
}

std::vector<BlockStore::ChainPart> PartViews::Following(const PartKey& key, size_t count) const {
  std::vector<BlockStore::ChainPart> parts;
  std::optional<DirectoryEntry> entry = core_.directory.Find(key);
  while (entry && parts.size() < count) {
    entry = core_.directory.ChildOf(entry->ref.id);
    if (!entry) break;
    parts.push_back({.key = entry->key,
                     .payload_bytes = entry->payload_bytes,
                     .in_ram = entry->ram.has_value()});
  }
  return parts;
}

BlockStoreCounters PartViews::Counters() const {
  const StoreTally& tally = core_.tally;
  BlockStoreCounters counters;
  counters.corrupt_l1 = tally.corrupt[Index(Level::kL1)];
  counters.corrupt_l2 = tally.corrupt[Index(Level::kL2)];
  counters.corrupt_l3 = tally.corrupt[Index(Level::kL3)];
  counters.corrupt_archive = tally.corrupt[Index(Level::kDisk)];
  counters.refused_puts = tally.refused_puts;
  counters.write_behind = tally.write_behind;
  counters.write_behind_skipped = tally.write_behind_skipped;
  counters.expired = tally.expired;
  counters.below_floor = tally.below_floor;
  counters.reencoded = tally.reencoded;
  for (size_t i = 0; i < tally.idle_counts.size(); ++i) {
    counters.idle_before_evict.counts[i] = tally.idle_counts[i];
  }
  for (size_t i = 0; i < tally.prefetched_used.size(); ++i) {
    counters.prefetched_used[i] = tally.prefetched_used[i];
  }
  counters.idle_before_evict.sum = Nanos(static_cast<int64_t>(tally.idle_nanos));
  return counters;
}

std::vector<CodecFigures> PartViews::Codecs(const FidelitySampler& sampler) const {
  const DirectoryUsage usage = core_.directory.TotalUsage();
  std::vector<CodecFigures> codecs;
  for (size_t id = 0; id < kCodecSlots; ++id) {
    if (usage.codec_stored_bytes[id] == 0) continue;
    const FidelitySampler::Sampled sampled = sampler.Of(static_cast<uint8_t>(id));
    codecs.push_back({.codec = FormName(static_cast<uint8_t>(id)),
                      .stored_bytes = usage.codec_stored_bytes[id],
                      .exact_bytes = usage.codec_exact_bytes[id],
                      .error = sampled.error,
                      .samples = sampled.samples});
  }
  return codecs;
}

}  // namespace mnemo

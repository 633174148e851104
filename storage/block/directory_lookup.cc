// Reading the directory; directory.cc changes it.
#include <algorithm>
#include <array>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/block/directory.h"
#include "storage/block/directory_lanes.h"
#include "storage/block/directory_shard.h"

namespace mnemo {
namespace {

// Keys of one bulk look-up that are worked on at once: bounds scratch memory,
// and how long a shard is held.
constexpr size_t kLookupChunk = 4096;
constexpr uint32_t kNoLane = 0xffffffff;

uint32_t SlotOf(EntryId id) { return id & 0xffffff; }

bool IsVisible(const PackedEntry& entry, WallTime wall) {
  if (entry.state == PackedEntry::kPending) return true;
  return entry.state == PackedEntry::kPresent && !entry.ExpiredAt(wall);
}

PartHit HitOf(const PackedEntry& entry, EntryId id) {
  PartHit hit;
  hit.ref = {id, entry.generation};
  hit.payload_bytes = entry.payload_bytes;
  if (entry.state == PackedEntry::kPending) {
    hit.state = EntryState::kPending;
    return hit;
  }
  hit.state = EntryState::kPresent;
  hit.on_disk = entry.disk_place != 0;
  if (entry.ram_level != 0) {
    hit.nearest = static_cast<Level>(entry.ram_level - 1);
    hit.stored_bytes = entry.ram_bytes;
  } else {
    hit.nearest = entry.disk_place > 3 ? Level::kDisk : Level::kL3;
    hit.stored_bytes = entry.disk_bytes;
  }
  return hit;
}

// Lanes of the keys of one look-up, each asked for once.
class LaneResolver {
 public:
  explicit LaneResolver(LaneTable& table) : table_(table), references_(table) {}

  uint32_t Resolve(const PartKey& key) {
    const Lane lane = Lane::Of(key);
    if (lane == last_lane_ && last_number_) return *last_number_;
    const auto [found, is_new] = numbers_.try_emplace(lane, kNoLane);
    if (is_new) {
      if (const auto number = table_.AcquireIfPresent(lane)) {
        references_.Own(*number);
        found->second = *number;
      }
    }
    last_lane_ = lane;
    last_number_ = found->second;
    return found->second;
  }

 private:
  LaneTable& table_;
  LaneReferences references_;
  absl::flat_hash_map<Lane, uint32_t> numbers_;
  Lane last_lane_;
  std::optional<uint32_t> last_number_;
};

}  // namespace

DirectoryEntry Directory::Snapshot(DirectoryShard& shard,
                                   EntryId id) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const PackedEntry& packed = shard.At(SlotOf(id));
  const Lane lane = lanes_->Get(packed.lane);
  DirectoryEntry entry;
  entry.ref = {id, packed.generation};
  entry.key.scope = lane.scope;
  entry.key.salt = lane.salt;
  entry.key.part = lane.part;
  entry.key.key = *BlockKey::From(shard.KeyOf(packed));
  entry.key.shard = static_cast<uint16_t>(id >> 24);
  entry.payload_bytes = packed.payload_bytes;
  entry.depth = packed.depth;
  entry.tokens = packed.tokens;
  entry.durability = static_cast<Durability>(packed.durability);
  entry.created = {int64_t{packed.created} * 1'000'000'000};
  entry.expires = {int64_t{packed.expires} * 1'000'000'000};
  entry.parent = packed.parent;
  entry.children = packed.children;
  entry.leases = packed.leases;
  if (packed.state == PackedEntry::kPending) {
    entry.state = EntryState::kPending;
    return entry;
  }
  entry.state = EntryState::kPresent;
  entry.digest = packed.digest;
  entry.pinned = packed.pinned;
  entry.ram = packed.ram();
  entry.disk = packed.disk();
  entry.hits = packed.hits;
  entry.idle = Nanos(std::chrono::milliseconds(100)) *
               static_cast<int64_t>(NowTicks() - std::min(NowTicks(), packed.last_use));
  return entry;
}

std::optional<DirectoryEntry> Directory::Find(const PartKey& key) const {
  if (key.shard >= kShardCount || key.key.empty()) return std::nullopt;
  LaneReferences references(*lanes_);
  const std::optional<uint32_t> lane = lanes_->AcquireIfPresent(Lane::Of(key));
  if (!lane) return std::nullopt;
  references.Own(*lane);
  const uint64_t hash = DirectoryShard::Hash(*lane, key.key.view());
  DirectoryShard& shard = *shards_[key.shard];
  MutexLock lock(shard.mutex);
  const uint32_t slot = shard.Find(hash, *lane, key.key.view());
  if (slot == DirectoryShard::kNoSlot || !IsVisible(shard.At(slot), clock_.Wall())) {
    return std::nullopt;
  }
  return Snapshot(shard, shard.IdOf(slot));
}

std::optional<DirectoryEntry> Directory::Get(EntryId id) const {
  DirectoryShard& shard = ShardOfId(id);
  MutexLock lock(shard.mutex);
  if (SlotOf(id) >= shard.slots() || !IsVisible(shard.At(SlotOf(id)), clock_.Wall())) {
    return std::nullopt;
  }
  return Snapshot(shard, id);
}

std::optional<DirectoryEntry> Directory::InSlot(uint64_t random) const {
  DirectoryShard& shard = *shards_[random % kShardCount];
  MutexLock lock(shard.mutex);
  if (shard.slots() == 0) return std::nullopt;
  const auto slot = static_cast<uint32_t>(random / kShardCount % shard.slots());
  if (!IsVisible(shard.At(slot), clock_.Wall())) return std::nullopt;
  return Snapshot(shard, shard.IdOf(slot));
}

// One part that is looked for.
struct Directory::Probe {
  uint64_t hash = 0;
  std::string_view key;
  uint32_t lane = kNoLane;
  uint32_t index = 0;  // of its answer
  uint16_t shard = 0;

  static Probe Of(uint32_t lane, std::string_view key, uint16_t shard, uint32_t index) {
    return {.hash = lane == kNoLane ? 0 : DirectoryShard::Hash(lane, key),
            .key = key,
            .lane = lane,
            .index = index,
            .shard = shard};
  }
};

// In stages: each fetches for all keys what the next one reads, so that their cache
// misses overlap.
void Directory::AnswerInShard(const DirectoryShard& shard, std::span<const Probe> probes,
                              WallTime wall, std::span<PartHit> hits) {
  constexpr size_t kBatch = 32;
  MutexLock lock(shard.mutex);
  for (size_t begin = 0; begin < probes.size(); begin += kBatch) {
    const auto batch = probes.subspan(begin, std::min(kBatch, probes.size() - begin));
    if (batch.size() > 1) {
      std::array<uint32_t, kBatch> likely;
      for (const Probe& probe : batch) shard.PrefetchTable(probe.hash);
      for (size_t i = 0; i < batch.size(); ++i) likely[i] = shard.PrefetchEntry(batch[i].hash);
      for (size_t i = 0; i < batch.size(); ++i) {
        if (likely[i] != DirectoryShard::kNoSlot) shard.PrefetchKey(likely[i]);
      }
    }
    for (const Probe& probe : batch) {
      const uint32_t slot = shard.Find(probe.hash, probe.lane, probe.key);
      if (slot == DirectoryShard::kNoSlot) continue;
      const PackedEntry& entry = shard.At(slot);
      if (IsVisible(entry, wall)) hits[probe.index] = HitOf(entry, shard.IdOf(slot));
    }
  }
}

void Directory::Answer(std::span<const Probe> probes, std::span<Probe> scratch,
                       std::span<PartHit> hits) const {
  const WallTime wall = clock_.Wall();
  // A counting sort by shard. first[s + 1] counts, then is where s ends.
  std::array<uint32_t, kShardCount + 1> first{};
  for (const Probe& probe : probes) {
    MNEMO_CHECK(probe.shard < kShardCount);
    ++first[probe.shard + 1u];
  }
  for (size_t s = 0; s < kShardCount; ++s) first[s + 1] += first[s];
  std::array<uint32_t, kShardCount + 1> next = first;
  for (const Probe& probe : probes) scratch[next[probe.shard]++] = probe;
  for (size_t at = 0; at < probes.size();) {
    const uint16_t shard = scratch[at].shard;
    const size_t end = first[shard + 1u];
    if (end < probes.size()) __builtin_prefetch(shards_[scratch[end].shard].get());
    AnswerInShard(*shards_[shard], scratch.subspan(at, end - at), wall, hits);
    at = end;
  }
}

void Directory::Lookup(std::span<const PartKey> keys, std::span<PartHit> hits) const {
  MNEMO_CHECK(keys.size() == hits.size());
  LaneResolver lanes(*lanes_);
  std::vector<Probe> probes(2 * std::min(keys.size(), kLookupChunk));
  for (size_t begin = 0; begin < keys.size(); begin += kLookupChunk) {
    const size_t size = std::min(kLookupChunk, keys.size() - begin);
    for (uint32_t i = 0; i < size; ++i) {
      const PartKey& key = keys[begin + i];
      hits[begin + i] = PartHit{};
      probes[i] = Probe::Of(lanes.Resolve(key), key.key.view(), key.shard, i);
    }
    const std::span<Probe> all(probes);
    Answer(all.first(size), all.last(size), hits.subspan(begin, size));
  }
}

void Directory::Lookup(const BlockParts& blocks, std::span<PartHit> hits) const {
  MNEMO_CHECK(blocks.size() == hits.size());
  std::fill(hits.begin(), hits.end(), PartHit{});
  LaneReferences references(*lanes_);
  std::vector<uint32_t> lanes;
  for (const PartId& part : blocks.parts) {
    const auto lane = lanes_->AcquireIfPresent({blocks.scope, blocks.salt, part});
    if (lane) references.Own(*lane);
    lanes.push_back(lane.value_or(kNoLane));
  }
  const ShardPlacer placer(blocks.scope, blocks.salt);
  const auto placed_by = blocks.stretches.empty() ? blocks.keys : blocks.stretches;
  const size_t room = std::min(blocks.size(), kLookupChunk);
  std::vector<Probe> probes(2 * room);
  const std::span<Probe> all(probes);
  size_t filled = 0;
  size_t answered = 0;
  for (size_t i = 0; i < blocks.keys.size(); ++i) {
    const uint16_t shard = placer.Of(placed_by[i]);
    for (const uint32_t lane : lanes) {
      probes[filled] = Probe::Of(lane, blocks.keys[i], shard, static_cast<uint32_t>(filled));
      if (++filled < room) continue;
      Answer(all.first(filled), all.subspan(room, filled), hits.subspan(answered, filled));
      answered += filled;
      filled = 0;
    }
  }
  if (filled == 0) return;
  Answer(all.first(filled), all.subspan(room, filled), hits.subspan(answered, filled));
}

std::vector<DirectoryEntry> Directory::FindAllParts(const PartKey& key) const {
  std::vector<DirectoryEntry> parts;
  if (key.shard >= kShardCount || key.key.empty()) return parts;
  const std::vector<uint32_t> lanes = lanes_->AcquireSalt(key.scope, key.salt);
  LaneReferences references(*lanes_);
  for (const uint32_t lane : lanes) references.Own(lane);
  const WallTime wall = clock_.Wall();
  DirectoryShard& shard = *shards_[key.shard];
  MutexLock lock(shard.mutex);
  for (const uint32_t lane : lanes) {
    const uint32_t slot =
        shard.Find(DirectoryShard::Hash(lane, key.key.view()), lane, key.key.view());
    if (slot != DirectoryShard::kNoSlot && IsVisible(shard.At(slot), wall)) {
      parts.push_back(Snapshot(shard, shard.IdOf(slot)));
    }
  }
  return parts;
}

std::optional<DirectoryEntry> Directory::ChildOf(EntryId id) const {
  EntryId child = kNoEntry;
  {
    DirectoryShard& shard = ShardOfId(id);
    MutexLock lock(shard.mutex);
    if (SlotOf(id) >= shard.slots()) return std::nullopt;
    child = shard.child(SlotOf(id));
  }
  if (child == kNoEntry) return std::nullopt;
  std::optional<DirectoryEntry> entry = Get(child);
  // Its slot may be another's by now.
  if (!entry || entry->state != EntryState::kPresent || entry->parent != id) return std::nullopt;
  return entry;
}

std::optional<BlockKey> Directory::KeyOf(EntryId id) const {
  DirectoryShard& shard = ShardOfId(id);
  MutexLock lock(shard.mutex);
  if (SlotOf(id) >= shard.slots() || shard.At(SlotOf(id)).state == PackedEntry::kFree) {
    return std::nullopt;
  }
  return *BlockKey::From(shard.KeyOf(shard.At(SlotOf(id))));
}

BlockMetadata Directory::MetadataOf(const DirectoryEntry& entry, uint64_t stored_bytes,
                                    uint8_t codec) const {
  BlockMetadata metadata;
  metadata.digest = entry.digest;
  metadata.payload_bytes = entry.payload_bytes;
  metadata.stored_bytes = stored_bytes;
  metadata.depth = entry.depth;
  metadata.tokens = entry.tokens;
  metadata.codec = codec;
  metadata.durability = entry.durability;
  metadata.pinned = entry.pinned;
  metadata.created = entry.created;
  metadata.expires = entry.expires;
  if (entry.parent != kNoEntry) {
    if (const auto parent = KeyOf(entry.parent)) metadata.parent = parent->view();
  }
  return metadata;
}

std::vector<DirectoryEntry> Directory::List(const ListFilter& filter, std::string& after,
                                            size_t limit) const {
  std::vector<DirectoryEntry> page;
  absl::flat_hash_map<uint32_t, Lane> lanes;
  LaneReferences references(*lanes_);
  for (const auto& [number, lane] : lanes_->AcquireMatching(filter)) {
    references.Own(number);
    lanes.emplace(number, lane);
  }
  const WallTime wall = clock_.Wall();
  uint32_t s = after.size() < sizeof(uint16_t) ? 0 : LoadBig<uint16_t>(after.data());
  for (; s < kShardCount && page.size() < limit; ++s) {
    DirectoryShard& shard = *shards_[s];
    std::vector<std::pair<std::string, uint32_t>> found;  // stored key, slot
    MutexLock lock(shard.mutex);
    for (uint32_t slot = 0; slot < shard.slots(); ++slot) {
      const PackedEntry& entry = shard.At(slot);
      if (entry.state != PackedEntry::kPresent || entry.ExpiredAt(wall)) continue;
      const auto lane = lanes.find(entry.lane);
      if (lane == lanes.end()) continue;
      const std::string_view key = shard.KeyOf(entry);
      if (!key.starts_with(filter.key_prefix)) continue;
      const PartKey part{.scope = lane->second.scope,
                         .salt = lane->second.salt,
                         .key = *BlockKey::From(key),
                         .part = lane->second.part,
                         .shard = static_cast<uint16_t>(s)};
      std::string stored = part.Stored().bytes();
      if (stored > after) found.emplace_back(std::move(stored), slot);
    }
    const size_t count = std::min(found.size(), limit - page.size());
    std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(count), found.end());
    for (size_t i = 0; i < count; ++i) {
      page.push_back(Snapshot(shard, shard.IdOf(found[i].second)));
    }
    if (count > 0) after = found[count - 1].first;
  }
  if (page.size() < limit) after.clear();
  return page;
}

std::vector<EntryRef> Directory::Expired(uint64_t& cursor, size_t slots,
                                         std::vector<EntryId>& new_leaves) {
  std::vector<EntryRef> expired;
  std::vector<EntryRef> overdue;
  const WallTime wall = clock_.Wall();
  const MonoTime now = clock_.Mono();
  // Each turn looks at the rest of one shard; an empty shard costs one slot.
  size_t looked = 0;
  for (size_t turn = 0; turn < kShardCount && looked < slots; ++turn) {
    DirectoryShard& shard = *shards_[cursor >> 24 & 0xff];
    MutexLock lock(shard.mutex);
    uint32_t slot = SlotOf(static_cast<EntryId>(cursor));
    for (; slot < shard.slots() && looked < slots; ++slot, ++looked) {
      const PackedEntry& entry = shard.At(slot);
      const EntryRef ref{shard.IdOf(slot), entry.generation};
      if (entry.state == PackedEntry::kPresent && entry.ExpiredAt(wall)) expired.push_back(ref);
      if (entry.state == PackedEntry::kPending &&
          MonoTime(Nanos(static_cast<int64_t>(entry.locator_or_deadline))) <= now) {
        overdue.push_back(ref);
      }
    }
    if (slot < shard.slots()) {
      cursor = (cursor & ~uint64_t{0xffffff}) | slot;
    } else {
      cursor = (((cursor >> 24) + 1) & 0xff) << 24;
      ++looked;
    }
  }
  for (const EntryRef& ref : overdue) Abandon(ref, new_leaves);
  MutexLock lock(quiet_mutex_);
  new_leaves.insert(new_leaves.end(), quiet_leaves_.begin(), quiet_leaves_.end());
  quiet_leaves_.clear();
  return expired;
}

DirectoryUsage Directory::Usage(KeyScope scope) const { return lanes_->Usage(scope); }

DirectoryUsage Directory::TenantUsage(uint64_t tenant) const { return lanes_->TenantUsage(tenant); }

DirectoryUsage Directory::TotalUsage() const { return lanes_->TotalUsage(); }

std::array<uint64_t, kShardCount> Directory::ExactBytesByShard() const {
  std::array<uint64_t, kShardCount> bytes{};
  for (size_t s = 0; s < kShardCount; ++s) {
    MutexLock lock(shards_[s]->mutex);
    bytes[s] = shards_[s]->exact_bytes;
  }
  return bytes;
}

uint64_t Directory::MemoryBytes() const {
  uint64_t bytes = lanes_->MemoryBytes();
  for (const std::unique_ptr<DirectoryShard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    bytes += shard->MemoryBytes();
  }
  return bytes;
}

}  // namespace mnemo

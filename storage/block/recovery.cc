#include "storage/block/recovery.h"

#include <fmt/format.h>

#include <string>
#include <tuple>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

class Recoverer {
 public:
  Recoverer(StoreCore& core, bool& expiring) : core_(core), expiring_(expiring) {}

  absl::Status Visit(Level level, Durability durability, Instance& instance) {
    absl::Status failed;
    const absl::Status visited =
        instance.blocks().ForEach([&](const StoredKey& stored, const BlockMetadata& metadata) {
          failed = Take(stored, metadata, level, durability);
          return failed.ok();
        });
    MNEMO_RETURN_IF_ERROR(failed);
    // What is damaged was counted when the instance was opened.
    return absl::IsDataLoss(visited) ? absl::OkStatus() : visited;
  }

  // Copies that lost against another.
  absl::Status EraseLosers() {
    for (const auto& [key, place] : losers_) {
      MNEMO_RETURN_IF_ERROR(core_.disks().Erase(place, key.Stored()));
    }
    return absl::OkStatus();
  }

  uint64_t unreadable() const { return unreadable_; }
  size_t losers() const { return losers_.size(); }

 private:
  static NewPart PartFrom(const PartKey& key, const BlockMetadata& metadata) {
    NewPart part;
    part.key = key;
    if (absl::StatusOr<BlockKey> parent = BlockKey::From(metadata.parent); parent.ok()) {
      part.parent = *parent;
      const bool with_stretch = key.shard != ShardOf(key.scope, key.salt, key.key.view());
      part.parent_shard = with_stretch ? key.shard : ShardOf(key.scope, key.salt, metadata.parent);
    }
    part.payload_bytes = metadata.payload_bytes;
    part.depth = metadata.depth;
    part.tokens = metadata.tokens;
    part.durability = metadata.durability;
    part.created = metadata.created;
    part.expires = metadata.expires;
    return part;
  }

  absl::Status Take(const StoredKey& stored, const BlockMetadata& metadata, Level level,
                    Durability durability) {
    const absl::StatusOr<PartKey> key = PartKey::FromStored(stored);
    if (!key.ok()) {
      ++unreadable_;
      return absl::OkStatus();
    }
    if (metadata.expires.nanos != 0) expiring_ = true;
    const DiskPlace place{level, durability, metadata.stored_bytes, metadata.codec};
    const NewPart part = PartFrom(*key, metadata);
    absl::Status restored = core_.Restore(part, metadata.digest, metadata.pinned, place);
    if (absl::IsAlreadyExists(restored)) restored = Choose(part, metadata, place);
    if (absl::IsInvalidArgument(restored)) {
      ++unreadable_;
      return absl::OkStatus();
    }
    return restored;
  }

  absl::Status Choose(const NewPart& part, const BlockMetadata& metadata, const DiskPlace& place) {
    const std::optional<DirectoryEntry> there = core_.directory.Find(part.key);
    const auto rank = [](WallTime created, Durability durability, Level level) {
      return std::tuple(created.nanos / 1'000'000'000, durability, -static_cast<int>(level));
    };
    const bool wins = there && there->disk &&
                      rank(part.created, part.durability, place.level) >
                          rank(there->created, there->durability, there->disk->level);
    if (!wins) {
      losers_.emplace_back(part.key, place);
      return absl::OkStatus();
    }
    losers_.emplace_back(part.key, *there->disk);
    // Its bytes go with the other losers, after the scan.
    MNEMO_RETURN_IF_ERROR(core_.Remove(there->ref, Directory::RemoveWhen::kAlways, std::nullopt,
                                       /*disk_erased=*/true));
    return core_.Restore(part, metadata.digest, metadata.pinned, place);
  }

  StoreCore& core_;
  bool& expiring_;
  uint64_t unreadable_ = 0;
  std::vector<std::pair<PartKey, DiskPlace>> losers_;
};

}  // namespace

absl::StatusOr<BlockStore::Recovery> RecoverParts(
    StoreCore& core, const std::vector<DiskLevels::OpenedInstance>& opened, bool& expiring) {
  Recoverer recoverer(core, expiring);
  absl::Status failed;
  core.disks().ForEach([&](Level level, Durability durability, Instance& instance) {
    if (failed.ok()) failed = recoverer.Visit(level, durability, instance);
  });
  MNEMO_RETURN_IF_ERROR(failed);
  MNEMO_RETURN_IF_ERROR(recoverer.EraseLosers());

  BlockStore::Recovery recovery;
  recovery.parts = core.directory.TotalUsage().parts;
  const auto note = [&](const std::string& line) {
    recovery.clean = false;
    recovery.detail += (recovery.detail.empty() ? "" : "; ") + line;
  };
  for (const DiskLevels::OpenedInstance& instance : opened) {
    const OpenReport& report = instance.report;
    core.tally.corrupt[Index(instance.level)] +=
        report.tables_dropped + report.damaged_metadata + (report.manifest_mended ? 1 : 0);
    if (report.created) continue;
    if (report.clean && !report.data_at_risk() && !report.manifest_mended) continue;
    note(fmt::format("{}/{}: {}", LevelLabel(instance.level), static_cast<int>(instance.durability),
                     report.detail.empty() ? "not closed by its last process" : report.detail));
  }
  if (recoverer.unreadable() > 0) {
    note(fmt::format("{} entries of block metadata are not ours", recoverer.unreadable()));
  }
  if (recoverer.losers() > 0) note(fmt::format("{} second copies erased", recoverer.losers()));
  return recovery;
}

}  // namespace mnemo

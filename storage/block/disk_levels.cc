#include "storage/block/disk_levels.h"

#include <algorithm>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr std::array kAllClasses = {Durability::kSync, Durability::kInterval, Durability::kCache};
constexpr std::array kDiskLevels = {Level::kL3, Level::kDisk};

TierResourcesOptions ResourcesFor(const BlockStoreOptions& options) {
  TierResourcesOptions resources;
  resources.memory_bytes =
      std::max<uint64_t>(options.disk_cache_bytes - ReadAheadBytes(options), 16 * kMiB);
  resources.write_buffer_bytes = std::max<uint64_t>(resources.memory_bytes / 2, 4 * kMiB);
  return resources;
}

InstanceOptions InstanceFor(const BlockStoreOptions& options, const DataDirectory& directory,
                            Level level, Durability durability) {
  InstanceOptions instance;
  instance.path = directory.InstancePath(level, durability);
  instance.level = level;
  instance.durability = durability;
  instance.interval_sync_period = options.wal_interval;
  instance.direct_reads = options.direct_reads;
  // All instances share one budget of write buffers; one that is written alone
  // gets a quarter of it before it flushes.
  instance.write_buffer_bytes =
      std::clamp<uint64_t>(options.disk_cache_bytes / 8, 1 * kMiB, 64 * kMiB);
  // Space comes back by whole files: the fewer values share one, the less has to
  // be copied to be rid of the rest (docs/decisions/0051).
  const uint64_t capacity = level == Level::kL3 ? options.l3_bytes : options.archive_bytes;
  instance.blob_file_bytes = std::clamp<uint64_t>(capacity / 256, 4 * kMiB, 64 * kMiB);
  return instance;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskLevels>> DiskLevels::Open(const BlockStoreOptions& options,
                                                             const DataDirectory& directory,
                                                             FileSystem& files, const Clock& clock,
                                                             std::vector<OpenedInstance>& opened) {
  std::unique_ptr<DiskLevels> levels(new DiskLevels());
  levels->capacity_ = {options.l3_bytes, options.archive_bytes};
  MNEMO_ASSIGN_OR_RETURN(levels->resources_, TierResources::Create(ResourcesFor(options)));
  for (const Level level : kDiskLevels) {
    for (const Durability durability : kAllClasses) {
      const InstanceOptions instance = InstanceFor(options, directory, level, durability);
      if (level == Level::kDisk && options.archive_bytes == 0) {
        MNEMO_ASSIGN_OR_RETURN(const bool from_before, files.Exists(instance.path));
        if (!from_before) continue;
      }
      OpenedInstance report{level, durability, {}};
      MNEMO_ASSIGN_OR_RETURN(
          levels->instances_[Slot(level)][Slot(durability)],
          Instance::Open(instance, files, clock, *levels->resources_, &report.report));
      opened.push_back(std::move(report));
    }
  }
  return levels;
}

bool DiskLevels::TryTake(Level level, uint64_t stored_bytes) {
  const uint64_t bytes = stored_bytes + kOverheadBytes;
  std::atomic<uint64_t>& used = used_[Slot(level)];
  const uint64_t contexts = contexts_[Slot(level)].load(std::memory_order_relaxed);
  uint64_t before = used.load(std::memory_order_relaxed);
  do {
    if (before + contexts + bytes > capacity(level)) return false;
  } while (!used.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return true;
}

void DiskLevels::Take(Level level, uint64_t stored_bytes) {
  used_[Slot(level)].fetch_add(stored_bytes + kOverheadBytes, std::memory_order_relaxed);
}

void DiskLevels::Give(Level level, uint64_t stored_bytes) {
  used_[Slot(level)].fetch_sub(stored_bytes + kOverheadBytes, std::memory_order_relaxed);
}

DurableLevel& DiskLevels::BlocksOf(const DiskPlace& place) const {
  Instance* const instance = At(place.level, place.instance);
  MNEMO_CHECK(instance != nullptr);
  return instance->blocks();
}

absl::Status DiskLevels::Put(const DiskPlace& place, const StoredKey& key,
                             const BlockMetadata& metadata, const std::vector<ByteView>& envelope) {
  return BlocksOf(place).Put(key, metadata, envelope).status();
}

absl::StatusOr<PinnedBytes> DiskLevels::Get(const DiskPlace& place, const StoredKey& key) const {
  return BlocksOf(place).Get(key, Locator{});
}

absl::Status DiskLevels::UpdateMetadata(const DiskPlace& place, const StoredKey& key,
                                        const BlockMetadata& metadata) {
  return BlocksOf(place).UpdateMetadata(key, metadata);
}

absl::Status DiskLevels::Erase(const DiskPlace& place, const StoredKey& key) {
  return BlocksOf(place).Erase(key, Locator{});
}

absl::Status DiskLevels::Sync(Level level, Durability durability) {
  return At(level, durability)->blocks().Sync();
}

absl::Status DiskLevels::SyncAll() {
  absl::Status first;
  ForEach([&](Level, Durability, Instance& instance) { first.Update(instance.blocks().Sync()); });
  return first;
}

void DiskLevels::ForEach(const std::function<void(Level, Durability, Instance&)>& visit) const {
  for (const Level level : kDiskLevels) {
    for (const Durability durability : kAllClasses) {
      if (Instance* const instance = At(level, durability)) visit(level, durability, *instance);
    }
  }
}

absl::Status DiskLevels::Maintain() {
  absl::Status first;
  ForEach([&](Level, Durability, Instance& instance) { first.Update(instance.MaintainSpace()); });
  return first;
}

absl::Status DiskLevels::Close() {
  absl::Status first;
  ForEach([&](Level, Durability, Instance& instance) { first.Update(instance.Close()); });
  return first;
}

}  // namespace mnemo

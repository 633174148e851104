// The instances of L3 and Disk, one for each durability class, as one.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/block/block_store.h"
#include "storage/block/directory.h"
#include "storage/tier/data_directory.h"
#include "storage/tier/instance.h"
#include "storage/tier/tier_resources.h"

namespace mnemo {

// What may be read ahead of readers and not be let go of, of all that is for the disk.
inline uint64_t ReadAheadBytes(const BlockStoreOptions& options) {
  return options.disk_cache_bytes / 8;
}

// Thread-safe, but for Close.
class DiskLevels {
 public:
  // What a part takes beyond its envelope: key, metadata, its entry of the log.
  static constexpr uint64_t kOverheadBytes = 256;

  struct OpenedInstance {
    Level level = Level::kL3;
    Durability durability = Durability::kCache;
    OpenReport report;
  };
  // Disk is opened if it has a budget, or if there is one from before.
  // Errors: those of Instance::Open.
  static absl::StatusOr<std::unique_ptr<DiskLevels>> Open(const BlockStoreOptions& options,
                                                          const DataDirectory& directory,
                                                          FileSystem& files, const Clock& clock,
                                                          std::vector<OpenedInstance>& opened);

  bool has_archive() const { return capacity(Level::kDisk) > 0; }
  uint64_t capacity(Level level) const { return capacity_[Slot(level)]; }
  // Taken by parts, by parts being written, and by what SetContexts said.
  uint64_t used(Level level) const {
    return used_[Slot(level)].load(std::memory_order_relaxed) +
           contexts_[Slot(level)].load(std::memory_order_relaxed);
  }
  // Embeddings of contexts take so much of the level's capacity, whatever that is.
  void SetContexts(Level level, uint64_t bytes) { contexts_[Slot(level)] = bytes; }

  // Budget. What a place of `stored_bytes` takes is taken before it is written,
  // and given back when it was not, or is no more.
  bool TryTake(Level level, uint64_t stored_bytes);
  void Take(Level level, uint64_t stored_bytes);  // whatever the capacity: at start
  void Give(Level level, uint64_t stored_bytes);

  // The level of `place`, which exists. Errors: those of BlockLevel.
  absl::Status Put(const DiskPlace& place, const StoredKey& key, const BlockMetadata& metadata,
                   const std::vector<ByteView>& envelope);
  absl::StatusOr<PinnedBytes> Get(const DiskPlace& place, const StoredKey& key) const;
  absl::Status UpdateMetadata(const DiskPlace& place, const StoredKey& key,
                              const BlockMetadata& metadata);
  absl::Status Erase(const DiskPlace& place, const StoredKey& key);
  absl::Status Sync(Level level, Durability durability);
  absl::Status SyncAll();

  Store& state() { return At(Level::kL3, Durability::kSync)->store(); }
  // Null where there is no such level.
  Store* ordered_store(Level level, Durability durability) {
    Instance* const instance = At(level, durability);
    return instance == nullptr ? nullptr : &instance->store();
  }
  void ForEach(const std::function<void(Level, Durability, Instance&)>& visit) const;
  // Trims logs, gives space back, recovers from a full disk. The first error.
  absl::Status Maintain();
  absl::Status Close();

 private:
  static constexpr size_t kClasses = 3;

  DiskLevels() = default;
  static size_t Slot(Level level) { return level == Level::kL3 ? 0 : 1; }
  static size_t Slot(Durability durability) { return static_cast<size_t>(durability) - 1; }
  Instance* At(Level level, Durability durability) const {
    return instances_[Slot(level)][Slot(durability)].get();
  }
  DurableLevel& BlocksOf(const DiskPlace& place) const;

  std::array<uint64_t, 2> capacity_{};
  std::array<std::atomic<uint64_t>, 2> used_{};
  std::array<std::atomic<uint64_t>, 2> contexts_{};
  std::unique_ptr<TierResources> resources_;  // outlives the instances
  std::array<std::array<std::unique_ptr<Instance>, kClasses>, 2> instances_;
};

}  // namespace mnemo

// Parts that are read from disk before their reader comes to them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "storage/base/executor.h"
#include "storage/base/mutex.h"
#include "storage/block/block_store.h"
#include "storage/block/directory.h"
#include "storage/block/disk_levels.h"

namespace mnemo {

// Thread-safe. Reads on threads of its own, at most `capacity` bytes of what has begun and
// is not let go of. Two who ask for one part share one read.
class ReadAheadTable {
 public:
  // Borrows `disks`. Without capacity there are no threads.
  ReadAheadTable(const DiskLevels& disks, uint64_t capacity);

  // As BlockStore::ReadAhead, of `entry`, which lies on disk alone.
  std::unique_ptr<PartAhead> Begin(const DirectoryEntry& entry);
  // What was read of `entry` where it lies, waiting for a read that runs. None: nobody asked
  // for it, its turn did not come yet, or it failed.
  std::optional<PinnedBytes> Take(const DirectoryEntry& entry);
  // How many wait in Take.
  uint32_t waiting() const;
  // Ends the reads that were begun, and begins none from now on. Idempotent.
  void Stop();

 private:
  enum class State : uint8_t { kQueued, kRunning, kDone };
  struct Slot {
    EntryRef ref;
    DiskPlace place;
    PartKey key;
    State state = State::kQueued;
    uint32_t holders = 1;  // and who waits in Take
    PinnedBytes bytes;
    bool failed = false;
  };
  class Holder;

  void Run(Slot& slot);
  void Release(const std::shared_ptr<Slot>& slot);
  // What is to be destroyed without the lock.
  PinnedBytes ReleaseLocked(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const DiskLevels& disks_;
  const uint64_t capacity_;
  mutable Mutex mutex_;
  CondVar read_;
  uint32_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  // Shared with the tasks that fill them: their holders may go first. The slots' fields are
  // guarded by mutex_.
  std::unordered_map<EntryId, std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  std::optional<Executor> threads_;  // the last: its tasks use the rest
};

}  // namespace mnemo

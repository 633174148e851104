// What has to be done from time to time, whether or not a level is full: ended
// leases, expired parts, space given back, the time written down.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"
#include "storage/block/store_core.h"

namespace mnemo {

// The last time known before a restart; nanos 0 if none was written down, or
// it is damaged. docs/formats/data-directory.md has the bytes.
WallTime ReadLastKnownTime(FileSystem& files, const std::string& data_directory);

// Thread-safe; one thread at a time does the work, others return at once.
class Upkeep {
 public:
  // The whole directory is looked through once in this time.
  static constexpr Nanos kSweepPeriod = std::chrono::seconds(60);
  static constexpr Nanos kMaintainPeriod = std::chrono::seconds(1);
  static constexpr Nanos kWriteDownPeriod = std::chrono::minutes(5);

  Upkeep(StoreCore& core, FileSystem& files);

  // True if more is to do now.
  bool Step();
  // Some part expires some day: only then is the time worth writing down.
  void NoteExpiring() { expiring_.store(true, std::memory_order_relaxed); }
  absl::Status WriteDownTime();

 private:
  bool EndLeases();
  bool SweepExpired(Nanos elapsed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(working_);

  StoreCore& core_;
  FileSystem& files_;
  std::atomic<bool> expiring_{false};
  // Not a lock but a turn: taken with TryLock alone, so that nobody waits for
  // what is done with it.
  Mutex working_;
  MonoTime swept_ ABSL_GUARDED_BY(working_);
  MonoTime maintained_ ABSL_GUARDED_BY(working_);
  MonoTime written_down_ ABSL_GUARDED_BY(working_);
  uint64_t cursor_ ABSL_GUARDED_BY(working_) = 0;
};

}  // namespace mnemo

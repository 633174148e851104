// A second record of how far an instance is durable, beside RocksDB's own.
//
// RocksDB cannot tell a log that ends here from one whose last records were
// lost: a length field gone wrong looks like the end. So what was acknowledged
// is noted in a small file of its own, and compared at start.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. docs/formats/data-directory.md has the bytes.
//
// A record is written before each acknowledgement, and synced every
// kSyncInterval of them: after a process died the mark is exact; after a power
// loss it may be that much behind, and never ahead.
class DurableMark {
 public:
  static constexpr int kSyncInterval = 256;

  struct State {
    bool present = false;
    bool damaged = false;  // some of it does not decode; the rest counts
    bool clean = false;    // the last process closed the instance
    uint64_t sequence = 0;
  };
  // Errors: kFailedPrecondition (an unknown version, both named), and those of
  // reading a file. An absent file is not an error.
  static absl::StatusOr<State> Read(FileSystem& files, const std::string& path);

  // Replaces the file, durably, by one that says `sequence` and "in use".
  static absl::StatusOr<std::unique_ptr<DurableMark>> Start(FileSystem& files,
                                                            const std::string& path,
                                                            uint64_t sequence);

  // Notes that everything up to `sequence` is durable. A failure is counted,
  // not returned: what it describes is durable all the same.
  void Advance(uint64_t sequence);
  // Notes, durably, that everything up to `sequence` is and that the instance
  // is closed.
  absl::Status Finish(uint64_t sequence);

  uint64_t sequence() const;
  uint64_t failures() const;

 private:
  DurableMark(FileSystem& files, std::string path, uint64_t sequence);
  absl::Status Restart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Append() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FileSystem& files_;
  const std::string path_;
  mutable Mutex mutex_;
  // Null after a failed write: the next record starts the file anew.
  std::unique_ptr<WritableFile> file_ ABSL_GUARDED_BY(mutex_);
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_);
  int unsynced_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo

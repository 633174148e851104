// A file system that loses what was not synced, and fails on demand.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "storage/base/file_system.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Keeps its files in a real folder through `base`, and remembers which bytes
// of each file were synced and which entries of each folder. What lies there
// before a folder is first touched counts as durable. Thread-safe.
//
// A strict reading of POSIX: syncing a file does not make its name durable;
// only syncing its folder does.
class FaultFileSystem final : public FileSystem {
 public:
  // `graveyard` is an existing empty folder on the same file system, outside
  // of what is tested: it keeps a link to every file.
  FaultFileSystem(FileSystem& base, std::string graveyard);
  ~FaultFileSystem() override;

  // Power is lost: names and bytes that were not synced go. With a seed, a
  // random part of the unsynced tail of each file survives, as a disk may have
  // written some of it. No file may be open. Errors: those of `base`.
  absl::Status DropUnsynced(std::optional<uint64_t> seed = std::nullopt);

  // Every call fails from now on, as it does for the objects of a process that
  // is torn down after its machine lost power.
  void SetDead(bool dead);

  // Changes (appends, syncs, truncations, renames, links, removals, new files)
  // succeed `count` more times, then fail until Heal.
  void FailAfter(uint64_t count);
  // The next `count` syncs of files fail; their bytes stay unsynced.
  void FailSyncs(uint64_t count);
  // The files that lie here may take so much more; what removal frees comes
  // back. A write that does not fit is cut short, as the kernel does.
  void NoSpaceAfter(uint64_t bytes);
  void Heal();  // ends FailAfter, FailSyncs and NoSpaceAfter

  uint64_t changes() const;  // so far: where FailAfter may be aimed
  uint64_t syncs() const;

  // Inverts one bit of a file, as decay would: behind everybody's back.
  absl::Status FlipBit(const std::string& path, uint64_t bit);

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Link(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status CreateDirectory(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<Entry>> List(const std::string& path) override;
  absl::StatusOr<uint64_t> FileSize(const std::string& path) override;
  absl::StatusOr<bool> Exists(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  absl::StatusOr<Space> FreeSpace(const std::string& path) override;

 private:
  class File;
  class Reader;

  // A file whatever its names; null stands for a folder. Its grave goes with
  // the last name, durable or not.
  struct Inode {
    ~Inode();
    FileSystem* base = nullptr;
    std::string grave;  // its link in the graveyard
    uint64_t size = 0;
    uint64_t synced_size = 0;
    int names = 0;
  };
  using Entries = std::map<std::string, std::shared_ptr<Inode>>;
  struct Folder {
    Entries now;
    Entries durable;
  };

  absl::Status Alive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Change() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Folder*> Adopt(const std::string& folder) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<Inode>> Find(const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<Inode>> Bury(const std::string& path, uint64_t size)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unname(Entries& entries, const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Restore(const std::string& path, Folder& folder, std::optional<uint64_t> seed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RemoveTree(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FileSystem& base_;
  const std::string graveyard_;
  mutable Mutex mutex_;
  std::map<std::string, Folder> folders_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_grave_ ABSL_GUARDED_BY(mutex_) = 0;
  bool dead_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<uint64_t> changes_left_ ABSL_GUARDED_BY(mutex_);
  uint64_t syncs_to_fail_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<uint64_t> space_left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

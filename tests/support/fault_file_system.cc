#include "tests/support/fault_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

std::string ParentOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}
std::string NameOf(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}
// One spelling for each file, as folders are found by theirs.
std::string Normal(const std::string& path) {
  std::string normal = std::filesystem::path(path).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

}  // namespace

FaultFileSystem::Inode::~Inode() {
  if (base != nullptr) base->Remove(grave).IgnoreError();
}

class FaultFileSystem::File final : public WritableFile {
 public:
  File(FaultFileSystem& files, std::unique_ptr<WritableFile> base, std::shared_ptr<Inode> inode)
      : files_(files), base_(std::move(base)), inode_(std::move(inode)) {}

  absl::Status Append(ByteView bytes) override {
    MutexLock lock(files_.mutex_);
    MNEMO_RETURN_IF_ERROR(Usable());
    MNEMO_RETURN_IF_ERROR(files_.Change());
    const uint64_t fits = std::min<uint64_t>(bytes.size(), files_.space_left_.value_or(UINT64_MAX));
    MNEMO_RETURN_IF_ERROR(base_->Append(bytes.first(fits)));
    inode_->size += fits;
    if (files_.space_left_.has_value()) *files_.space_left_ -= fits;
    if (fits < bytes.size()) return absl::ResourceExhaustedError("injected: no space left");
    return absl::OkStatus();
  }

  // The base is not synced: nothing here outlives the test, and a power loss
  // is what DropUnsynced says it is.
  absl::Status Sync() override {
    MutexLock lock(files_.mutex_);
    MNEMO_RETURN_IF_ERROR(Usable());
    MNEMO_RETURN_IF_ERROR(files_.Change());
    ++files_.syncs_;
    if (files_.syncs_to_fail_ > 0) {
      --files_.syncs_to_fail_;
      broken_ = true;
      return Usable();
    }
    inode_->synced_size = std::max(inode_->synced_size, inode_->size);
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t size) override {
    MutexLock lock(files_.mutex_);
    MNEMO_RETURN_IF_ERROR(Usable());
    MNEMO_RETURN_IF_ERROR(files_.Change());
    MNEMO_RETURN_IF_ERROR(base_->Truncate(size));
    if (files_.space_left_.has_value() && size < inode_->size) {
      *files_.space_left_ += inode_->size - size;
    }
    inode_->size = size;
    inode_->synced_size = std::min(inode_->synced_size, size);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    MutexLock lock(files_.mutex_);
    const absl::Status closed = base_->Close();
    MNEMO_RETURN_IF_ERROR(Usable());
    MNEMO_RETURN_IF_ERROR(files_.Alive());
    return closed;
  }

  uint64_t Size() const override {
    MutexLock lock(files_.mutex_);
    return inode_->size;
  }

 private:
  absl::Status Usable() const {
    return broken_ ? absl::InternalError("injected: an earlier sync failed") : absl::OkStatus();
  }

  FaultFileSystem& files_;
  const std::unique_ptr<WritableFile> base_;
  const std::shared_ptr<Inode> inode_;
  bool broken_ = false;  // under files_.mutex_
};

class FaultFileSystem::Reader final : public RandomAccessFile {
 public:
  Reader(const FaultFileSystem& files, std::unique_ptr<RandomAccessFile> base)
      : files_(files), base_(std::move(base)) {}

  absl::StatusOr<size_t> Read(uint64_t offset, MutableByteView into) const override {
    {
      MutexLock lock(files_.mutex_);
      MNEMO_RETURN_IF_ERROR(files_.Alive());
    }
    return base_->Read(offset, into);
  }
  uint64_t Size() const override { return base_->Size(); }
  size_t RequiredAlignment() const override { return base_->RequiredAlignment(); }

 private:
  const FaultFileSystem& files_;
  const std::unique_ptr<RandomAccessFile> base_;
};

FaultFileSystem::FaultFileSystem(FileSystem& base, std::string graveyard)
    : base_(base), graveyard_(std::move(graveyard)) {}
FaultFileSystem::~FaultFileSystem() = default;

void FaultFileSystem::SetDead(bool dead) {
  MutexLock lock(mutex_);
  dead_ = dead;
}
void FaultFileSystem::FailAfter(uint64_t count) {
  MutexLock lock(mutex_);
  changes_left_ = count;
}
void FaultFileSystem::FailSyncs(uint64_t count) {
  MutexLock lock(mutex_);
  syncs_to_fail_ = count;
}
void FaultFileSystem::NoSpaceAfter(uint64_t bytes) {
  MutexLock lock(mutex_);
  space_left_ = bytes;
}
void FaultFileSystem::Heal() {
  MutexLock lock(mutex_);
  changes_left_.reset();
  space_left_.reset();
  syncs_to_fail_ = 0;
}
uint64_t FaultFileSystem::changes() const {
  MutexLock lock(mutex_);
  return changes_;
}
uint64_t FaultFileSystem::syncs() const {
  MutexLock lock(mutex_);
  return syncs_;
}

absl::Status FaultFileSystem::Alive() const {
  return dead_ ? absl::InternalError("injected: the power is gone") : absl::OkStatus();
}

absl::Status FaultFileSystem::Change() {
  MNEMO_RETURN_IF_ERROR(Alive());
  ++changes_;
  if (!changes_left_.has_value()) return absl::OkStatus();
  if (*changes_left_ == 0) return absl::InternalError("injected: write failed");
  --*changes_left_;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<FaultFileSystem::Inode>> FaultFileSystem::Bury(
    const std::string& path, uint64_t size) {
  auto inode = std::make_shared<Inode>();
  inode->grave = fmt::format("{}/{}", graveyard_, next_grave_++);
  MNEMO_RETURN_IF_ERROR(base_.Link(path, inode->grave));
  inode->base = &base_;
  inode->size = inode->synced_size = size;
  inode->names = 1;
  return inode;
}

absl::StatusOr<FaultFileSystem::Folder*> FaultFileSystem::Adopt(const std::string& folder) {
  const auto found = folders_.find(folder);
  if (found != folders_.end()) return &found->second;
  MNEMO_ASSIGN_OR_RETURN(const std::vector<Entry> entries, base_.List(folder));
  Folder adopted;
  for (const Entry& entry : entries) {
    std::shared_ptr<Inode> inode;
    if (!entry.is_directory) {
      MNEMO_ASSIGN_OR_RETURN(inode, Bury(folder + "/" + entry.name, entry.size));
    }
    adopted.now[entry.name] = inode;
  }
  adopted.durable = adopted.now;
  return &folders_.emplace(folder, std::move(adopted)).first->second;
}

absl::StatusOr<std::shared_ptr<FaultFileSystem::Inode>> FaultFileSystem::Find(
    const std::string& path) {
  MNEMO_ASSIGN_OR_RETURN(Folder* const folder, Adopt(ParentOf(path)));
  const auto found = folder->now.find(NameOf(path));
  if (found == folder->now.end() || found->second == nullptr) {
    return absl::NotFoundError(fmt::format("{}: no such file", path));
  }
  return found->second;
}

void FaultFileSystem::Unname(Entries& entries, const std::string& name) {
  const auto found = entries.find(name);
  if (found == entries.end()) return;
  if (found->second != nullptr && --found->second->names == 0 && space_left_.has_value()) {
    *space_left_ += found->second->size;
  }
  entries.erase(found);
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::OpenForWrite(
    const std::string& given, WriteMode mode) {
  const std::string path = Normal(given);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(Folder* const folder, Adopt(ParentOf(path)));
  const std::string name = NameOf(path);
  const bool present = folder->now.contains(name);
  if (present && mode == WriteMode::kAppend) {
    MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.OpenForWrite(path, mode));
    return std::make_unique<File>(*this, std::move(base), folder->now[name]);
  }
  // Truncating makes a new file under the old name, so that the old one can
  // come back when the folder was not synced.
  if (present) {
    MNEMO_RETURN_IF_ERROR(base_.Remove(path));
    Unname(folder->now, name);
  }
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> base, base_.OpenForWrite(path, mode));
  MNEMO_ASSIGN_OR_RETURN(folder->now[name], Bury(path, 0));
  return std::make_unique<File>(*this, std::move(base), folder->now[name]);
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> FaultFileSystem::OpenForRead(
    const std::string& path, const ReadOptions& options) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> base, base_.OpenForRead(path, options));
  return std::make_unique<Reader>(*this, std::move(base));
}

absl::Status FaultFileSystem::Rename(const std::string& given_from, const std::string& given_to) {
  const std::string from = Normal(given_from);
  const std::string to = Normal(given_to);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(const std::shared_ptr<Inode> inode, Find(from));
  MNEMO_ASSIGN_OR_RETURN(Folder* const target, Adopt(ParentOf(to)));
  MNEMO_ASSIGN_OR_RETURN(Folder* const source, Adopt(ParentOf(from)));
  MNEMO_RETURN_IF_ERROR(base_.Rename(from, to));
  ++inode->names;
  Unname(target->now, NameOf(to));
  target->now[NameOf(to)] = inode;
  Unname(source->now, NameOf(from));
  return absl::OkStatus();
}

absl::Status FaultFileSystem::Link(const std::string& given_from, const std::string& given_to) {
  const std::string from = Normal(given_from);
  const std::string to = Normal(given_to);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(const std::shared_ptr<Inode> inode, Find(from));
  MNEMO_ASSIGN_OR_RETURN(Folder* const target, Adopt(ParentOf(to)));
  MNEMO_RETURN_IF_ERROR(base_.Link(from, to));
  ++inode->names;
  target->now[NameOf(to)] = inode;
  return absl::OkStatus();
}

absl::Status FaultFileSystem::Remove(const std::string& given) {
  const std::string path = Normal(given);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(Folder* const folder, Adopt(ParentOf(path)));
  MNEMO_RETURN_IF_ERROR(base_.Remove(path));
  Unname(folder->now, NameOf(path));
  return absl::OkStatus();
}

absl::Status FaultFileSystem::CreateDirectory(const std::string& given) {
  const std::string path = Normal(given);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  // The parents that are missing, outermost first, each unsynced in its own.
  std::vector<std::string> missing;
  for (std::string at = path; at != ParentOf(at) && !at.empty(); at = ParentOf(at)) {
    MNEMO_ASSIGN_OR_RETURN(const bool exists, base_.Exists(at));
    if (exists) break;
    missing.insert(missing.begin(), at);
  }
  for (const std::string& folder : missing) {
    MNEMO_ASSIGN_OR_RETURN(Folder* const parent, Adopt(ParentOf(folder)));
    MNEMO_RETURN_IF_ERROR(base_.CreateDirectory(folder));
    parent->now[NameOf(folder)] = nullptr;
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::RemoveDirectory(const std::string& given) {
  const std::string path = Normal(given);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(Folder* const parent, Adopt(ParentOf(path)));
  MNEMO_RETURN_IF_ERROR(base_.RemoveDirectory(path));
  Unname(parent->now, NameOf(path));
  folders_.erase(path);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncDirectory(const std::string& given) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Change());
  MNEMO_ASSIGN_OR_RETURN(Folder* const folder, Adopt(Normal(given)));
  folder->durable = folder->now;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<FileSystem::Entry>> FaultFileSystem::List(const std::string& path) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  return base_.List(path);
}
absl::StatusOr<uint64_t> FaultFileSystem::FileSize(const std::string& path) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  return base_.FileSize(path);
}
absl::StatusOr<bool> FaultFileSystem::Exists(const std::string& path) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  return base_.Exists(path);
}
absl::StatusOr<std::unique_ptr<FileLock>> FaultFileSystem::Lock(const std::string& given) {
  const std::string path = Normal(given);
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  MNEMO_ASSIGN_OR_RETURN(Folder* const folder, Adopt(ParentOf(path)));
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> held, base_.Lock(path));
  if (!folder->now.contains(NameOf(path))) {
    MNEMO_ASSIGN_OR_RETURN(folder->now[NameOf(path)], Bury(path, 0));
  }
  return held;
}
absl::StatusOr<FileSystem::Space> FaultFileSystem::FreeSpace(const std::string& path) {
  MutexLock lock(mutex_);
  MNEMO_RETURN_IF_ERROR(Alive());
  MNEMO_ASSIGN_OR_RETURN(Space space, base_.FreeSpace(path));
  if (space_left_.has_value()) space.free_bytes = std::min(space.free_bytes, *space_left_);
  return space;
}

absl::Status FaultFileSystem::FlipBit(const std::string& path, uint64_t bit) {
  MutexLock lock(mutex_);
  MNEMO_ASSIGN_OR_RETURN(std::string contents, ReadSmallFile(base_, path, UINT64_MAX));
  if (bit / 8 >= contents.size()) {
    return absl::OutOfRangeError(fmt::format("{}: bit {} of {} bytes", path, bit, contents.size()));
  }
  contents[bit / 8] = static_cast<char>(contents[bit / 8] ^ (1 << (bit % 8)));
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file,
                         base_.OpenForWrite(path, WriteMode::kTruncate));
  return file->Append(AsBytes(contents));
}

absl::Status FaultFileSystem::RemoveTree(const std::string& path) {
  MNEMO_ASSIGN_OR_RETURN(const std::vector<Entry> entries, base_.List(path));
  for (const Entry& entry : entries) {
    const std::string child = path + "/" + entry.name;
    MNEMO_RETURN_IF_ERROR(entry.is_directory ? RemoveTree(child) : base_.Remove(child));
  }
  folders_.erase(path);
  return base_.RemoveDirectory(path);
}

absl::Status FaultFileSystem::Restore(const std::string& path, Folder& folder,
                                      std::optional<uint64_t> seed) {
  for (const auto& [name, inode] : folder.now) {
    const std::string entry = path + "/" + name;
    if (inode != nullptr) {
      MNEMO_RETURN_IF_ERROR(base_.Remove(entry));
    } else if (!folder.durable.contains(name)) {
      MNEMO_RETURN_IF_ERROR(RemoveTree(entry));
    }
  }
  for (const auto& [name, inode] : folder.durable) {
    const std::string entry = path + "/" + name;
    if (inode == nullptr) {
      MNEMO_RETURN_IF_ERROR(base_.CreateDirectory(entry));
      continue;
    }
    if (inode->size > inode->synced_size) {
      uint64_t kept = inode->synced_size;
      if (seed.has_value()) {
        std::mt19937_64 random(*seed ^ std::hash<std::string>()(entry));
        kept += random() % (inode->size - inode->synced_size + 1);
      }
      MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file,
                             base_.OpenForWrite(inode->grave, WriteMode::kAppend));
      MNEMO_RETURN_IF_ERROR(file->Truncate(kept));
      inode->size = inode->synced_size = kept;
    }
    MNEMO_RETURN_IF_ERROR(base_.Link(inode->grave, entry));
  }
  folder.now = folder.durable;
  return absl::OkStatus();
}

absl::Status FaultFileSystem::DropUnsynced(std::optional<uint64_t> seed) {
  MutexLock lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, folder] : folders_) paths.push_back(path);
  for (const std::string& path : paths) {
    const auto found = folders_.find(path);  // gone when its parent was not durable
    if (found == folders_.end()) continue;
    MNEMO_RETURN_IF_ERROR(Restore(path, found->second, seed));
  }
  // Names were given and taken wholesale: count them anew.
  for (auto& [path, folder] : folders_) {
    for (auto& [name, inode] : folder.now) {
      if (inode != nullptr) inode->names = 0;
    }
  }
  for (auto& [path, folder] : folders_) {
    for (auto& [name, inode] : folder.now) {
      if (inode != nullptr) ++inode->names;
    }
  }
  return absl::OkStatus();
}

}  // namespace mnemo

// Regions of a file on a tmpfs: mapped where it cannot be cut, else by system
// calls.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "server/transfer/guarded_copy.h"
#include "server/transfer/region.h"
#include "storage/base/errno_status.h"
#include "storage/base/iovecs.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr uint64_t kBlockBytes = 512;  // of st_blocks, on every file system
// Newer than Debian 12's headers; kernels before 6.9 refuse it.
constexpr int kNoAppend = 0x20;  // RWF_NOAPPEND

absl::Status WasCut(uint64_t size, uint64_t now) {
  return absl::FailedPreconditionError(
      fmt::format("the memory was registered with {} bytes and has {} now", size, now));
}

absl::Status HasHoles(uint64_t size, uint64_t allocated) {
  return absl::FailedPreconditionError(
      fmt::format("{} of the {} bytes of the memory have no pages: touch all of it (mlock, "
                  "MADV_POPULATE_WRITE or fallocate) before anything is copied into it",
                  size - allocated, size));
}

struct FileState {
  uint64_t bytes = 0;
  uint64_t allocated = 0;
};
absl::StatusOr<FileState> StateOf(int file) {
  struct stat info;
  if (::fstat(file, &info) != 0) return ErrnoStatus("fstat of registered memory", errno);
  return FileState{static_cast<uint64_t>(info.st_size),
                   static_cast<uint64_t>(info.st_blocks) * kBlockBytes};
}

absl::Status ReadFile(int file, uint64_t size, RunCursor runs,
                      std::span<const MutableByteView> to) {
  PieceCursor<MutableByteView> pieces(to);
  std::vector<iovec> list;
  while (pieces.left() > 0) {
    SliceList::Run run = runs.Next(std::min(pieces.left(), kMaxTransferBytes));
    while (run.length > 0) {
      pieces.Take(run.length, list);
      for (IovecSpan rest(list); !rest.empty();) {
        const ssize_t count = ::preadv(file, rest.data(), static_cast<int>(rest.size()),
                                       static_cast<off_t>(run.offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return ErrnoStatus("preadv of registered memory", errno);
        if (count == 0) return WasCut(size, run.offset);
        run.offset += static_cast<uint64_t>(count);
        run.length -= static_cast<uint64_t>(count);
        rest = Advance(rest, static_cast<uint64_t>(count));
      }
    }
  }
  return absl::OkStatus();
}

// pwritev at `offset`, whatever flags the client gave the open file since.
ssize_t WriteAt(int file, IovecSpan list, uint64_t offset) {
  const int count = static_cast<int>(list.size());
  const ssize_t written =
      ::pwritev2(file, list.data(), count, static_cast<off_t>(offset), kNoAppend);
  if (written >= 0 || errno != EOPNOTSUPP) return written;
  return ::pwritev(file, list.data(), count, static_cast<off_t>(offset));
}

absl::Status WriteFile(int file, std::span<const ByteView> from, RunCursor runs) {
  PieceCursor<ByteView> pieces(from);
  std::vector<iovec> list;
  while (pieces.left() > 0) {
    SliceList::Run run = runs.Next(std::min(pieces.left(), kMaxTransferBytes));
    while (run.length > 0) {
      pieces.Take(run.length, list);
      for (IovecSpan rest(list); !rest.empty();) {
        const ssize_t count = WriteAt(file, rest, run.offset);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return ErrnoStatus("pwritev of registered memory", errno);
        run.offset += static_cast<uint64_t>(count);
        run.length -= static_cast<uint64_t>(count);
        rest = Advance(rest, static_cast<uint64_t>(count));
      }
    }
  }
  return absl::OkStatus();
}

// Checked before each copy, since the client may cut the file or punch holes at
// any time. What it does between the check and the copy makes the copy fail, or
// has the daemon pay for as many pages as the copy has: never more than its
// tenant may register.
class SharedRegion final : public Region {
 public:
  SharedRegion(Descriptor file, uint64_t size, bool writable)
      : Region(RegionForm::kShared, size, writable), file_(std::move(file)) {}

 private:
  absl::Status Read(RunCursor runs, std::span<const MutableByteView> to) const override {
    return ReadFile(file_.get(), size(), runs, to);
  }

  absl::Status Write(std::span<const ByteView> from, RunCursor runs) const override {
    MNEMO_ASSIGN_OR_RETURN(const FileState state, StateOf(file_.get()));
    // Writing past the end would make the file longer again.
    if (state.bytes < size()) return WasCut(size(), state.bytes);
    if (state.allocated < size()) return HasHoles(size(), state.allocated);
    return WriteFile(file_.get(), from, runs);
  }

  const Descriptor file_;
};

// A sealed memfd keeps its size, but holes may be punched into it. To read one
// through the mapping would allocate its page, at the daemon's cost.
class MappedRegion final : public Region {
 public:
  MappedRegion(RegionForm form, Descriptor file, uint8_t* base, uint64_t size, bool writable)
      : Region(form, size, writable), file_(std::move(file)), base_(base) {}
  ~MappedRegion() override { ::munmap(base_, size()); }

 private:
  static absl::Status PageLost() {
    return absl::FailedPreconditionError("a page of the registered memory could not be had");
  }

  absl::Status Read(RunCursor runs, std::span<const MutableByteView> to) const override {
    MNEMO_ASSIGN_OR_RETURN(const FileState state, StateOf(file_.get()));
    if (state.allocated < size()) return ReadFile(file_.get(), size(), runs, to);
    for (MutableByteView piece : to) {
      while (!piece.empty()) {
        const SliceList::Run run = runs.Next(piece.size());
        if (!GuardedCopy(piece.data(), base_ + run.offset, run.length)) return PageLost();
        piece = piece.subspan(run.length);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Write(std::span<const ByteView> from, RunCursor runs) const override {
    MNEMO_ASSIGN_OR_RETURN(const FileState state, StateOf(file_.get()));
    if (state.allocated < size()) return HasHoles(size(), state.allocated);
    for (ByteView piece : from) {
      while (!piece.empty()) {
        const SliceList::Run run = runs.Next(piece.size());
        if (!GuardedCopy(base_ + run.offset, piece.data(), run.length)) return PageLost();
        piece = piece.subspan(run.length);
      }
    }
    return absl::OkStatus();
  }

  const Descriptor file_;
  uint8_t* const base_;
};

absl::Status CheckSize(uint64_t size) {
  if (size >= 1 && size <= kMaxRegionBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("size: {} is not from 1 to {}", size, kMaxRegionBytes));
}

absl::StatusOr<std::unique_ptr<Region>> Map(RegionForm form, Descriptor file, uint64_t size,
                                            bool writable) {
  void* base =
      ::mmap(nullptr, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file.get(), 0);
  if (base == MAP_FAILED) {
    return ErrnoStatus(fmt::format("mmap of {} bytes of registered memory", size), errno);
  }
  // A client's memory is in no core file and in no child. Advice: nothing depends
  // on it.
  (void)::madvise(base, size, MADV_DONTDUMP);
  (void)::madvise(base, size, MADV_DONTFORK);
  return std::make_unique<MappedRegion>(form, std::move(file), static_cast<uint8_t*>(base), size,
                                        writable);
}

// What may be opened and held of a client without the file's owner being able to
// make a read or write of it wait: a regular file on a tmpfs.
absl::Status CheckFile(int file, uint64_t size) {
  struct stat info;
  struct statfs system;
  if (::fstat(file, &info) != 0 || ::fstatfs(file, &system) != 0) {
    return absl::InvalidArgumentError("descriptor: not an open file");
  }
  // hugetlbfs takes the same seals, and gives SIGBUS when its pool is empty.
  if (!S_ISREG(info.st_mode) || system.f_type != TMPFS_MAGIC) {
    return absl::InvalidArgumentError("descriptor: neither a memfd nor a file on a tmpfs");
  }
  if (static_cast<uint64_t>(info.st_size) < size) {
    return absl::InvalidArgumentError(
        fmt::format("size: {} is more than the {} bytes of the file", size, info.st_size));
  }
  return absl::OkStatus();
}

// Errors: kInvalidArgument, kPermissionDenied.
absl::StatusOr<bool> CheckWritable(int file) {
  const int flags = ::fcntl(file, F_GETFL);
  if (flags < 0) return ErrnoStatus("F_GETFL", errno);
  if ((flags & O_APPEND) != 0) {
    return absl::InvalidArgumentError("descriptor: opened with O_APPEND");
  }
  if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY) {
    return absl::PermissionDeniedError("descriptor: not open for reading");
  }
  return (flags & O_ACCMODE) == O_RDWR;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Region>> MakeFileRegion(Descriptor file, uint64_t size) {
  MNEMO_RETURN_IF_ERROR(CheckSize(size));
  MNEMO_RETURN_IF_ERROR(CheckFile(file.get(), size));
  MNEMO_ASSIGN_OR_RETURN(bool writable, CheckWritable(file.get()));
  // No memfd, no seals: -1, or F_SEAL_SEAL alone.
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) writable = false;
  if (seals >= 0 && (seals & kSizeSeals) == kSizeSeals) {
    return Map(RegionForm::kMapped, std::move(file), size, writable);
  }
  return std::make_unique<SharedRegion>(std::move(file), size, writable);
}

absl::StatusOr<std::unique_ptr<Region>> MakeStagingRegion(uint64_t size, Descriptor& for_client) {
  MNEMO_RETURN_IF_ERROR(CheckSize(size));
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (size % page != 0) {
    return absl::InvalidArgumentError(
        fmt::format("size: {} is not a multiple of the page size {}", size, page));
  }
  Descriptor file(::memfd_create("mnemo-staging", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return ErrnoStatus("memfd_create", errno);
  // With its pages: the client could have them made at our cost anyway, and what it
  // may have made is bounded here.
  if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(size)); error != 0) {
    return ErrnoStatus(fmt::format("{} bytes of staging memory", size), error);
  }
  if (::fcntl(file.get(), F_ADD_SEALS, kSizeSeals | F_SEAL_SEAL) != 0) {
    return ErrnoStatus("F_ADD_SEALS", errno);
  }
  Descriptor second(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  if (!second.valid()) return ErrnoStatus("F_DUPFD_CLOEXEC", errno);
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<Region> region,
                         Map(RegionForm::kStaging, std::move(file), size, true));
  for_client = std::move(second);
  return region;
}

}  // namespace mnemo

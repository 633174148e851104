#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "storage/base/descriptor.h"
#include "storage/base/direct_file.h"
#include "storage/base/errno_status.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Satisfies O_DIRECT on every disk and file system in use.
constexpr size_t kDirectAlignment = 4096;
// The kernel takes at most 2 GiB - 4 KiB at once.
constexpr size_t kMaxTransfer = size_t{1} << 30;

absl::Status FromErrno(std::string_view what, const std::string& path, int error) {
  return ErrnoStatus(fmt::format("{} {}", what, path), error);
}

absl::StatusOr<Descriptor> OpenDescriptor(const std::string& path, int flags) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0640);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return FromErrno("open", path, errno);
  return Descriptor(fd);
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, Descriptor fd, uint64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  absl::Status Append(ByteView bytes) override {
    MNEMO_RETURN_IF_ERROR(Usable());
    while (!bytes.empty()) {
      const ssize_t count = ::write(fd_.get(), bytes.data(), std::min(bytes.size(), kMaxTransfer));
      if (count < 0) {
        if (errno == EINTR) continue;
        return FromErrno("write", path_, errno);
      }
      size_.fetch_add(count, std::memory_order_relaxed);
      bytes = bytes.subspan(count);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    MNEMO_RETURN_IF_ERROR(Usable());
    if (::fdatasync(fd_.get()) == 0) return absl::OkStatus();
    sync_errno_.store(errno);
    return Usable();
  }

  absl::Status Truncate(uint64_t size) override {
    MNEMO_RETURN_IF_ERROR(Usable());
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
      return FromErrno("truncate", path_, errno);
    }
    size_.store(size);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    const absl::Status usable = Usable();
    const int fd = fd_.Release();
    if (fd >= 0 && ::close(fd) != 0 && usable.ok()) return FromErrno("close", path_, errno);
    return usable;
  }

  uint64_t Size() const override { return size_.load(std::memory_order_relaxed); }

 private:
  absl::Status Usable() const {
    const int error = sync_errno_.load();
    return error == 0 ? absl::OkStatus() : FromErrno("sync", path_, error);
  }

  const std::string path_;
  Descriptor fd_;
  std::atomic<uint64_t> size_;
  std::atomic<int> sync_errno_{0};
};

class PosixRandomAccessFile final : public RandomAccessFile {
 public:
  PosixRandomAccessFile(std::string path, Descriptor fd, bool direct)
      : path_(std::move(path)), fd_(std::move(fd)), direct_(direct) {}

  absl::StatusOr<size_t> Read(uint64_t offset, MutableByteView into) const override {
    size_t done = 0;
    while (done < into.size()) {
      const ssize_t count =
          ::pread(fd_.get(), into.data() + done, std::min(into.size() - done, kMaxTransfer),
                  static_cast<off_t>(offset + done));
      if (count < 0) {
        if (errno == EINTR) continue;
        return FromErrno("read", path_, errno);
      }
      done += count;
      if (count == 0) break;
      // Under O_DIRECT a transfer that is not aligned ends at the end of the
      // file, and going on from there would be refused.
      if (direct_ && count % kDirectAlignment != 0) break;
    }
    return done;
  }

  uint64_t Size() const override {
    struct stat info;
    return ::fstat(fd_.get(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  }
  size_t RequiredAlignment() const override { return direct_ ? kDirectAlignment : 1; }

 private:
  const std::string path_;
  const Descriptor fd_;
  const bool direct_;
};

// flock belongs to the open file, so that a second lock from this process is
// refused as well, and closing another descriptor of the file releases nothing.
class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  const Descriptor fd_;
};

std::string ReadHolder(int fd) {
  char text[32];
  const ssize_t count = ::pread(fd, text, sizeof(text), 0);
  std::string holder;
  for (ssize_t i = 0; i < count && text[i] >= '0' && text[i] <= '9'; ++i) holder += text[i];
  return holder.empty() ? "unknown" : holder;
}

class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path,
                                                             WriteMode mode) override {
    if (mode == WriteMode::kLarge) {
      MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> direct, CreateDirectFile(path));
      if (direct != nullptr) return direct;
    }
    const int flags = mode == WriteMode::kAppend ? 0 : O_TRUNC;
    MNEMO_ASSIGN_OR_RETURN(Descriptor fd,
                           OpenDescriptor(path, O_WRONLY | O_CREAT | O_APPEND | flags));
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return FromErrno("stat", path, errno);
    return std::make_unique<PosixWritableFile>(path, std::move(fd), info.st_size);
  }

  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(
      const std::string& path, const ReadOptions& options) override {
    if (options.direct) {
      absl::StatusOr<Descriptor> direct = OpenDescriptor(path, O_RDONLY | O_DIRECT);
      if (direct.ok()) {
        return std::make_unique<PosixRandomAccessFile>(path, *std::move(direct), true);
      }
      // tmpfs, for one, refuses with EINVAL; what is really wrong shows below.
    }
    MNEMO_ASSIGN_OR_RETURN(Descriptor fd, OpenDescriptor(path, O_RDONLY));
    // Advice only: what it fails to do is not an error.
    (void)::posix_fadvise(fd.get(), 0, 0,
                          options.sequential ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
    return std::make_unique<PosixRandomAccessFile>(path, std::move(fd), false);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return FromErrno("rename", from, errno);
  }
  absl::Status Link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return FromErrno("link", from, errno);
  }
  absl::Status Remove(const std::string& path) override {
    if (::unlink(path.c_str()) == 0) return absl::OkStatus();
    return FromErrno("remove", path, errno);
  }

  absl::Status CreateDirectory(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return FromErrno("create folder", path, error.value());
    return absl::OkStatus();
  }
  absl::Status RemoveDirectory(const std::string& path) override {
    if (::rmdir(path.c_str()) == 0) return absl::OkStatus();
    return FromErrno("remove folder", path, errno);
  }
  absl::Status SyncDirectory(const std::string& path) override {
    MNEMO_ASSIGN_OR_RETURN(const Descriptor fd, OpenDescriptor(path, O_RDONLY | O_DIRECTORY));
    if (::fsync(fd.get()) == 0) return absl::OkStatus();
    return FromErrno("sync folder", path, errno);
  }

  absl::StatusOr<std::vector<Entry>> List(const std::string& path) override {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
    if (folder == nullptr) return FromErrno("list", path, errno);
    std::vector<Entry> entries;
    while (true) {
      errno = 0;
      const dirent* item = ::readdir(folder.get());
      if (item == nullptr) break;
      const std::string name = item->d_name;
      if (name == "." || name == "..") continue;
      struct stat info;
      if (::fstatat(::dirfd(folder.get()), item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;  // removed since readdir saw it
        return FromErrno("stat", path + "/" + name, errno);
      }
      entries.push_back({name, static_cast<uint64_t>(info.st_size), S_ISDIR(info.st_mode)});
    }
    if (errno != 0) return FromErrno("list", path, errno);
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.name < b.name; });
    return entries;
  }

  absl::StatusOr<uint64_t> FileSize(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) return FromErrno("stat", path, errno);
    return static_cast<uint64_t>(info.st_size);
  }

  absl::StatusOr<bool> Exists(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return FromErrno("stat", path, errno);
  }

  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    MNEMO_ASSIGN_OR_RETURN(Descriptor fd, OpenDescriptor(path, O_RDWR | O_CREAT));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return FromErrno("lock", path, errno);
      return absl::UnavailableError(
          fmt::format("{}: locked by pid {}", path, ReadHolder(fd.get())));
    }
    // The pid is for people; the lock is the kernel's, so a full disk or a
    // torn write here must not refuse it.
    const std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(fd.get(), 0) == 0) {
      [[maybe_unused]] const ssize_t written = ::pwrite(fd.get(), pid.data(), pid.size(), 0);
    }
    return std::make_unique<PosixFileLock>(std::move(fd));
  }

  absl::StatusOr<Space> FreeSpace(const std::string& path) override {
    struct statvfs info;
    if (::statvfs(path.c_str(), &info) != 0) return FromErrno("stat file system of", path, errno);
    return Space{.free_bytes = static_cast<uint64_t>(info.f_bavail) * info.f_frsize,
                 .total_bytes = static_cast<uint64_t>(info.f_blocks) * info.f_frsize};
  }
};

}  // namespace

std::unique_ptr<FileSystem> MakePosixFileSystem() { return std::make_unique<PosixFileSystem>(); }

}  // namespace mnemo

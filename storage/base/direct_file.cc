#include "storage/base/direct_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "storage/base/descriptor.h"
#include "storage/base/errno_status.h"
#include "storage/base/executor.h"
#include "storage/base/mutex.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Satisfies O_DIRECT on every disk and file system in use.
constexpr size_t kAlignment = 4096;
// What goes to the disk at once.
constexpr size_t kRunBytes = size_t{4} << 20;

// A run is filled while the one before it is written, on a thread of the file's own. What is
// not yet a whole run lies in memory: Sync and Close write it, filled up to the alignment, and
// cut the file to its size; it is written again with what follows. A file that is destroyed
// without Close has lost it.
class DirectFile final : public WritableFile {
 public:
  DirectFile(std::string path, Descriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status Append(ByteView bytes) override {
    MNEMO_RETURN_IF_ERROR(failed_);
    while (!bytes.empty()) {
      if (runs_[filling_] == nullptr) runs_[filling_] = MakeRun();
      const size_t count = std::min(bytes.size(), kRunBytes - filled_);
      std::memcpy(runs_[filling_].get() + filled_, bytes.data(), count);
      filled_ += count;
      bytes = bytes.subspan(count);
      tail_written_ = false;
      if (filled_ < kRunBytes) break;
      if (absl::Status written = HandOver(); !written.ok()) return Fail(written);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    MNEMO_RETURN_IF_ERROR(failed_);
    if (absl::Status written = WriteRest(); !written.ok()) return Fail(written);
    if (::fdatasync(fd_.get()) == 0) return absl::OkStatus();
    return Fail(ErrnoStatus("sync " + path_, errno));
  }

  absl::Status Truncate(uint64_t size) override {
    return absl::FailedPreconditionError(
        fmt::format("truncate {} to {}: it is written once, in order", path_, size));
  }

  absl::Status Close() override {
    absl::Status closed = Written();
    if (!failed_.ok()) closed = failed_;
    if (closed.ok() && fd_.valid()) closed = WriteRest();
    const int fd = fd_.Release();
    if (fd >= 0 && ::close(fd) != 0 && closed.ok()) return ErrnoStatus("close " + path_, errno);
    return closed;
  }

  uint64_t Size() const override { return begin_ + filled_; }

 private:
  struct Free {
    void operator()(uint8_t* run) const { ::operator delete(run, std::align_val_t(kAlignment)); }
  };
  using Run = std::unique_ptr<uint8_t, Free>;
  static Run MakeRun() {
    return Run(static_cast<uint8_t*>(::operator new(kRunBytes, std::align_val_t(kAlignment))));
  }

  absl::Status Fail(absl::Status status) { return failed_ = std::move(status); }

  // Waits for the run that is being written, and answers what became of it.
  absl::Status Written() {
    MutexLock lock(mutex_);
    while (writing_) written_.Wait(mutex_);
    return write_status_;
  }

  // Has the run that is full written, and begins the other one.
  absl::Status HandOver() {
    MNEMO_RETURN_IF_ERROR(Written());
    {
      MutexLock lock(mutex_);
      writing_ = true;
    }
    if (!writer_) writer_.emplace(Executor::Options{.name = "direct-write", .threads = 1});
    const uint8_t* const run = runs_[filling_].get();
    MNEMO_CHECK(writer_->TrySubmit([this, run, at = begin_] {
      absl::Status status = Write(run, kRunBytes, at);
      MutexLock lock(mutex_);
      write_status_ = std::move(status);
      writing_ = false;
      written_.SignalAll();
    }));
    begin_ += kRunBytes;
    filling_ ^= 1;
    filled_ = 0;
    tail_written_ = true;
    return absl::OkStatus();
  }

  absl::Status Write(const uint8_t* run, size_t bytes, uint64_t at) {
    size_t done = 0;
    while (done < bytes) {
      const ssize_t count =
          ::pwrite(fd_.get(), run + done, bytes - done, static_cast<off_t>(at + done));
      if (count > 0) {
        done += static_cast<size_t>(count);
        continue;
      }
      if (count < 0 && errno == EINTR) continue;
      // A device that asks for more than our alignment, or the rest of a run that was cut.
      if (count < 0 && errno == EINVAL && LeaveDirect()) continue;
      return ErrnoStatus("write " + path_, count < 0 ? errno : ENOSPC);
    }
    return absl::OkStatus();
  }

  bool LeaveDirect() {
    return std::exchange(direct_, false) && ::fcntl(fd_.get(), F_SETFL, 0) == 0;
  }

  // All that was appended and is not written.
  absl::Status WriteRest() {
    MNEMO_RETURN_IF_ERROR(Written());
    if (tail_written_) return absl::OkStatus();
    uint8_t* const run = runs_[filling_].get();
    const size_t whole = (filled_ + kAlignment - 1) / kAlignment * kAlignment;
    std::memset(run + filled_, 0, whole - filled_);
    MNEMO_RETURN_IF_ERROR(Write(run, whole, begin_));
    if (whole != filled_ && ::ftruncate(fd_.get(), static_cast<off_t>(Size())) != 0) {
      return ErrnoStatus("truncate " + path_, errno);
    }
    tail_written_ = true;
    return absl::OkStatus();
  }

  const std::string path_;
  Descriptor fd_;
  std::array<Run, 2> runs_;
  size_t filling_ = 0;        // of runs_
  uint64_t begin_ = 0;        // of that run in the file
  size_t filled_ = 0;         // of it, below kRunBytes between calls
  bool tail_written_ = true;  // there is none, or it is in the file as it is
  absl::Status failed_;       // as WritableFile says: every later call fails too
  bool direct_ = true;        // of whoever writes, one at a time

  Mutex mutex_;
  CondVar written_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status write_status_ ABSL_GUARDED_BY(mutex_);
  std::optional<Executor> writer_;  // the last: it ends before the rest goes
};

}  // namespace

absl::StatusOr<std::unique_ptr<WritableFile>> CreateDirectFile(const std::string& path) {
  int fd;
  do {
    fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0640);
  } while (fd < 0 && errno == EINTR);
  if (fd >= 0) return std::make_unique<DirectFile>(path, Descriptor(fd));
  if (errno == EINVAL) return nullptr;
  return ErrnoStatus("open " + path, errno);
}

}  // namespace mnemo

// The real daemon as a child process, on ports that it chooses itself.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mnemo {

// Not thread-safe.
class DaemonProcess {
 public:
  // Starts a daemon over `folder` and waits until it serves. `settings` are
  // flags beside those that say where it listens. The binary is MNEMOD_BINARY
  // of the environment, otherwise that of this build. It is killed when the
  // thread that called this ends.
  // Errors: kInternal, if it ends instead; its log is in `folder`.
  static absl::StatusOr<std::unique_ptr<DaemonProcess>> Start(
      const std::string& folder,
      const std::vector<std::string>& settings = {"--memory-total=256MiB", "--disk-total=1GiB"});
  // Kills it if it still runs.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  // Addresses that clients take.
  const std::string& tcp() const { return tcp_; }
  const std::string& unix_socket() const { return unix_; }
  // Path of the streams' socket.
  const std::string& streams() const { return streams_; }

  // kill -9.
  void Kill();
  // Asks it to stop and answers its exit code; negative if a signal ended it.
  int Stop();
  // Stops every thread of it where it stands, and returns once none runs; Thaw
  // lets them go on.
  void Freeze();
  void Thaw();

  // Of the process, as the kernel counts: resident now, and the most there ever
  // was. Bytes; 0 if it does not run.
  uint64_t resident_bytes() const { return StatusBytes("VmRSS:"); }
  uint64_t peak_resident_bytes() const { return StatusBytes("VmHWM:"); }

 private:
  DaemonProcess(pid_t pid, int output) : pid_(pid), output_(output) {}
  absl::Status ReadReadyLine();
  uint64_t StatusBytes(const std::string& field) const;
  void Signal(int number);
  int Wait();

  pid_t pid_;  // 0 once it was waited for
  const int output_;
  std::string tcp_;
  std::string unix_;
  std::string streams_;
};

}  // namespace mnemo

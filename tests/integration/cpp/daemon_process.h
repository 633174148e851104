// The real daemon as a child process, on ports that it chooses itself.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mnemo {

// Not thread-safe.
class DaemonProcess {
 public:
  // Starts a daemon over `folder` and waits until it serves. The binary is
  // MNEMOD_BINARY of the environment, otherwise that of this build.
  // Errors: kInternal, if it ends instead; its log is in `folder`.
  static absl::StatusOr<std::unique_ptr<DaemonProcess>> Start(
      const std::string& folder, const std::vector<std::string>& arguments = {});
  // Kills it if it still runs.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  // Addresses that clients take.
  const std::string& tcp() const { return tcp_; }
  const std::string& unix_socket() const { return unix_; }

  // kill -9.
  void Kill();
  // Asks it to stop and answers its exit code; negative if a signal ended it.
  int Stop();
  void Signal(int number);

 private:
  DaemonProcess(pid_t pid, int output) : pid_(pid), output_(output) {}
  absl::Status ReadReadyLine();
  int Wait();

  pid_t pid_;  // 0 once it was waited for
  const int output_;
  std::string tcp_;
  std::string unix_;
};

}  // namespace mnemo

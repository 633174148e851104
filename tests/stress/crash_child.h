// The child of the crash test: checks what a crash left, then works until the
// next one.
#pragma once

#include <cstdint>
#include <string>

namespace mnemo {

struct CrashChildOptions {
  std::string directory;
  uint64_t seed = 0;
  int pipe = -1;
  // Loses power by itself after so long, and ends; 0: works until it is killed.
  int64_t power_loss_after_ms = 0;
  // Checks, says what it found, and ends.
  bool check_only = false;
};

inline constexpr int64_t kCrashWalIntervalMs = 20;

// The exit code.
int RunCrashChild(const CrashChildOptions& options);

}  // namespace mnemo

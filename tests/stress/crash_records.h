// What a child of the crash test tells its parent over a pipe, one fixed-size
// record a write, so that everything told before a kill arrives whole.
#pragma once

#include <time.h>
#include <unistd.h>

#include <cstdint>

#include "storage/base/status_macros.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// Of one key; which class it is written in follows from its number.
struct CrashRecord {
  enum class Kind : uint8_t {
    kFound = 1,   // after a restart: `version` of `key` is there (0: none)
    kWrong,       // after a restart: what is there are not the bytes of `version`
    kReady,       // the workload starts
    kBeginPut,
    kBeginErase,
    kAcknowledged,  // what was begun last on `key`
    kRefused,       // it failed: it may have left its whole effect, or none
    kPowerLost,
    kFailed,        // the child met what must not happen; `version` says what
  };
  Kind kind = Kind::kReady;
  uint8_t padding[3] = {};
  uint32_t key = 0;
  uint64_t version = 0;
  int64_t nanos = 0;  // monotonic, of the machine
};
static_assert(sizeof(CrashRecord) == 24);

inline constexpr uint32_t kCrashKeys = 600;
inline constexpr uint32_t kCrashThreads = 3;

// One thread works on one key, so that what was begun last is known.
inline uint32_t ThreadOfKey(uint32_t key) { return key % kCrashThreads; }
inline Durability ClassOfKey(uint32_t key) {
  return static_cast<Durability>(1 + key / kCrashThreads % 3);
}

inline int64_t MachineNanos() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

inline void Tell(int pipe, CrashRecord record) {
  record.nanos = MachineNanos();
  // At most PIPE_BUF bytes: never torn, never mixed with another thread's.
  MNEMO_CHECK(write(pipe, &record, sizeof(record)) == sizeof(record));
}

}  // namespace mnemo

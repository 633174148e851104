// Whether Abseil watches the order in which mutexes are locked.
#pragma once

#include "absl/synchronization/mutex.h"

namespace mnemo {

// Debian builds Abseil with its checks on: each lock of its mutexes, ours and gRPC's, looks
// for a cycle in the order of locks, which takes several times as long as the lock itself.
// Tests keep that; a program that is shipped turns it off, for its whole process, before
// its first thread. docs/decisions/0117.
inline void IgnoreLockOrder() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace mnemo

// Who was refused, and who changed whose credentials, as lines of the log.
#pragma once

#include "server/gate/gate.h"
#include "server/identity/identity_admin.h"
#include "server/observe/log.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. `log` and `clock` outlive it.
class AuditLog {
 public:
  // More refused calls than this within a second are only counted, so that who
  // knocks without end does not fill the disk; the next line says how many.
  static constexpr int kRefusalsPerSecond = 10;

  AuditLog(Logger& log, Clock& clock) : log_(log), clock_(clock) {}

  // "call-refused"; never a credential.
  void Refused(const RefusedCall& call);
  // "identity-changed"; every one of them.
  void Changed(const IdentityChange& change);

 private:
  Logger& log_;
  Clock& clock_;
  Mutex mutex_;
  MonoTime second_ ABSL_GUARDED_BY(mutex_);  // the begin of the current one
  int written_ ABSL_GUARDED_BY(mutex_) = 0;  // in it
  uint64_t unwritten_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo

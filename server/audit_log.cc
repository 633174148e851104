#include "server/audit_log.h"

#include <string>
#include <utility>

namespace mnemo {

void AuditLog::Refused(const RefusedCall& call) {
  uint64_t unwritten = 0;
  {
    MutexLock lock(mutex_);
    const MonoTime now = clock_.Mono();
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      written_ = 0;
    }
    if (written_ >= kRefusalsPerSecond) {
      ++unwritten_;
      return;
    }
    ++written_;
    unwritten = std::exchange(unwritten_, 0);
  }
  log_.Warning("call-refused", {{"method", call.method},
                                {"code", absl::StatusCodeToString(call.status.code())},
                                {"peer", call.peer},
                                {"tenant", call.caller != nullptr ? call.caller->tenant : 0},
                                {"principal", call.caller != nullptr ? call.caller->principal : ""},
                                {"reason", std::string(call.status.message())},
                                {"unwritten", unwritten}});
}

void AuditLog::Changed(const IdentityChange& change) {
  log_.Info("identity-changed", {{"what", change.what},
                                 {"tenant", change.tenant},
                                 {"principal", change.principal},
                                 {"token", change.token == 0 ? "" : TokenIdText(change.token)},
                                 {"by_tenant", change.by.tenant},
                                 {"by", change.by.principal}});
}

}  // namespace mnemo

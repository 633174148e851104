// The one gate that every call on every plane passes.
//
// It decides who calls and whether they may, by the role that the method needs,
// then the class, the deadline, the place in a bounded queue, and the bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/engine/byte_budget.h"
#include "server/engine/call.h"
#include "server/gate/stream_watchdog.h"
#include "server/identity/authenticator.h"
#include "storage/base/clock.h"
#include "storage/base/executor.h"

namespace mnemo {

// What the gate knows of a method; every method of every service has one rule.
struct MethodRule {
  std::string_view method;  // "mnemo.v1.BlockService/Match"
  CallClass call_class = CallClass::kDefault;
  RoleSet roles;         // any of them lets a caller in; none: nobody comes in
  bool endless = false;  // a stream that its client ends: no default deadline
};
std::span<const MethodRule> AllMethodRules();
// The rule of a method; a method without one is a broken invariant.
const MethodRule& RuleOf(std::string_view method);
// "critical", "default", "batch", "background".
std::string_view ClassLabel(CallClass call_class);

// A call that was refused for who called, for the log. Views, valid meanwhile.
struct RefusedCall {
  std::string_view method;
  std::string_view peer;             // the address, as gRPC writes it
  const Identity* caller = nullptr;  // null: nobody knows
  const absl::Status& status;
};

// What metrics and the log learn of calls. Thread-safe; neither blocks nor throws.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  virtual void OnQueued(CallClass call_class, Nanos delay) = 0;
  virtual void OnShed(CallClass call_class, std::string_view reason) = 0;
  virtual void OnFinished(const MethodRule& rule, absl::StatusCode code, Nanos took) = 0;
  virtual void OnAuthenticated(AuthOutcome outcome) = 0;
  virtual void OnRefused(const RefusedCall& call) = 0;
};

class NullRpcObserver final : public RpcObserver {
 public:
  void OnQueued(CallClass, Nanos) override {}
  void OnShed(CallClass, std::string_view) override {}
  void OnFinished(const MethodRule&, absl::StatusCode, Nanos) override {}
  void OnAuthenticated(AuthOutcome) override {}
  void OnRefused(const RefusedCall&) override {}
};

struct GateOptions {
  size_t critical_threads = 4;
  size_t default_threads = 2;
  size_t batch_threads = 4;
  size_t max_queued = 4096;                           // of each class
  Nanos default_deadline = std::chrono::seconds(30);  // where the client gave none
  uint64_t inflight_bytes = uint64_t{256} << 20;      // payload between sockets and levels
  Nanos stall_limit = std::chrono::seconds(10);       // a stream whose client stands still
  absl::Status Validate() const;
};

// Thread-safe. Outlives every call. What it is made of outlives it.
class Gate {
 public:
  Gate(const GateOptions& options, const Authenticator& authenticator, Clock& clock,
       RpcObserver& observer);

  // Decides on a call before any of its payload is read, and fills `call`, whose
  // identity is known when kPermissionDenied comes back. `deadline` is the
  // client's, or max. Errors: kUnavailable (shutting down), kUnauthenticated (of
  // Authenticator::Resolve), kPermissionDenied (no role that the rule names).
  absl::Status Admit(const MethodRule& rule, const Credentials& credentials, MonoTime deadline,
                     CallContext& call);
  // The same for a call of a stream, whose caller was resolved when it began. Errors:
  // kUnauthenticated (of Authenticator::Recheck) and the others.
  absl::Status AdmitStream(const MethodRule& rule, const Identity& caller, MonoTime deadline,
                           CallContext& call);
  // Whether the caller of a call that goes on is still who it was. Errors:
  // kUnauthenticated (revoked, expired, or a role less).
  absl::Status Recheck(const CallContext& call) const;

  // Runs `work` on the threads of the call's class. Errors: kUnavailable (the
  // queue is full, or shutting down); `work` was then not taken.
  absl::Status Submit(const CallContext& call, std::function<void()> work);
  // Work of a class that no thread has taken up yet.
  size_t queued(CallClass call_class) const;

  ByteBudget& bytes() { return bytes_; }
  StreamWatchdog& watchdog() { return watchdog_; }
  RpcObserver& observer() { return observer_; }
  Clock& clock() { return clock_; }

  // Admits nothing from now on; what was admitted goes on, but for streams
  // without an end of their own.
  void StopAdmitting();
  // Runs what was submitted, then stops the threads.
  void Shutdown();

 private:
  const Executor& ExecutorOf(CallClass call_class) const;
  Executor& ExecutorOf(CallClass call_class);

  // Whether anything is admitted now, and if so, what does not depend on the caller.
  absl::Status Open(const MethodRule& rule, MonoTime deadline, CallContext& call);
  absl::Status Judge(const MethodRule& rule, absl::StatusOr<Identity> caller, CallContext& call);

  const GateOptions options_;
  const Authenticator& authenticator_;
  Clock& clock_;
  RpcObserver& observer_;
  ByteBudget bytes_;
  StreamWatchdog watchdog_;
  std::atomic<bool> stopping_{false};
  Executor critical_;
  Executor default_;
  Executor batch_;
};

}  // namespace mnemo

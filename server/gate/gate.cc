#include "server/gate/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// Who finds and reads a tenant's data, who stores it, who changes or ends its
// spaces; who sees figures of the node, and who its configuration. An operator is
// among none of the first three: the node is theirs, what others keep there is not.
constexpr RoleSet kReads = {Role::kReader, Role::kWriter, Role::kTenantAdmin};
constexpr RoleSet kWrites = {Role::kWriter, Role::kTenantAdmin};
constexpr RoleSet kAdministers = {Role::kTenantAdmin};
constexpr RoleSet kWatchesNode = {Role::kOperator, Role::kMetrics};
constexpr RoleSet kOperates = {Role::kOperator};
constexpr RoleSet kHandsOutTokens = {Role::kTenantAdmin, Role::kOperator};

constexpr MethodRule kRules[] = {
    {"mnemo.v1.SpaceService/Open", CallClass::kDefault, kWrites},
    {"mnemo.v1.SpaceService/Get", CallClass::kDefault, kReads},
    {"mnemo.v1.SpaceService/List", CallClass::kDefault, kReads},
    {"mnemo.v1.SpaceService/Update", CallClass::kDefault, kAdministers},
    {"mnemo.v1.SpaceService/Delete", CallClass::kDefault, kAdministers},
    {"mnemo.v1.SpaceService/GetCalibration", CallClass::kCritical, kReads},
    {"mnemo.v1.BlockService/Offer", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Put", CallClass::kBatch, kWrites},
    {"mnemo.v1.BlockService/Match", CallClass::kCritical, kReads},
    {"mnemo.v1.BlockService/Get", CallClass::kCritical, kReads},
    {"mnemo.v1.BlockService/Delete", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Touch", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Prefetch", CallClass::kDefault, kReads},
    {"mnemo.v1.BlockService/Pin", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Unpin", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Renew", CallClass::kCritical, kReads},
    {"mnemo.v1.BlockService/Describe", CallClass::kDefault, kReads},
    {"mnemo.v1.BlockService/List", CallClass::kDefault, kReads},
    {"mnemo.v1.BlockService/Flush", CallClass::kDefault, kWrites},
    {"mnemo.v1.BlockService/Watch", CallClass::kBackground, kReads, true},
    {"mnemo.v1.ContextService/Create", CallClass::kDefault, kWrites},
    {"mnemo.v1.ContextService/Append", CallClass::kBatch, kWrites, true},
    {"mnemo.v1.ContextService/Read", CallClass::kDefault, kReads},
    {"mnemo.v1.ContextService/Summarize", CallClass::kDefault, kReads},
    {"mnemo.v1.ContextService/Search", CallClass::kCritical, kReads},
    {"mnemo.v1.ContextService/Link", CallClass::kDefault, kWrites},
    {"mnemo.v1.ContextService/ListLinks", CallClass::kDefault, kReads},
    {"mnemo.v1.ContextService/Seal", CallClass::kDefault, kWrites},
    {"mnemo.v1.ContextService/Delete", CallClass::kDefault, kWrites},
    {"mnemo.v1.ContextService/Describe", CallClass::kDefault, kReads},
    {"mnemo.v1.ContextService/List", CallClass::kDefault, kReads},
    {"mnemo.v1.AdminService/GetNodeStatus", CallClass::kDefault, kWatchesNode},
    {"mnemo.v1.AdminService/ListLevels", CallClass::kDefault, kWatchesNode},
    {"mnemo.v1.AdminService/ListTiers", CallClass::kDefault, kWatchesNode},
    {"mnemo.v1.AdminService/ExplainPlacement", CallClass::kDefault, kReads},
    {"mnemo.v1.AdminService/GetConfig", CallClass::kDefault, kOperates},
    {"mnemo.v1.AuthService/CreateTenant", CallClass::kDefault, kOperates},
    {"mnemo.v1.AuthService/ListTenants", CallClass::kDefault, kOperates},
    {"mnemo.v1.AuthService/CreateToken", CallClass::kDefault, kHandsOutTokens},
    {"mnemo.v1.AuthService/RotateToken", CallClass::kDefault, kHandsOutTokens},
    {"mnemo.v1.AuthService/RevokeToken", CallClass::kDefault, kHandsOutTokens},
    {"mnemo.v1.AuthService/ListPrincipals", CallClass::kDefault, kHandsOutTokens},
    {"mnemo.v1.StreamService/Open", CallClass::kDefault, kReads},
};

}  // namespace

std::span<const MethodRule> AllMethodRules() { return kRules; }

const MethodRule& RuleOf(std::string_view method) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules),
                                  [&](const MethodRule& r) { return r.method == method; });
  MNEMO_CHECK(rule != std::end(kRules));
  return *rule;
}

std::string_view ClassLabel(CallClass call_class) {
  switch (call_class) {
    case CallClass::kCritical:
      return "critical";
    case CallClass::kDefault:
      return "default";
    case CallClass::kBatch:
      return "batch";
    case CallClass::kBackground:
      return "background";
  }
  return "";
}

absl::Status GateOptions::Validate() const {
  const auto check = [](std::string_view field, uint64_t value, uint64_t low, uint64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {}; it must be {} to {}", field, value, low, high));
  };
  MNEMO_RETURN_IF_ERROR(check("critical_threads", critical_threads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(check("default_threads", default_threads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(check("batch_threads", batch_threads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(check("max_queued", max_queued, 1, 1 << 20));
  if (stall_limit < std::chrono::seconds(1) || stall_limit > std::chrono::hours(1)) {
    return absl::InvalidArgumentError(
        fmt::format("stall_limit is {}; it must be 1 s to 1 h", FormatDuration(stall_limit)));
  }
  // Two windows of a Put always fit.
  return check("inflight_bytes", inflight_bytes, 16 * kMiB, uint64_t{1} << 40);
}

Gate::Gate(const GateOptions& options, const Authenticator& authenticator, Clock& clock,
           RpcObserver& observer)
    : options_(options),
      authenticator_(authenticator),
      clock_(clock),
      observer_(observer),
      bytes_(options.inflight_bytes),
      watchdog_(clock, options.stall_limit),
      critical_({.name = "rpc-critical",
                 .threads = options.critical_threads,
                 .max_queued = options.max_queued}),
      default_({.name = "rpc-default",
                .threads = options.default_threads,
                .max_queued = options.max_queued}),
      batch_({.name = "rpc-batch",
              .threads = options.batch_threads,
              .max_queued = options.max_queued}) {}

absl::Status Gate::Judge(const MethodRule& rule, absl::StatusOr<Identity> caller,
                         CallContext& call) {
  if (!caller.ok()) {
    observer_.OnAuthenticated(AuthOutcome::kUnauthenticated);
    return caller.status();
  }
  call.identity = *std::move(caller);
  const absl::Status allowed = CheckRoles(call.identity, rule.roles);
  observer_.OnAuthenticated(allowed.ok() ? AuthOutcome::kAccepted : AuthOutcome::kDenied);
  return allowed;
}

absl::Status Gate::Recheck(const CallContext& call) const {
  return authenticator_.Recheck(call.identity);
}

absl::Status Gate::Open(const MethodRule& rule, MonoTime deadline, CallContext& call) {
  call.call_class = rule.call_class;
  call.memory = &bytes_;
  if (stopping_) {
    observer_.OnShed(rule.call_class, "shutdown");
    return absl::UnavailableError("the daemon is shutting down");
  }
  call.deadline = deadline;
  if (deadline == MonoTime::max() && !rule.endless) {
    call.deadline = clock_.Mono() + options_.default_deadline;
  }
  return absl::OkStatus();
}

absl::Status Gate::Admit(const MethodRule& rule, const Credentials& credentials, MonoTime deadline,
                         CallContext& call) {
  MNEMO_RETURN_IF_ERROR(Open(rule, deadline, call));
  return Judge(rule, authenticator_.Resolve(credentials), call);
}

absl::Status Gate::AdmitStream(const MethodRule& rule, const Identity& caller, MonoTime deadline,
                               CallContext& call) {
  MNEMO_RETURN_IF_ERROR(Open(rule, deadline, call));
  const absl::Status good = authenticator_.Recheck(caller);
  return Judge(rule, good.ok() ? absl::StatusOr<Identity>(caller) : good, call);
}

const Executor& Gate::ExecutorOf(CallClass call_class) const {
  switch (call_class) {
    case CallClass::kCritical:
      return critical_;
    case CallClass::kBatch:
      return batch_;
    default:
      return default_;
  }
}

Executor& Gate::ExecutorOf(CallClass call_class) {
  return const_cast<Executor&>(std::as_const(*this).ExecutorOf(call_class));
}

size_t Gate::queued(CallClass call_class) const { return ExecutorOf(call_class).queued(); }

absl::Status Gate::Submit(const CallContext& call, std::function<void()> work) {
  const CallClass call_class = call.call_class;
  const bool taken =
      ExecutorOf(call_class)
          .TrySubmit([this, call_class, queued = clock_.Mono(), work = std::move(work)] {
            observer_.OnQueued(call_class, clock_.Mono() - queued);
            work();
          });
  if (taken) return absl::OkStatus();
  observer_.OnShed(call_class, "queue-full");
  return absl::UnavailableError(fmt::format("the queue of class {} is full, {} calls",
                                            ClassLabel(call_class), options_.max_queued));
}

void Gate::StopAdmitting() {
  stopping_ = true;
  watchdog_.AnnounceShutdown();
}

void Gate::Shutdown() {
  StopAdmitting();
  critical_.Shutdown();
  default_.Shutdown();
  batch_.Shutdown();
}

}  // namespace mnemo

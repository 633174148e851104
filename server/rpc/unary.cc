#include "server/rpc/unary.h"

#include "server/rpc/credentials.h"

namespace mnemo {
namespace {

constexpr char kPushbackMs[] = "100";

}  // namespace

MonoTime DeadlineOf(const grpc::CallbackServerContext& context, const Clock& clock) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return MonoTime::max();
  const auto left = deadline - std::chrono::system_clock::now();
  // A client that says "never" in its own words must not overflow ours.
  if (left > std::chrono::hours(24)) return MonoTime::max();
  return clock.Mono() + std::chrono::duration_cast<Nanos>(left);
}

void AddPushback(grpc::CallbackServerContext& context, const absl::Status& status) {
  if (absl::IsUnavailable(status)) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms", kPushbackMs);
  }
}

absl::StatusCode CodeAtEnd(const grpc::CallbackServerContext& context, absl::StatusCode code) {
  const bool told = !context.IsCancelled() || code == absl::StatusCode::kDeadlineExceeded ||
                    code == absl::StatusCode::kResourceExhausted;
  return told ? code : absl::StatusCode::kCancelled;
}

absl::Status AdmitCall(Gate& gate, const MethodRule& rule,
                       const grpc::CallbackServerContext& context, CallContext& call) {
  const ShownCredentials shown(context);
  absl::Status status = gate.Admit(rule, shown.view(), DeadlineOf(context, gate.clock()), call);
  if (absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) {
    gate.observer().OnRefused(
        {.method = rule.method,
         .peer = context.peer(),
         .caller = absl::IsPermissionDenied(status) ? &call.identity : nullptr,
         .status = status});
  }
  return status;
}

void UnaryCall::Begin() {
  absl::Status status = AdmitCall(gate_, rule_, *context_, call_);
  if (status.ok()) {
    status = gate_.Submit(call_, [this] {
      if (call_.cancelled) return End(absl::CancelledError("the call was cancelled"));
      if (call_.ShouldStop(gate_.clock())) {
        return End(absl::DeadlineExceededError("the deadline passed in the queue"));
      }
      End(work_(call_));
    });
  }
  if (!status.ok()) {
    AddPushback(*context_, status);
    End(status);
  }
}

void UnaryCall::End(const absl::Status& status) {
  gate_.observer().OnFinished(rule_, status.code(), gate_.clock().Mono() - started_);
  Finish(ToGrpc(status));
}

}  // namespace mnemo

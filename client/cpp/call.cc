#include "client/cpp/call.h"

namespace mnemo::client {
namespace {

constexpr char kPushback[] = "grpc-retry-pushback-ms";

std::chrono::system_clock::time_point DeadlineIn(Millis wanted, Millis standard) {
  return std::chrono::system_clock::now() + (wanted > Millis(0) ? wanted : standard);
}

std::optional<std::string> PushbackOf(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kPushback);
  if (found == trailers.end()) return std::nullopt;
  return std::string(found->second.data(), found->second.size());
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  // gRPC's own words where HTTP/2 says ENHANCE_YOUR_CALM: the daemon's memory for
  // connections is taken. Nothing of the call was done, and no quota is full.
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
      status.error_message() == "Received RST_STREAM with error code 11") {
    return absl::UnavailableError("the server has no memory left for this connection");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

CallSettings ControlCall(const Core& core, const CallOptions& options, Repeat repeat) {
  return {.deadline = DeadlineIn(options.timeout, core.options().timeout),
          .cancel = options.cancel,
          .repeat = repeat};
}

CallSettings TransferCall(const Core& core, const CallOptions& options) {
  return {.deadline = DeadlineIn(options.timeout, core.options().transfer_timeout),
          .cancel = options.cancel};
}

Call::Call(Core& core, const CallSettings& settings) : core_(core), settings_(settings) {}

void Call::Start(std::unique_ptr<Call> owned) {
  Call* call = owned.release();
  call->core_.Begin(*call);
  if (call->settings_.cancel != nullptr && call->settings_.cancel->impl().Add(*call)) {
    call->Cancel();
  }
  call->Attempt();
}

void Call::Cancel() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
  if (pause_ != nullptr) pause_->Cancel();
}

void Call::TryCancelAttempt() {
  MutexLock lock(mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

void Call::Attempt() {
  grpc::ClientContext* context = nullptr;
  {
    MutexLock lock(mutex_);
    if (!cancelled_) {
      context_ = std::make_unique<grpc::ClientContext>();
      context_->set_deadline(settings_.deadline);
      core_.ShowToken(*context_);
      context = context_.get();
    }
  }
  if (context == nullptr) {
    End(absl::CancelledError("the call was cancelled"));
    return;
  }
  ++attempts_;
  StartAttempt(*context, core_.NextConnection());
}

void Call::AttemptDone(const absl::Status& status) {
  if (status.ok()) {
    core_.budget().OnSuccess();
  } else if (Retry(status)) {
    return;
  }
  End(status);
}

bool Call::Retry(const absl::Status& status) {
  if (status.code() != absl::StatusCode::kUnavailable) return false;
  const bool affordable = core_.budget().OnFailure();
  AttemptFailure failure{.code = status.code(),
                         .repeatable = settings_.repeat == Repeat::kSafe,
                         .attempts = attempts_};
  MutexLock lock(mutex_);
  failure.pushback = PushbackOf(*context_);
  const auto delay = RetryDelay(core_.options().retry, failure, core_.Random());
  if (!affordable || !delay || cancelled_) return false;
  const auto next = std::chrono::system_clock::now() + *delay;
  // An attempt that could only time out would hide why the last one failed.
  if (next >= settings_.deadline) return false;
  pause_ = std::make_unique<grpc::Alarm>();
  pause_->Set(next, [this](bool) { Attempt(); });
  return true;
}

void Call::End(const absl::Status& status) {
  // The caller may destroy the source as soon as it has the result.
  if (settings_.cancel != nullptr) settings_.cancel->impl().Remove(*this);
  Finish(status);
  // The core ends last: it must hold the last reference to its channels, since
  // gRPC joins its callback threads with the last channel, and we are on one.
  Core& core = core_;
  core.Forget(*this);
  delete this;
  core.End();
}

}  // namespace mnemo::client

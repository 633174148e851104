// What every operation knows of its caller.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "server/identity/identity.h"
#include "storage/base/clock.h"

namespace mnemo {

class ByteBudget;

// How urgent a call is; the gate queues and sheds by it.
enum class CallClass : uint8_t { kCritical, kDefault, kBatch, kBackground };

// Of one call. Lives as long as the call. `cancelled` may be set by another
// thread at any time.
struct CallContext {
  Identity identity;
  CallClass call_class = CallClass::kDefault;
  MonoTime deadline = MonoTime::max();
  ByteBudget* memory = nullptr;  // what the call holds beside the levels; null: unbounded
  std::atomic<bool> cancelled{false};

  // Work whose deadline has passed or that was cancelled is not done.
  bool ShouldStop(const Clock& clock) const {
    return cancelled.load(std::memory_order_relaxed) || clock.Mono() >= deadline;
  }
};

// Errors: kCancelled, kDeadlineExceeded.
inline absl::Status CheckGoesOn(const CallContext& call, const Clock& clock) {
  if (!call.ShouldStop(clock)) return absl::OkStatus();
  if (call.cancelled) return absl::CancelledError("the call was cancelled");
  return absl::DeadlineExceededError("the deadline has passed");
}

}  // namespace mnemo

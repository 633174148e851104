#include "client/cpp/circuit.h"

namespace mnemo::client {
namespace {

// A daemon that refuses a request is well; asking it less would not help.
bool CountsAsFailure(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

Circuit::Circuit(const EngineOptions& options, const Clock& clock)
    : options_(options), clock_(clock) {}

bool Circuit::Enter() {
  MutexLock lock(mutex_);
  if (failures_ < options_.failures_to_open) return true;
  if (probing_ || clock_.Mono() < opened_ + options_.open_for) {
    ++stats_.skipped;
    return false;
  }
  probing_ = true;
  return true;
}

void Circuit::Leave(const absl::Status& status) {
  MutexLock lock(mutex_);
  probing_ = false;
  if (!CountsAsFailure(status)) {
    failures_ = 0;
    return;
  }
  ++stats_.failed;
  ++failures_;
  opened_ = clock_.Mono();
}

EngineStats Circuit::stats() const {
  MutexLock lock(mutex_);
  return stats_;
}

}  // namespace mnemo::client

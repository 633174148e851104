#include "mnemo/options.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

template <typename T>
absl::Status CheckRange(const char* field, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {}, allowed are {} to {}", field, value, least, most));
}

constexpr int64_t kDayMillis = 24LL * 3600 * 1000;

}  // namespace

absl::Status ClientOptions::Validate() const {
  if (target.empty()) {
    return absl::InvalidArgumentError("target is empty, allowed are HOST:PORT and unix:PATH");
  }
  if (user_agent.size() > 64) {
    return absl::InvalidArgumentError(
        fmt::format("user_agent has {} bytes, allowed are 0 to 64", user_agent.size()));
  }
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>("timeout in ms", timeout.count(), 1, kDayMillis));
  MNEMO_RETURN_IF_ERROR(
      CheckRange<int64_t>("transfer_timeout in ms", transfer_timeout.count(), 1, kDayMillis));
  MNEMO_RETURN_IF_ERROR(CheckRange("connections", connections, 1, 16));
  MNEMO_RETURN_IF_ERROR(CheckRange("retry.max_attempts", retry.max_attempts, 1, 10));
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>("retry.initial_backoff in ms",
                                            retry.initial_backoff.count(), 1, kDayMillis));
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>("retry.max_backoff in ms", retry.max_backoff.count(),
                                            retry.initial_backoff.count(), kDayMillis));
  MNEMO_RETURN_IF_ERROR(CheckRange("retry.budget_tokens", retry.budget_tokens, 1.0, 1000.0));
  return CheckRange("retry.token_ratio", retry.token_ratio, 0.0, 1.0);
}

}  // namespace mnemo::client

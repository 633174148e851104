#include "mnemo/options.h"

#include <fmt/format.h>

#include <algorithm>

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
  // Never the token itself: whoever reads the message may not know it.
  constexpr size_t kMaxTokenBytes = 512;
  if (token.size() > kMaxTokenBytes ||
      !std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return absl::InvalidArgumentError(
        "token is not printable ASCII without spaces of at most 512 bytes");
  }
  if (tls && tls->certificate.empty() != tls->key.empty()) {
    return absl::InvalidArgumentError("tls.certificate and tls.key come together or not at all");
  }
  if (user_agent.size() > 64) {
    return absl::InvalidArgumentError(
        fmt::format("user_agent has {} bytes, allowed are 0 to 64", user_agent.size()));
  }
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>("timeout in ms", timeout.count(), 1, kDayMillis));
  MNEMO_RETURN_IF_ERROR(
      CheckRange<int64_t>("transfer_timeout in ms", transfer_timeout.count(), 1, kDayMillis));
  MNEMO_RETURN_IF_ERROR(CheckRange<int64_t>("busy_poll in us", busy_poll.count(), 0, 10'000));
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

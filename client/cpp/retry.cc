#include "client/cpp/retry.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace mnemo::client {
namespace {

// Nothing if the value is no number or negative: both mean "do not retry".
std::optional<Millis> ParsePushback(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return Millis(value);
}

}  // namespace

RetryBudget::RetryBudget(const RetryOptions& options)
    : capacity_(options.budget_tokens), ratio_(options.token_ratio), tokens_(capacity_) {}

void RetryBudget::OnSuccess() {
  MutexLock lock(mutex_);
  tokens_ = std::min(capacity_, tokens_ + ratio_);
}

bool RetryBudget::OnFailure() {
  MutexLock lock(mutex_);
  tokens_ = std::max(0.0, tokens_ - 1);
  return tokens_ > capacity_ / 2;
}

std::optional<Millis> RetryDelay(const RetryOptions& options, const AttemptFailure& failure,
                                 double jitter) {
  if (failure.code != absl::StatusCode::kUnavailable) return std::nullopt;
  if (failure.attempts >= options.max_attempts) return std::nullopt;
  // A server that pushes back has done nothing yet, so even a call that is
  // not repeatable may be sent again.
  if (failure.pushback) return ParsePushback(*failure.pushback);
  if (!failure.repeatable) return std::nullopt;
  const double ceiling =
      std::min(static_cast<double>(options.max_backoff.count()),
               static_cast<double>(options.initial_backoff.count()) *
                   std::exp2(static_cast<double>(failure.attempts - 1)));
  return Millis(std::max<int64_t>(1, std::llround(ceiling * jitter)));
}

}  // namespace mnemo::client

#include "storage/context/run_columns.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace mnemo {

void RunColumns::Add(const ChunkColumns& columns) {
  kinds_.insert(kinds_.end(), columns.kinds.begin(), columns.kinds.end());
  times_.insert(times_.end(), columns.times_unix_us.begin(), columns.times_unix_us.end());
}

absl::Status RunColumns::Finish() {
  if (kinds_.size() != kRunTokens || times_.size() != kRunTokens) {
    return absl::DataLossError(
        fmt::format("a run of {} tokens (expected {})", kinds_.size(), kRunTokens));
  }
  last_time_ = *std::max_element(times_.begin(), times_.end());
  if (std::optional<std::vector<uint32_t>> later = LaterThanEarliest(times_, first_time_)) {
    if (first_time_ != last_time_) later_ = *std::move(later);
    times_.clear();
  }
  if (std::all_of(kinds_.begin(), kinds_.end(),
                  [&](uint8_t kind) { return kind == kinds_.front(); })) {
    kinds_.resize(1);
  }
  kinds_.shrink_to_fit();
  times_.shrink_to_fit();
  return absl::OkStatus();
}

void RunColumns::Keep(const TokenCondition& condition, std::span<uint64_t, kWords> out) const {
  const bool all_times =
      condition.first_time_unix_us <= first_time_ && last_time_ <= condition.last_time_unix_us;
  const bool no_time =
      condition.first_time_unix_us > last_time_ || condition.last_time_unix_us < first_time_;
  const bool one_kind = kinds_.size() == 1;
  if (no_time || (one_kind && !condition.kinds[kinds_.front()])) {
    std::fill(out.begin(), out.end(), 0);
    return;
  }
  if (one_kind) {
    std::fill(out.begin(), out.end(), ~uint64_t{0});
  } else {
    for (size_t word = 0; word < kWords; ++word) {
      uint64_t bits = 0;
      for (size_t i = 0; i < 64; ++i) {
        bits |= static_cast<uint64_t>(condition.kinds[kinds_[64 * word + i]]) << i;
      }
      out[word] = bits;
    }
  }
  if (all_times) return;
  for (size_t word = 0; word < kWords; ++word) {
    if (out[word] == 0) continue;
    uint64_t bits = 0;
    for (size_t i = 0; i < 64; ++i) {
      const int64_t time = TimeOf(64 * word + i);
      bits |= static_cast<uint64_t>(time >= condition.first_time_unix_us &&
                                    time <= condition.last_time_unix_us)
              << i;
    }
    out[word] &= bits;
  }
}

}  // namespace mnemo

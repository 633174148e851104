// What filters ask of the tokens of a run, in RAM: kinds, payload bits, times.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/context/chunk.h"
#include "storage/context/context_lru.h"

namespace mnemo {

// What a token must be like.
struct TokenCondition {
  std::array<bool, 256> kinds{};  // by stored kind: TokenKind and kPayloadBit
  // Both inclusive.
  int64_t first_time_unix_us = std::numeric_limits<int64_t>::min();
  int64_t last_time_unix_us = std::numeric_limits<int64_t>::max();

  bool Keeps(const ChunkColumns& columns, size_t i) const {
    const int64_t time = columns.times_unix_us[i];
    return kinds[columns.kinds[i]] && time >= first_time_unix_us && time <= last_time_unix_us;
  }
};

// Of a complete run of 2,048 tokens. Immutable. 2 KiB, and 4 bytes a token where
// times differ within it, 8 where they differ by more than 71 minutes.
class RunColumns {
 public:
  static constexpr size_t kWords = kRunTokens / 64;

  // Takes the columns of its 16 chunks, in order, as they come.
  void Add(const ChunkColumns& columns);
  // After the last: kinds and times as small as they can be. Errors: kDataLoss
  // (other than kRunTokens were added).
  absl::Status Finish();

  // Bit i % 64 of word i / 64: whether the condition keeps token i of the run.
  void Keep(const TokenCondition& condition, std::span<uint64_t, kWords> out) const;

  size_t memory_bytes() const {
    return sizeof(*this) + kinds_.capacity() + later_.capacity() * sizeof(uint32_t) +
           times_.capacity() * sizeof(int64_t);
  }

 private:
  int64_t TimeOf(size_t i) const {
    if (!times_.empty()) return times_[i];
    return later_.empty() ? first_time_ : first_time_ + static_cast<int64_t>(later_[i]);
  }

  std::vector<uint8_t> kinds_;   // [kRunTokens], with kPayloadBit; or one for all
  std::vector<int64_t> times_;   // [kRunTokens], or empty
  std::vector<uint32_t> later_;  // than first_time_; [kRunTokens], or empty
  int64_t first_time_ = 0, last_time_ = 0;
};

// By the number of the run.
using RunColumnsCache = ContextLru<RunColumns>;

}  // namespace mnemo

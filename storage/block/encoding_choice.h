// Whether encoding pays, learnt for each space from what it gave so far.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "storage/base/mutex.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// Thread-safe. At most kMaxSpaces spaces are remembered, 40 bytes each; past
// that all are forgotten and learnt anew.
class EncodingChoice {
 public:
  static constexpr size_t kMaxSpaces = 4096;
  // Encoding pays when it leaves at most this share of the bytes: less than
  // that is not worth the decoding.
  static constexpr double kPays = 0.95;
  // Of a space where it does not pay, one part in so many is tried, for data
  // changes.
  static constexpr uint32_t kTryOneOf = 64;

  // The space does not allow it at all. Until a restart: a caller that forbids
  // it says so with every part it writes.
  void Forbid(KeyScope scope);
  // Counts as a try if the answer is true.
  bool ShouldTry(KeyScope scope);
  // What a try gave.
  void Tell(KeyScope scope, uint64_t exact_bytes, uint64_t encoded_bytes);

 private:
  struct Learnt {
    bool forbidden = false;
    bool measured = false;
    float share = 0;       // encoded over exact, moving average
    uint32_t skipped = 0;  // since the last try
  };
  Learnt& AtLocked(KeyScope scope) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;  // innermost
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Learnt> spaces_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

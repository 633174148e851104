// Which runs leave L3 first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "server/workers/run_ledger.h"

namespace mnemo {

// Of all runs that are offered, the least important, as many as free what is
// wanted. Not thread-safe. At most kMaxRuns x 40 bytes; Offer is O(log runs).
class DemotionPlan {
 public:
  static constexpr size_t kMaxRuns = 65'536;

  // Forgets all; from now on runs are offered.
  void Begin(uint64_t wanted_bytes);
  // A run of `bytes`, once.
  void Offer(double importance, RunRef ref, uint64_t bytes);
  // From now on they are taken.
  void Finish();
  // The least important one that is left; of equal ones the earliest in its
  // context.
  std::optional<RunRef> Take();

  size_t size() const { return chosen_.size(); }

 private:
  struct Candidate {
    double importance = 0;
    RunRef ref;
    uint64_t bytes = 0;
  };
  static bool Before(const Candidate& a, const Candidate& b) {
    if (a.importance != b.importance) return a.importance < b.importance;
    return a.ref < b.ref;
  }

  std::vector<Candidate> chosen_;  // a heap, the most important on top; then sorted, the least last
  uint64_t wanted_bytes_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace mnemo

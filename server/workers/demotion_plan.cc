#include "server/workers/demotion_plan.h"

#include <algorithm>

namespace mnemo {

void DemotionPlan::Begin(uint64_t wanted_bytes) {
  chosen_.clear();
  wanted_bytes_ = wanted_bytes;
  bytes_ = 0;
}

void DemotionPlan::Offer(double importance, RunRef ref, uint64_t bytes) {
  chosen_.push_back({importance, ref, bytes});
  std::push_heap(chosen_.begin(), chosen_.end(), Before);
  bytes_ += bytes;
  // Without the most important, while the rest is enough.
  while (chosen_.size() > kMaxRuns || bytes_ - chosen_.front().bytes >= wanted_bytes_) {
    bytes_ -= chosen_.front().bytes;
    std::pop_heap(chosen_.begin(), chosen_.end(), Before);
    chosen_.pop_back();
    if (chosen_.empty()) return;
  }
}

void DemotionPlan::Finish() {
  std::sort(chosen_.begin(), chosen_.end(),
            [](const Candidate& a, const Candidate& b) { return Before(b, a); });
}

std::optional<RunRef> DemotionPlan::Take() {
  if (chosen_.empty()) return std::nullopt;
  const RunRef ref = chosen_.back().ref;
  chosen_.pop_back();
  return ref;
}

}  // namespace mnemo

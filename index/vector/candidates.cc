#include "index/vector/candidates.h"

#include <algorithm>
#include <array>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Vectors that are read before the bound is looked at again.
constexpr size_t kStep = 16;
// The first k are read together, whatever they are, but no more at once.
constexpr size_t kMostAtOnce = 256;

}  // namespace

void Candidates::Offer(const EstimatedHit& candidate) {
  if (candidate.score + candidate.error < least()) return;
  candidates_.push_back(candidate);
  if (candidate.score - candidate.error > least()) {
    bounds_.Push(candidate.id, candidate.score - candidate.error);
  }
}

std::vector<EstimatedHit> Candidates::Take() {
  std::vector<EstimatedHit> taken;
  taken.swap(candidates_);
  std::erase_if(taken, [&](const EstimatedHit& one) { return one.score + one.error < least(); });
  std::sort(taken.begin(), taken.end(), [](const EstimatedHit& a, const EstimatedHit& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  return taken;
}

absl::Status Confirm(const VectorShape& shape, const Kernels& kernels, const Query& query,
                     Candidates& candidates, const ReadById& read,
                     const std::atomic<bool>* cancelled, TopK& best, SearchCounters* counters) {
  const std::vector<EstimatedHit> all = candidates.Take();
  const ScoreRowsFn score = kernels.ScoreRows(shape.metric, shape.type);
  ReadScratch scratch;
  std::array<uint64_t, kMostAtOnce> ids;
  std::array<const uint8_t*, kMostAtOnce> rows;
  std::array<float, kMostAtOnce> scores;
  size_t step = std::clamp(best.k(), kStep, kMostAtOnce);
  for (size_t at = 0; at < all.size();) {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return absl::CancelledError("search cancelled");
    }
    size_t count = 0;
    for (; at < all.size() && count < step; ++at) {
      if (all[at].score + all[at].error >= best.bound()) ids[count++] = all[at].id;
    }
    MNEMO_RETURN_IF_ERROR(read({ids.data(), count}, scratch, {rows.data(), count}));
    score(query.values(), rows.data(), count, shape.dimension, scores.data());
    for (size_t i = 0; i < count; ++i) {
      if (scores[i] >= best.bound()) best.Push(ids[i], scores[i]);
    }
    scratch.Release();
    if (counters != nullptr) counters->reranked += count;
    step = kStep;
  }
  return absl::OkStatus();
}

}  // namespace mnemo

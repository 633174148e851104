// What codes found and stored vectors have yet to confirm.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "index/vector/segment.h"

namespace mnemo {

// A row that may be among the k nearest.
struct EstimatedHit {
  float score = 0;  // estimated; see Metric
  float error = 0;  // how far off it may be
  uint64_t id = 0;  // as that of a Hit
};

// The candidates of one query from any number of segments. Read together they
// cost far less than segment by segment: what one segment has excludes what is
// worse in all others before anything was read (docs/decisions/0096). 16 bytes a
// candidate. Not thread-safe.
class Candidates {
 public:
  // So many are a reason to confirm them before there are more.
  static constexpr size_t kMany = 16'384;

  // `k` is at least 1.
  explicit Candidates(size_t k) : bounds_(k) {}

  // A score that k rows reach, as surely as errors are said: what cannot reach
  // it need not be offered.
  float least() const { return bounds_.bound(); }
  size_t size() const { return candidates_.size(); }
  void Offer(const EstimatedHit& candidate);
  // Best estimate first, without those that cannot be among the k nearest any
  // more. Leaves it empty, but for the bound.
  std::vector<EstimatedHit> Take();

 private:
  TopK bounds_;  // of the k greatest lower bounds
  std::vector<EstimatedHit> candidates_;
};

// Points out[i] at the stored vector of ids[i], good until scratch.Release().
using ReadById = std::function<absl::Status(std::span<const uint64_t> ids, ReadScratch& scratch,
                                            std::span<const uint8_t*> out)>;

// Reads candidates, best estimate first, until the exact scores in `best`
// exclude what is left, and offers them to `best`.
// Errors: kCancelled, those of `read`.
absl::Status Confirm(const VectorShape& shape, const Kernels& kernels, const Query& query,
                     Candidates& candidates, const ReadById& read,
                     const std::atomic<bool>* cancelled, TopK& best, SearchCounters* counters);

}  // namespace mnemo

#include "index/vector/effort_curve.h"

#include <algorithm>
#include <cmath>

namespace mnemo {

uint32_t EffortCurve::EffortFor(float target_recall) const {
  for (const EffortPoint& point : points_) {
    const float sure = point.recall - std::sqrt(point.variance);
    // Nothing lies between complete and a target of 1.
    if (sure >= target_recall || point.recall >= 1) return point.effort;
  }
  return points_.empty() ? 0 : points_.back().effort;
}

EffortPoint RecallMean::Point(uint32_t effort) const {
  if (count_ == 0) return {effort, 0, 0};
  const double mean = sum_ / count_;
  const double variance = std::max(0.0, squares_ / count_ - mean * mean) / count_;
  return {effort, static_cast<float>(mean), static_cast<float>(variance)};
}

}  // namespace mnemo

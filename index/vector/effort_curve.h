// Which effort reaches which recall, as measured on queries.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mnemo {

struct EffortPoint {
  uint32_t effort = 0;
  float recall = 0;    // mean over the queries
  float variance = 0;  // of that mean
};

// A value. Made by calibration, stored with its segment.
class EffortCurve {
 public:
  EffortCurve() = default;
  // `points` with rising effort.
  EffortCurve(uint32_t k, std::vector<EffortPoint> points) : k_(k), points_(std::move(points)) {}

  // The least measured effort whose recall, less one standard error, reaches
  // `target_recall`; the greatest one if none does; 0 if nothing was measured.
  uint32_t EffortFor(float target_recall) const;

  // For how many results it was measured.
  uint32_t k() const { return k_; }
  std::span<const EffortPoint> points() const { return points_; }

 private:
  uint32_t k_ = 0;
  std::vector<EffortPoint> points_;
};

// Adds up recalls of one effort.
class RecallMean {
 public:
  void Add(double recall) {
    ++count_;
    sum_ += recall;
    squares_ += recall * recall;
  }
  EffortPoint Point(uint32_t effort) const;

 private:
  uint32_t count_ = 0;
  double sum_ = 0;
  double squares_ = 0;
};

}  // namespace mnemo

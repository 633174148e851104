// Centroids of a set of vectors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace mnemo {

// Lloyd's algorithm, by FAISS, on one thread. `points` [n x dimension], n at
// least `count`, which is at least 1. Returns [count x dimension]. The same
// points and seed give the same centroids on the same machine.
// Errors: kInternal (FAISS failed).
absl::StatusOr<std::vector<float>> TrainCentroids(std::span<const float> points, uint32_t dimension,
                                                  uint32_t count, uint32_t iterations,
                                                  uint64_t seed);

}  // namespace mnemo

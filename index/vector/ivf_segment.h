// A sealed segment whose rows lie in lists around centroids, as 1-bit codes.
#pragma once

#include <memory>
#include <vector>

#include "index/vector/bit_codes.h"
#include "index/vector/build_input.h"
#include "index/vector/candidates.h"
#include "index/vector/effort_curve.h"
#include "index/vector/row_map.h"
#include "index/vector/sealed_segment.h"
#include "index/vector/segment_file.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Memory: for each row dimension / 8 bytes of code, 12 of factors and 4 of its
// node, half a block of 32 a list, and 4 * dimension a list.
//
// A search scores the codes of the nearest lists, keeps whatever the codes'
// error bounds cannot exclude, and reads stored vectors in order of estimate
// until the bounds exclude the rest. With a filter it goes on to further lists
// until it has seen as many rows that pass as it would without; where far fewer
// of the nearest lists' rows pass than of all rows, it scans every list.
class IvfSegment final : public SealedSegment {
 public:
  static absl::StatusOr<std::unique_ptr<SealedSegment>> Build(
      const VectorShape& shape, uint32_t rows, const VectorReader& reader, const RowSet* deleted,
      const BuildOptions& options, const Kernels& kernels);
  // Errors: kDataLoss.
  static absl::StatusOr<std::unique_ptr<SealedSegment>> Load(const SegmentFileReader& file,
                                                             const Kernels& kernels);

  SegmentKind kind() const override { return SegmentKind::kIvf; }
  const VectorShape& shape() const override { return shape_; }
  uint32_t rows() const override { return map_.rows(); }
  uint32_t held_rows() const override { return map_.nodes(); }
  size_t memory_bytes() const override;
  absl::Status Search(const Query& query, const SegmentSearch& options, const VectorReader& reader,
                      TopK& best, SearchCounters* counters) const override;
  Serialized Serialize() const override;
  absl::Status Calibrate(std::span<const Query> queries, size_t k, const VectorReader& reader,
                         const std::atomic<bool>* cancelled) override;
  uint32_t EffortFor(float target_recall) const override;

 private:
  struct Probe {
    float nearness = 0;
    float base = 0;      // see BitFactors
    float distance = 0;  // |q - c|
    uint32_t list = 0;
  };
  class Scan;

  IvfSegment(const VectorShape& shape, RowMap map, uint64_t seed, std::vector<float> centroids,
             std::vector<uint32_t> list_sizes, const Kernels& kernels);

  static absl::StatusOr<std::vector<float>> Train(const VectorShape& shape, uint32_t lists,
                                                  const BuildInput& input,
                                                  const BuildOptions& options);
  absl::Status Fill(const BuildInput& input, std::span<const uint32_t> list_of_node);
  absl::Status CalibrateWith(std::span<const Query> queries, size_t k, std::span<const RowId> self,
                             const VectorReader& reader, const std::atomic<bool>* cancelled);
  // All lists, nearest first.
  std::vector<Probe> RankLists(const Query& query) const;
  // Leaves what may be among the k nearest in `candidates`.
  absl::Status ScanLists(const Query& query, const SegmentSearch& options, const TopK& best,
                         Candidates& candidates, SearchCounters* counters) const;

  uint32_t lists() const { return static_cast<uint32_t>(list_sizes_.size()); }
  const float* Centroid(uint32_t list) const {
    return centroids_.data() + size_t{list} * shape_.dimension;
  }

  const VectorShape shape_;
  const RowMap map_;
  const uint64_t seed_;
  const Kernels& kernels_;
  const std::vector<float> centroids_;      // [lists x dimension]
  const std::vector<uint32_t> list_sizes_;  // [lists]
  std::vector<uint32_t> node_begin_;        // [lists + 1]
  AlignedArray<uint32_t> nodes_;            // [nodes], list by list
  BitCodes codes_;
  mutable Mutex calibration_;  // a leaf, held to look an effort up
  EffortCurve curve_ ABSL_GUARDED_BY(calibration_);
};

}  // namespace mnemo

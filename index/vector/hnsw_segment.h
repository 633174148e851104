// A sealed segment whose rows are the nodes of a graph.
#pragma once

#include <memory>
#include <string>

#include "index/vector/effort_curve.h"
#include "index/vector/graph_walk.h"
#include "index/vector/row_map.h"
#include "index/vector/sealed_segment.h"
#include "index/vector/segment_file.h"

namespace mnemo {

// Memory: for each row its code (dimension rounded up to 64), 8 bytes of
// factors, 8 * links of links and 5 bytes more; nothing for deleted rows. A
// search holds one byte a row beside.
//
// A search walks the graph on codes, a quarter of the bytes of fp32, and scores
// the nearest of what it finds on the stored vectors. With a filter it walks a
// beam as much wider as the filter is narrower, or scores the codes of all that
// the filter keeps, whichever takes fewer distances.
class HnswSegment final : public SealedSegment {
 public:
  static absl::StatusOr<std::unique_ptr<SealedSegment>> Build(
      const VectorShape& shape, uint32_t rows, const VectorReader& reader, const RowSet* deleted,
      const BuildOptions& options, const Kernels& kernels);
  // Errors: kDataLoss.
  static absl::StatusOr<std::unique_ptr<SealedSegment>> Load(const SegmentFileReader& file,
                                                             const Kernels& kernels);

  SegmentKind kind() const override { return SegmentKind::kHnsw; }
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
  HnswSegment(const VectorShape& shape, RowMap map, uint64_t seed, std::vector<float> centre,
              HnswGraph graph, const Kernels& kernels);

  absl::Status FillCodes(const VectorReader& reader, const std::atomic<bool>* cancelled);
  absl::Status BuildGraph(const VectorReader& reader, const BuildOptions& options);
  absl::Status CalibrateWith(std::span<const Query> queries, size_t k, const RowSet* left_out,
                             const VectorReader& reader, const std::atomic<bool>* cancelled);
  uint32_t Beam(const SegmentSearch& options, size_t k) const;
  // Each leaves the nearest in scratch.pool. A null filter keeps everything.
  absl::Status WalkGraph(uint32_t beam, const std::atomic<bool>* cancelled,
                         WalkScratch& scratch) const;
  absl::Status ScanCodes(const RowSet* filter, uint32_t beam, const std::atomic<bool>* cancelled,
                         WalkScratch& scratch) const;
  absl::Status FindFiltered(const RowSet& filter, uint32_t beam, const std::atomic<bool>* cancelled,
                            WalkScratch& scratch) const;

  // Puts into scratch.rows what of scratch.pool may be among the k nearest.
  void Choose(const RowSet* filter, size_t k, WalkScratch& scratch) const;

  const VectorShape shape_;
  const RowMap map_;
  const uint64_t seed_;
  const Kernels& kernels_;
  ByteCodes codes_;
  HnswGraph graph_;
  mutable WalkScratchPool scratch_;
  mutable Mutex calibration_;  // a leaf, held to look an effort up
  EffortCurve curve_ ABSL_GUARDED_BY(calibration_);
};

}  // namespace mnemo

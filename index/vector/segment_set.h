// The segments of one range of a context, searchable as one.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "index/vector/growing_segment.h"
#include "index/vector/sealed_segment.h"
#include "storage/base/mutex.h"

namespace mnemo {

// A segment and where its row 0 lies.
struct PlacedSegment {
  RowId first_row = 0;
  std::shared_ptr<const Segment> segment;
};

// What was searchable at one moment, but that its last growing segment goes on
// to grow. Immutable, thread-safe; keeps its segments alive, so that searching
// takes no lock and replacing a segment waits for nobody.
class SegmentSnapshot {
 public:
  SegmentSnapshot(std::vector<PlacedSegment> segments, std::shared_ptr<const RowSet> deleted)
      : segments_(std::move(segments)), deleted_(std::move(deleted)) {}

  // One behind the other, from row 0.
  std::span<const PlacedSegment> segments() const { return segments_; }
  // Null if nothing was deleted.
  const RowSet* deleted() const { return deleted_.get(); }
  std::shared_ptr<const RowSet> shared_deleted() const { return deleted_; }
  uint32_t rows() const;
  size_t memory_bytes() const;

  // As Segment::Search; `options.filter` and `reader` are about rows of the
  // range, `options.first_id` is that of row 0.
  absl::Status Search(const Query& query, const SegmentSearch& options, const VectorReader& reader,
                      TopK& best, SearchCounters* counters) const;

 private:
  std::vector<PlacedSegment> segments_;
  std::shared_ptr<const RowSet> deleted_;
};

// When to build.
struct SealPolicy {
  SegmentKind kind = SegmentKind::kHnsw;
  // So many full growing segments are sealed together, 1 or more.
  uint32_t runs = 2;
  // Sealed segments that may stand side by side before they are made one, 1 or
  // more. When a range is full they are made one of `kind` in any case.
  uint32_t max_sealed = 4;
  // A sealed segment of which this share was deleted is built again, without it.
  double deleted_share = 0.2;
};

// A run of whole segments that one sealed segment is to take the place of.
struct BuildTask {
  RowId first_row = 0;
  uint32_t rows = 0;
  SegmentKind kind = SegmentKind::kHnsw;
  RowSet deleted;  // of [0, rows)
  // The segments as they were; Publish compares.
  std::vector<PlacedSegment> replaced;
};

// One range's segments: rows are appended to growing ones and sealed in the
// background. Thread-safe: appends, deletes, searches of snapshots, and one
// build at a time may go on at once. The caller keeps the rows themselves.
class SegmentSet {
 public:
  // Rows of a growing segment: enough that building pays, few enough that a scan
  // of some of them takes about a millisecond each.
  static constexpr uint32_t kRunRows = 16384;

  // Room for `capacity` rows, 1 to kMaxSegmentRows.
  // Errors: kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<SegmentSet>> Create(const VectorShape& shape,
                                                            uint32_t capacity,
                                                            const Kernels& kernels);

  // Whole stored rows, one behind the other; found by searches of snapshots that
  // are taken after it returns, and maybe by others.
  // Errors: kInvalidArgument (not whole rows); kResourceExhausted (over
  // capacity; nothing is appended then).
  absl::Status Append(ByteView rows);

  // Puts a loaded segment behind the rows that are here.
  // Errors: kInvalidArgument (another shape; over capacity).
  absl::Status Adopt(std::unique_ptr<SealedSegment> segment);

  // Rows [first, last) are never found again. Their codes are gone when what
  // holds them was built again: PlanBuild with a deleted_share of 0.
  void Delete(RowId first, RowId last);

  std::shared_ptr<const SegmentSnapshot> Snapshot() const;

  // What to build next; nothing if all is as `policy` wants it.
  std::optional<BuildTask> PlanBuild(const SealPolicy& policy) const;

  // Puts what was built for `task` in its place. Searches that hold older
  // snapshots go on undisturbed.
  // Errors: kAborted (the segments are not those of the task any more: plan
  // again); kInvalidArgument (a segment of another shape or number of rows).
  absl::Status Publish(const BuildTask& task, std::unique_ptr<SealedSegment> segment);

  const VectorShape& shape() const { return shape_; }
  uint32_t capacity() const { return capacity_; }

 private:
  SegmentSet(const VectorShape& shape, uint32_t capacity, const Kernels& kernels)
      : shape_(shape), capacity_(capacity), kernels_(kernels) {}

  absl::Status AddRun(uint32_t first_row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  void Show(std::vector<PlacedSegment> segments, std::shared_ptr<const RowSet> deleted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);

  const VectorShape shape_;
  const uint32_t capacity_;
  const Kernels& kernels_;
  // Lock order: change_, snapshot_mutex_.
  Mutex change_;  // orders changes; held while rows are copied in
  GrowingSegment* growing_ ABSL_GUARDED_BY(change_) = nullptr;  // the last segment, or null
  mutable Mutex snapshot_mutex_;                                // a leaf, held to copy the pointer
  std::shared_ptr<const SegmentSnapshot> snapshot_ ABSL_GUARDED_BY(snapshot_mutex_) =
      std::make_shared<SegmentSnapshot>(std::vector<PlacedSegment>(), nullptr);
};

// Builds what a task asks for. `options.kind` is the task's. `reader` reads rows
// of the range. Takes as long as BuildSegment, and holds no lock.
// Errors: BuildSegment's.
absl::StatusOr<std::unique_ptr<SealedSegment>> RunBuild(const VectorShape& shape,
                                                        const BuildTask& task,
                                                        const VectorReader& reader,
                                                        BuildOptions options,
                                                        const Kernels& kernels);

}  // namespace mnemo

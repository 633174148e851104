#include "index/vector/segment_set.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Rows of a segment as rows of the range.
class ShiftedReader final : public VectorReader {
 public:
  ShiftedReader(const VectorReader& reader, RowId first) : reader_(reader), first_(first) {}
  absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                    std::span<const uint8_t*> out) const override {
    std::array<RowId, kBatch> shifted;
    for (size_t begin = 0; begin < rows.size(); begin += kBatch) {
      const size_t count = std::min(kBatch, rows.size() - begin);
      for (size_t i = 0; i < count; ++i) shifted[i] = first_ + rows[begin + i];
      MNEMO_RETURN_IF_ERROR(
          reader_.Read({shifted.data(), count}, scratch, out.subspan(begin, count)));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kBatch = 4096;
  const VectorReader& reader_;
  const RowId first_;
};

bool IsSealed(const PlacedSegment& placed) { return placed.segment->kind() != SegmentKind::kFlat; }

uint32_t EndOf(const PlacedSegment& placed) { return placed.first_row + placed.segment->rows(); }

BuildTask MakeTask(std::span<const PlacedSegment> replaced, const RowSet* deleted,
                   SegmentKind kind) {
  BuildTask task;
  task.first_row = replaced.front().first_row;
  task.rows = EndOf(replaced.back()) - task.first_row;
  task.kind = kind;
  if (deleted != nullptr) task.deleted = deleted->Slice(task.first_row, task.rows);
  task.replaced.assign(replaced.begin(), replaced.end());
  return task;
}

}  // namespace

uint32_t SegmentSnapshot::rows() const { return segments_.empty() ? 0 : EndOf(segments_.back()); }

size_t SegmentSnapshot::memory_bytes() const {
  size_t bytes = sizeof(*this) + segments_.capacity() * sizeof(PlacedSegment);
  for (const PlacedSegment& placed : segments_) bytes += placed.segment->memory_bytes();
  if (deleted_ != nullptr) bytes += deleted_->words().size_bytes();
  return bytes;
}

absl::Status SegmentSnapshot::Search(const Query& query, const SegmentSearch& options,
                                     const VectorReader& reader, TopK& best,
                                     SearchCounters* counters) const {
  for (const PlacedSegment& placed : segments_) {
    SegmentSearch within = options;
    within.first_id = options.first_id + placed.first_row;
    RowSet kept;
    if (options.filter != nullptr || deleted_ != nullptr) {
      const uint32_t rows = placed.segment->rows();
      kept = options.filter != nullptr ? options.filter->Slice(placed.first_row, rows)
                                       : RowSet(rows, true);
      if (deleted_ != nullptr) kept.Subtract(deleted_->Slice(placed.first_row, rows));
      within.filter = &kept;
    }
    MNEMO_RETURN_IF_ERROR(placed.segment->Search(
        query, within, ShiftedReader(reader, placed.first_row), best, counters));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SegmentSet>> SegmentSet::Create(const VectorShape& shape,
                                                               uint32_t capacity,
                                                               const Kernels& kernels) {
  MNEMO_RETURN_IF_ERROR(shape.Validate());
  if (capacity < 1 || capacity > kMaxSegmentRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("capacity is ", capacity, ", expected 1 to ", kMaxSegmentRows));
  }
  return std::unique_ptr<SegmentSet>(new SegmentSet(shape, capacity, kernels));
}

std::shared_ptr<const SegmentSnapshot> SegmentSet::Snapshot() const {
  const MutexLock lock(snapshot_mutex_);
  return snapshot_;
}

void SegmentSet::Show(std::vector<PlacedSegment> segments, std::shared_ptr<const RowSet> deleted) {
  auto shown = std::make_shared<const SegmentSnapshot>(std::move(segments), std::move(deleted));
  {
    const MutexLock lock(snapshot_mutex_);
    snapshot_.swap(shown);
  }
  // What was shown before is freed here, if nobody searches it, and not under
  // the lock.
}

absl::Status SegmentSet::AddRun(uint32_t first_row) {
  MNEMO_ASSIGN_OR_RETURN(
      std::unique_ptr<GrowingSegment> run,
      GrowingSegment::Create(shape_, std::min(kRunRows, capacity_ - first_row), kernels_));
  growing_ = run.get();
  const auto before = Snapshot();
  std::vector<PlacedSegment> segments(before->segments().begin(), before->segments().end());
  segments.push_back({first_row, std::move(run)});
  Show(std::move(segments), before->shared_deleted());
  return absl::OkStatus();
}

absl::Status SegmentSet::Append(ByteView rows) {
  const size_t row_bytes = shape_.row_bytes();
  if (rows.size() % row_bytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.size(), " bytes are not whole rows of ", row_bytes));
  }
  const MutexLock lock(change_);
  uint32_t at = Snapshot()->rows();
  if (rows.size() / row_bytes > capacity_ - at) {
    return absl::ResourceExhaustedError(absl::StrCat(
        rows.size() / row_bytes, " rows do not fit: ", at, " of ", capacity_, " are used"));
  }
  while (!rows.empty()) {
    if (growing_ == nullptr || growing_->rows() == growing_->capacity()) {
      MNEMO_RETURN_IF_ERROR(AddRun(at));
    }
    const size_t part =
        std::min<size_t>(rows.size() / row_bytes, growing_->capacity() - growing_->rows());
    MNEMO_RETURN_IF_ERROR(growing_->Append(rows.first(part * row_bytes)));
    rows = rows.subspan(part * row_bytes);
    at += static_cast<uint32_t>(part);
  }
  return absl::OkStatus();
}

absl::Status SegmentSet::Adopt(std::unique_ptr<SealedSegment> segment) {
  const MutexLock lock(change_);
  const auto before = Snapshot();
  if (segment->shape() != shape_ || segment->rows() > capacity_ - before->rows()) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment of ", segment->rows(), " rows of dimension ",
                     segment->shape().dimension, " does not fit behind ", before->rows()));
  }
  std::vector<PlacedSegment> segments(before->segments().begin(), before->segments().end());
  segments.push_back({before->rows(), std::move(segment)});
  growing_ = nullptr;
  Show(std::move(segments), before->shared_deleted());
  return absl::OkStatus();
}

void SegmentSet::Delete(RowId first, RowId last) {
  const MutexLock lock(change_);
  const auto before = Snapshot();
  auto deleted = before->deleted() != nullptr ? std::make_shared<RowSet>(*before->deleted())
                                              : std::make_shared<RowSet>(capacity_);
  deleted->AddRange(first, last);
  Show({before->segments().begin(), before->segments().end()}, std::move(deleted));
}

std::optional<BuildTask> SegmentSet::PlanBuild(const SealPolicy& policy) const {
  const auto now = Snapshot();
  const std::span<const PlacedSegment> all = now->segments();
  const bool is_full = now->rows() == capacity_;
  // Growing segments that are full; sealed ones stand before them.
  const auto first_run =
      static_cast<size_t>(std::find_if_not(all.begin(), all.end(), IsSealed) - all.begin());
  size_t end = first_run;
  while (end < all.size() && (EndOf(all[end]) - all[end].first_row >= kRunRows || is_full)) ++end;
  // One of this kind: a range that was sealed as a graph may become lists.
  const bool is_one = all.size() == 1 && all[0].segment->kind() == policy.kind;
  if (is_full && end > 0 && !is_one) {
    return MakeTask(all, now->deleted(), policy.kind);
  }
  if (end - first_run >= policy.runs) {
    return MakeTask(all.subspan(first_run, end - first_run), now->deleted(), policy.kind);
  }
  if (first_run > policy.max_sealed) {
    return MakeTask(all.first(first_run), now->deleted(), policy.kind);
  }
  if (now->deleted() == nullptr) return std::nullopt;
  for (size_t i = 0; i < first_run; ++i) {
    const auto& sealed = static_cast<const SealedSegment&>(*all[i].segment);
    const uint32_t gone = now->deleted()->Slice(all[i].first_row, sealed.rows()).Count();
    const uint32_t held_deleted = gone - std::min(gone, sealed.rows() - sealed.held_rows());
    if (held_deleted > policy.deleted_share * sealed.rows()) {
      return MakeTask(all.subspan(i, 1), now->deleted(), policy.kind);
    }
  }
  return std::nullopt;
}

absl::Status SegmentSet::Publish(const BuildTask& task, std::unique_ptr<SealedSegment> segment) {
  if (segment->shape() != shape_ || segment->rows() != task.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment of ", segment->rows(), " rows for ", task.rows));
  }
  const MutexLock lock(change_);
  const auto before = Snapshot();
  std::vector<PlacedSegment> segments(before->segments().begin(), before->segments().end());
  const auto begin = std::search(
      segments.begin(), segments.end(), task.replaced.begin(), task.replaced.end(),
      [](const PlacedSegment& a, const PlacedSegment& b) { return a.segment == b.segment; });
  if (task.replaced.empty() || begin == segments.end()) {
    return absl::AbortedError("the segments were replaced meanwhile");
  }
  if (begin + static_cast<std::ptrdiff_t>(task.replaced.size()) == segments.end()) {
    // Only full ones are planned, so the next append makes a new one.
    growing_ = nullptr;
  }
  *begin = {task.first_row, std::move(segment)};
  segments.erase(begin + 1, begin + static_cast<std::ptrdiff_t>(task.replaced.size()));
  Show(std::move(segments), before->shared_deleted());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SealedSegment>> RunBuild(const VectorShape& shape,
                                                        const BuildTask& task,
                                                        const VectorReader& reader,
                                                        BuildOptions options,
                                                        const Kernels& kernels) {
  options.kind = task.kind;
  return BuildSegment(shape, task.rows, ShiftedReader(reader, task.first_row), &task.deleted,
                      options, kernels);
}

}  // namespace mnemo

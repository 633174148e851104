#include "server/engine/context_indexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "server/engine/context_vectors.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint64_t kRun = SegmentSet::kRunRows;
// Runs that are sealed together, where RAM allows.
constexpr uint32_t kRunsPerSegment = 2;
constexpr size_t kContextsPerSweep = 256;
// After a build that failed: doubled with each further failure.
constexpr Nanos kFirstRest = std::chrono::minutes(1);
constexpr Nanos kLongestRest = std::chrono::hours(1);

uint32_t RowsOf(uint64_t range, uint64_t tokens) {
  const uint64_t first = range * kRangeTokens;
  return static_cast<uint32_t>(std::min(kRangeTokens, tokens - std::min(tokens, first)));
}

// Whether a range of `rows` rows with these segments is not as the policy wants
// it. What exactly is to be done says SegmentSet::PlanBuild.
bool WantsBuild(const SegmentRecord& record, uint32_t rows, const SealPolicy& policy) {
  if (rows == kRangeTokens) {
    return record.segments.size() != 1 || record.rows() != rows ||
           record.segments.front().kind != static_cast<uint8_t>(policy.kind);
  }
  return (rows - std::min(rows, record.rows())) / kRun >= policy.runs ||
         record.segments.size() > policy.max_sealed;
}

// Segments of `record` that `snapshot` holds, too, and that the task leaves.
std::vector<StoredSegment> KeptBeside(const BuildTask& task, const SegmentRecord& record,
                                      const SegmentSnapshot& snapshot) {
  std::vector<StoredSegment> kept = record.segments;
  std::erase_if(kept, [&](const StoredSegment& stored) {
    const bool replaced =
        stored.first_row < task.first_row + task.rows && stored.end_row() > task.first_row;
    return replaced || stored.end_row() > SealedRows(snapshot);
  });
  return kept;
}

}  // namespace

void ContextIndexer::Add(Work work, bool full) {
  const Key key{work.context.scope.space, work.range};
  for (auto* const list : {&full_, &part_full_}) {
    const auto known = list->find(key);
    if (known == list->end()) continue;
    work.damaged |= known->second.damaged;
    list->erase(known);
  }
  (full ? full_ : part_full_).emplace(key, std::move(work));
}

void ContextIndexer::NoteTokens(const ContextRecord& context, uint64_t first, uint64_t end) {
  for (uint64_t range = first / kRangeTokens; range * kRangeTokens < end; ++range) {
    const uint32_t rows = RowsOf(range, end);
    if (rows >= kRun) Add({.context = context, .range = range}, rows == kRangeTokens);
  }
}

void ContextIndexer::Note(const ContextRecord& context, uint64_t first, uint64_t end) {
  const bool outgrown = first <= options_.graph_tokens && end > options_.graph_tokens;
  if (first / kRun == end / kRun && !outgrown) return;
  MutexLock lock(mutex_);
  NoteTokens(context, first, end);
  if (!outgrown) return;
  // From now on it wants lists; what it has as graphs is built again.
  NoteTokens(context, 0, first);
  if (current_ != nullptr && current_->context_id == context.scope.space && current_->graph) {
    current_->call.cancelled = true;
  }
}

void ContextIndexer::NoteDamage(const ContextRecord& context, uint64_t range) {
  MutexLock lock(mutex_);
  ++figures_.load_failures;
  Add({.context = context, .range = range, .damaged = true}, /*full=*/true);
}

void ContextIndexer::Forget(uint64_t context_id) {
  MutexLock lock(mutex_);
  for (auto* const list : {&full_, &part_full_}) {
    list->erase(list->lower_bound({context_id, 0}), list->upper_bound({context_id, UINT64_MAX}));
  }
  failed_.erase(failed_.lower_bound({context_id, 0}),
                failed_.upper_bound({context_id, UINT64_MAX}));
  if (current_ != nullptr && current_->context_id == context_id) {
    current_->forgotten = true;
    current_->call.cancelled = true;
  }
}

void ContextIndexer::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  if (current_ != nullptr) current_->call.cancelled = true;
}

ContextIndexerFigures ContextIndexer::figures() const {
  MutexLock lock(mutex_);
  ContextIndexerFigures figures = figures_;
  figures.waiting = full_.size() + part_full_.size();
  return figures;
}

std::optional<ContextIndexer::Work> ContextIndexer::Take(Current& current) {
  MutexLock lock(mutex_);
  if (stopped_) return std::nullopt;
  for (auto* const list : {&full_, &part_full_}) {
    const auto next = std::find_if(list->begin(), list->end(), [&](const auto& entry) {
      mutex_.AssertHeld();
      return !Rests(entry.first);
    });
    if (next == list->end()) continue;
    Work work = std::move(next->second);
    list->erase(next);
    current.context_id = work.context.scope.space;
    current_ = &current;
    return work;
  }
  return std::nullopt;
}

bool ContextIndexer::Rests(const Key& key) const {
  const auto failed = failed_.find(key);
  return failed != failed_.end() && clock_.Mono() < failed->second.not_before;
}

bool ContextIndexer::HasWork() const {
  for (const auto* const list : {&full_, &part_full_}) {
    for (const auto& [key, work] : *list) {
      if (!Rests(key)) return true;
    }
  }
  return false;
}

void ContextIndexer::AddAfterFailure(Work work) {
  const Key key{work.context.scope.space, work.range};
  Failures& failures = failed_[key];
  const uint32_t doublings = std::min(failures.count++, 16U);
  failures.not_before = clock_.Mono() + std::min(kLongestRest, kFirstRest * (1U << doublings));
  Add(std::move(work), full_.contains(key));
}

absl::Status ContextIndexer::Sweep() {
  MNEMO_ASSIGN_OR_RETURN(const auto contexts, contexts_.Sweep(sweep_cursor_, kContextsPerSweep));
  swept_ = sweep_cursor_.empty();
  for (const ContextRecord& context : contexts) {
    // One that cannot be read is no reason to leave the others flat.
    const absl::StatusOr<ContextHead> head = contexts_.reader().Head(context);
    if (!head.ok()) continue;
    MutexLock lock(mutex_);
    NoteTokens(context, 0, head->next_position);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ContextIndexer::Step() {
  if (!swept_) {
    MNEMO_RETURN_IF_ERROR(Sweep());
    return true;
  }
  Current current;
  std::optional<Work> work = Take(current);
  if (!work) return false;
  const absl::StatusOr<bool> more = Look(*work, current);
  MutexLock lock(mutex_);
  current_ = nullptr;
  const bool again = !current.forgotten && !stopped_;
  const bool cancelled = absl::IsCancelled(more.status());
  const Key key{work->context.scope.space, work->range};
  if (cancelled) ++figures_.cancelled;
  if (!cancelled && !more.ok() && !absl::IsNotFound(more.status())) {
    ++figures_.failed;
    const std::string about =
        fmt::format("index of context '{}', range {}: ", work->context.spec.name, work->range);
    if (again) AddAfterFailure(*std::move(work));
    return absl::Status(more.status().code(), about + std::string(more.status().message()));
  }
  if (!cancelled) failed_.erase(key);
  if (again && (cancelled || (more.ok() && *more))) {
    // At the end of its queue, where it may be full by now.
    Add(*std::move(work), full_.contains(key));
  }
  return !stopped_ && HasWork();
}

uint32_t ContextIndexer::RunsAtOnce(const ContextRecord& context) const {
  const uint64_t run_bytes = kRun * ShapeOf(context.spec).row_bytes();
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(options_.build_bytes / run_bytes, 1, kRangeTokens / kRun));
}

SealPolicy ContextIndexer::PolicyFor(const ContextRecord& context, uint64_t tokens) const {
  return {.kind = tokens <= options_.graph_tokens ? SegmentKind::kHnsw : SegmentKind::kIvf,
          .runs = std::min(kRunsPerSegment, RunsAtOnce(context))};
}

absl::StatusOr<SegmentRecord> ContextIndexer::ReadRecord(const Work& work, bool& damaged) {
  const auto record = segments_.Read(work.context, work.range);
  damaged = absl::IsDataLoss(record.status()) || absl::IsFailedPrecondition(record.status());
  if (damaged) return SegmentRecord{};
  return record;
}

absl::StatusOr<bool> ContextIndexer::Look(const Work& work, Current& current) {
  // Of what is deleted the head may be left for a while.
  MNEMO_RETURN_IF_ERROR(
      contexts_.ById(work.context.scope.tenant, work.context.scope.space).status());
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(work.context));
  const uint32_t rows = RowsOf(work.range, head.next_position);
  const SealPolicy policy = PolicyFor(work.context, head.next_position);
  {
    MutexLock lock(mutex_);
    current.graph = policy.kind == SegmentKind::kHnsw;
  }
  bool damaged = false;
  MNEMO_ASSIGN_OR_RETURN(const SegmentRecord record, ReadRecord(work, damaged));
  if (!work.damaged && !damaged && !WantsBuild(record, rows, policy)) return false;
  return Build(work, record, rows, policy, current);
}

absl::StatusOr<bool> ContextIndexer::Build(const Work& work, const SegmentRecord& record,
                                           uint32_t rows, const SealPolicy& policy,
                                           Current& current) {
  const MonoTime began = clock_.Mono();
  const uint64_t at_once = RunsAtOnce(work.context) * kRun;
  const auto wanted = static_cast<uint32_t>(std::min<uint64_t>(rows, record.rows() + at_once));
  MNEMO_ASSIGN_OR_RETURN(const auto set,
                         ranges_.Range(current.call, work.context, work.range, wanted));
  const std::optional<BuildTask> task = set->PlanBuild(policy);
  if (!task) return false;
  const BuildVectors vectors(contexts_.reader(), work.context, work.range * kRangeTokens,
                             set->Snapshot());
  BuildOptions options;
  options.cancelled = &current.call.cancelled;
  MNEMO_ASSIGN_OR_RETURN(auto segment, RunBuild(set->shape(), *task, vectors, options, kernels_));
  MNEMO_RETURN_IF_ERROR(Publish(work, record, *task, std::move(segment), *set, current.call));
  MutexLock lock(mutex_);
  ++figures_.builds;
  figures_.rows += task->rows;
  figures_.build_time += clock_.Mono() - began;
  return true;
}

absl::Status ContextIndexer::Publish(const Work& work, const SegmentRecord& record,
                                     const BuildTask& task, std::unique_ptr<SealedSegment> segment,
                                     SegmentSet& set, const CallContext& call) {
  const SealedSegment::Serialized serialized = segment->Serialize();
  const StoredSegment added{.first_row = task.first_row,
                            .rows = task.rows,
                            .kind = static_cast<uint8_t>(task.kind),
                            .digest = serialized.digest};
  // Stored first: what is searched is never ahead of it.
  MNEMO_RETURN_IF_ERROR(segments_
                            .Replace(work.context, work.range, record,
                                     KeptBeside(task, record, *set.Snapshot()), added,
                                     AsBytes(serialized.bytes), call.cancelled)
                            .status());
  const absl::Status published = set.Publish(task, std::move(segment));
  ranges_.Replaced(work.context.scope.space, work.range, set);
  return published;
}

}  // namespace mnemo

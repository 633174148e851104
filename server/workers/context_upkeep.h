// Looks after contexts: summaries behind the appends, cold runs to the archive,
// hot ones back. Never drops anything.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/context_upkeep_figures.h"
#include "server/workers/demotion_plan.h"
#include "server/workers/run_ledger.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/base/units.h"
#include "storage/context/chunk_mover.h"
#include "storage/context/consolidator.h"
#include "storage/context/context_store.h"

namespace mnemo {

struct ContextUpkeepOptions {
  // Behaviour. What the embeddings of whole runs (2,048 tokens) may take at L3;
  // at least 1 MiB. Above `high_watermark` of it, the least important go to the
  // archive until `low_watermark` is left; 0 < low < high <= 1.
  uint64_t l3_bytes = kGiB;
  double high_watermark = 0.95;
  double low_watermark = 0.9;
  // Uses in the archive that bring a run back. 1 to 10.
  uint32_t promote_hits = 2;
  // Speed: embeddings read for summaries and moved, a second, at least 1 MiB;
  // and steps a second, 1 to 1,000,000. What is left of the disk belongs to calls.
  uint64_t bytes_per_second = 64 * kMiB;
  uint32_t steps_per_second = 1000;
  // Speed: how often it looks for work when there was none. 10 ms to 60 s.
  Nanos idle_wait = std::chrono::seconds(1);

  // Errors: kInvalidArgument, naming field and range.
  absl::Status Validate() const;
};

// The capacity of the archive, which parts share. Thread-safe.
class ArchiveBudget {
 public:
  virtual ~ArchiveBudget() = default;
  // Embeddings take so many bytes of it.
  virtual void Count(uint64_t bytes) = 0;
  virtual uint64_t free_bytes() const = 0;
};

// Step from one thread at a time, figures from any.
//
// What is to be done follows from the store and from what changed since; what is
// held in RAM is made again by a sweep over all contexts at the start. So it may
// be killed at any moment, and the next one goes on.
class ContextUpkeep {
 public:
  // `options` are valid. `on_failure` hears of errors that work met, on the
  // thread of Step. Nobody else moves runs. Borrows the others. Nothing moves
  // to the archive that `archive` has no room for; null: it has for all. While
  // what lies at L3 beyond `l3_bytes` has no room there, contexts take no appends.
  ContextUpkeep(ContextStore& contexts, const Clock& clock, const ContextUpkeepOptions& options,
                ArchiveBudget* archive, std::function<void(const absl::Status&)> on_failure);

  // At most one bounded piece of work: the summaries of one block of 2,048
  // tokens, the move of one run, or a look at some contexts or runs. Returns how
  // long to wait until the next call is of use. Blocks on the disk.
  Nanos Step();

  ContextUpkeepFigures figures() const;

 private:
  // What a piece of work came to. `worked` false: there was none of its kind.
  struct Outcome {
    bool worked = false;
    uint64_t bytes = 0;
  };
  using OutcomeOr = absl::StatusOr<Outcome>;

  OutcomeOr Work();
  OutcomeOr LookAtNext();
  absl::Status Sweep();
  void TakeChanges();
  absl::Status Count(const ContextRecord& context);
  OutcomeOr Demote();
  OutcomeOr ScanForPlan();
  absl::StatusOr<double> ImportanceOf(const ContextRecord& context, uint64_t run) const;
  OutcomeOr Promote();
  OutcomeOr Move(RunRef ref, bool to_archive);
  bool Over(double watermark) const;
  // What may still go to the archive.
  uint64_t ArchiveRoom() const;
  // Whether the error is of one context alone, so that others can go on.
  bool IsOfOneContext(const absl::Status& status);
  void Publish();

  ContextStore& contexts_;
  const Clock& clock_;
  const ContextUpkeepOptions options_;
  const std::function<void(const absl::Status&)> on_failure_;
  const bool has_archive_;
  ArchiveBudget* const archive_;
  Consolidator consolidator_;
  ChunkMover mover_;

  // Of the thread of Step.
  RunLedger ledger_;
  std::deque<KeyScope> waiting_;
  std::optional<ContextRecord> looked_at_;  // the first of them, counted already
  std::string sweep_cursor_;
  enum class Demotion { kRest, kScan, kMove } demotion_ = Demotion::kRest;
  bool demoted_last_ = false;  // takes turns with the rest of the work
  DemotionPlan plan_;
  RunRef scan_;
  bool plan_moved_ = false;
  MonoTime demote_from_{};                    // not before; after a plan that moved nothing
  std::vector<RunUses::UsedRun> promotable_;  // the most used last
  uint64_t uses_seen_ = 0;
  MonoTime paid_until_{};
  ContextUpkeepFigures figures_;

  mutable Mutex mutex_;  // innermost
  ContextUpkeepFigures published_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

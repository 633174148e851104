#include "server/workers/context_upkeep.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/context/token_importance.h"

namespace mnemo {
namespace {

// Looked at in one step.
constexpr size_t kSweptContexts = 64;
constexpr int kScannedRuns = 64;
// After a plan by which nothing could be moved.
constexpr Nanos kDemotionRest = std::chrono::seconds(60);

template <typename T>
absl::Status CheckRange(std::string_view field, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is not in [{}, {}]", field, value, low, high));
}

int64_t Millis(Nanos duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

absl::Status ContextUpkeepOptions::Validate() const {
  MNEMO_RETURN_IF_ERROR(CheckRange("l3_bytes", l3_bytes, kMiB, uint64_t{1} << 60));
  if (!(low_watermark > 0 && low_watermark < high_watermark && high_watermark <= 1)) {
    return absl::InvalidArgumentError(
        fmt::format("low_watermark: {} and high_watermark: {} are not 0 < low < high <= 1",
                    low_watermark, high_watermark));
  }
  MNEMO_RETURN_IF_ERROR(CheckRange<uint32_t>("promote_hits", promote_hits, 1, 10));
  MNEMO_RETURN_IF_ERROR(CheckRange("bytes_per_second", bytes_per_second, kMiB, uint64_t{1} << 60));
  MNEMO_RETURN_IF_ERROR(CheckRange<uint32_t>("steps_per_second", steps_per_second, 1, 1'000'000));
  return CheckRange<int64_t>("idle_wait in ms", Millis(idle_wait), 10, 60'000);
}

ContextUpkeep::ContextUpkeep(ContextStore& contexts, const Clock& clock,
                             const ContextUpkeepOptions& options, ArchiveBudget* archive,
                             std::function<void(const absl::Status&)> on_failure)
    : contexts_(contexts),
      clock_(clock),
      options_(options),
      on_failure_(std::move(on_failure)),
      has_archive_(contexts.stores().sync_archive != nullptr &&
                   contexts.stores().interval_archive != nullptr),
      archive_(archive),
      consolidator_(contexts, clock),
      mover_(contexts),
      demote_from_(clock.Mono()),
      paid_until_(clock.Mono()) {
  figures_.l3_capacity_bytes = options.l3_bytes;
  Publish();
}

ContextUpkeepFigures ContextUpkeep::figures() const {
  const uint64_t refused = contexts_.refused_appends();
  MutexLock lock(mutex_);
  ContextUpkeepFigures figures = published_;
  figures.refused_appends = refused;
  return figures;
}

void ContextUpkeep::Publish() {
  figures_.waiting = waiting_.size();
  figures_.l3 = ledger_.l3();
  figures_.archive = ledger_.archive();
  if (archive_ != nullptr) archive_->Count(ledger_.archive().bytes);
  const uint64_t l3 = ledger_.l3().bytes;
  figures_.full = l3 >= options_.l3_bytes && l3 - options_.l3_bytes >= ArchiveRoom();
  contexts_.SetFull(figures_.full);
  MutexLock lock(mutex_);
  published_ = figures_;
}

Nanos ContextUpkeep::Step() {
  const MonoTime begun = clock_.Mono();
  if (begun < paid_until_) return paid_until_ - begun;
  const OutcomeOr outcome = Work();
  if (!outcome.ok()) {
    ++figures_.failures;
    on_failure_(outcome.status());
    Publish();
    // The disk is full, or stopped: it is no use to go on at once.
    return options_.idle_wait;
  }
  figures_.bytes += outcome->bytes;
  Publish();
  if (!outcome->worked) return options_.idle_wait;
  const double seconds =
      std::max(static_cast<double>(outcome->bytes) / static_cast<double>(options_.bytes_per_second),
               1.0 / options_.steps_per_second);
  paid_until_ = begun + Nanos(static_cast<int64_t>(seconds * 1e9));
  return std::max(paid_until_ - clock_.Mono(), Nanos(0));
}

ContextUpkeep::OutcomeOr ContextUpkeep::Work() {
  if (!std::exchange(demoted_last_, false)) {
    MNEMO_ASSIGN_OR_RETURN(const Outcome demoted, Demote());
    demoted_last_ = demoted.worked;
    if (demoted.worked) return demoted;
  }
  MNEMO_ASSIGN_OR_RETURN(const Outcome promoted, Promote());
  if (promoted.worked) return promoted;
  MNEMO_ASSIGN_OR_RETURN(const Outcome looked, LookAtNext());
  if (looked.worked) return looked;
  // It was this turn's last chance.
  return Demote();
}

bool ContextUpkeep::IsOfOneContext(const absl::Status& status) {
  if (absl::IsNotFound(status)) return true;  // deleted meanwhile
  if (!absl::IsDataLoss(status)) return false;
  ++figures_.failures;
  on_failure_(status);
  return true;
}

void ContextUpkeep::TakeChanges() {
  ChangedContexts::Changes changes = contexts_.changed().Take();
  waiting_.insert(waiting_.end(), changes.contexts.begin(), changes.contexts.end());
  if (!changes.all) return;
  figures_.sweeping = true;
  sweep_cursor_.clear();
}

absl::Status ContextUpkeep::Sweep() {
  MNEMO_ASSIGN_OR_RETURN(const auto page, contexts_.Sweep(sweep_cursor_, kSweptContexts));
  for (const ContextRecord& context : page) waiting_.push_back(context.scope);
  figures_.sweeping = !sweep_cursor_.empty();
  return absl::OkStatus();
}

// One block of summaries of the context that waits longest; the first time,
// its runs are counted.
ContextUpkeep::OutcomeOr ContextUpkeep::LookAtNext() {
  if (waiting_.empty()) {
    // Both, so that neither waits for the other to run dry.
    TakeChanges();
    if (figures_.sweeping) MNEMO_RETURN_IF_ERROR(Sweep());
    if (waiting_.empty()) return Outcome{};
  }
  const KeyScope scope = waiting_.front();
  const auto look = [&]() -> absl::StatusOr<Consolidator::Progress> {
    if (!looked_at_) {
      MNEMO_ASSIGN_OR_RETURN(ContextRecord context, contexts_.ById(scope.tenant, scope.space));
      looked_at_ = std::move(context);
    }
    // With each block: it may grow as fast as blocks are read.
    MNEMO_RETURN_IF_ERROR(Count(*looked_at_));
    return consolidator_.Step(*looked_at_);
  };
  const auto progress = look();
  if (absl::IsNotFound(progress.status())) ledger_.Forget(scope);
  if (!progress.ok() && !IsOfOneContext(progress.status())) return progress.status();
  if (!progress.ok() || !progress->more) {
    waiting_.pop_front();
    looked_at_.reset();
  }
  if (!progress.ok()) return Outcome{.worked = true};
  figures_.summaries += progress->summaries;
  figures_.damaged_chunks += progress->damaged_chunks;
  if (!progress->damage.ok()) IsOfOneContext(progress->damage);
  return Outcome{.worked = true, .bytes = progress->bytes_read};
}

absl::Status ContextUpkeep::Count(const ContextRecord& context) {
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(context));
  const uint64_t runs = head.next_position / kRunTokens;
  if (runs == 0) return absl::OkStatus();
  if (ledger_.Knows(context.scope)) {
    ledger_.Grow(context.scope, runs);
    return absl::OkStatus();
  }
  std::vector<uint64_t> archived;
  for (uint64_t first = 0; first < runs; first += kRunsPerRange) {
    MNEMO_ASSIGN_OR_RETURN(const uint64_t bits,
                           contexts_.reader().ArchivedRuns(context, first / kRunsPerRange));
    archived.push_back(bits);
  }
  ledger_.Set(context.scope, context.spec.row_bytes() * kRunTokens, runs, std::move(archived));
  return absl::OkStatus();
}

uint64_t ContextUpkeep::ArchiveRoom() const {
  if (!has_archive_) return 0;
  return archive_ == nullptr ? std::numeric_limits<uint64_t>::max() : archive_->free_bytes();
}

bool ContextUpkeep::Over(double watermark) const {
  return static_cast<double>(ledger_.l3().bytes) >
         watermark * static_cast<double>(options_.l3_bytes);
}

ContextUpkeep::OutcomeOr ContextUpkeep::Demote() {
  if (!has_archive_) return Outcome{};
  if (demotion_ == Demotion::kRest) {
    if (!Over(options_.high_watermark) || clock_.Mono() < demote_from_) return Outcome{};
    const auto low =
        static_cast<uint64_t>(options_.low_watermark * static_cast<double>(options_.l3_bytes));
    plan_.Begin(ledger_.l3().bytes - low);
    scan_ = {};
    plan_moved_ = false;
    demotion_ = Demotion::kScan;
  }
  if (demotion_ == Demotion::kScan) return ScanForPlan();
  std::optional<RunRef> next;
  if (Over(options_.low_watermark)) next = plan_.Take();
  if (next && ledger_.RunBytes(next->scope) > ArchiveRoom()) next.reset();
  if (next) {
    MNEMO_ASSIGN_OR_RETURN(const Outcome moved, Move(*next, /*to_archive=*/true));
    plan_moved_ |= moved.bytes > 0;
    return moved;
  }
  // Enough left, or the plan is done; whether more has to go is seen anew.
  demotion_ = Demotion::kRest;
  if (!plan_moved_) demote_from_ = clock_.Mono() + kDemotionRest;
  return Outcome{.worked = plan_moved_};
}

ContextUpkeep::OutcomeOr ContextUpkeep::ScanForPlan() {
  std::optional<ContextRecord> context;
  for (int i = 0; i < kScannedRuns; ++i) {
    const std::optional<RunRef> next = ledger_.NextAtL3(scan_);
    if (!next) {
      plan_.Finish();
      demotion_ = Demotion::kMove;
      break;
    }
    const auto score = [&]() -> absl::StatusOr<double> {
      if (!context || context->scope != next->scope) {
        MNEMO_ASSIGN_OR_RETURN(context, contexts_.ById(next->scope.tenant, next->scope.space));
      }
      return ImportanceOf(*context, next->run);
    };
    const absl::StatusOr<double> importance = score();
    if (!importance.ok() && !IsOfOneContext(importance.status())) return importance.status();
    if (importance.ok()) plan_.Offer(*importance, *next, ledger_.RunBytes(next->scope));
    scan_ = {next->scope, next->run + 1};
    if (absl::IsNotFound(importance.status())) ledger_.Forget(next->scope);
  }
  return Outcome{.worked = true};
}

absl::StatusOr<double> ContextUpkeep::ImportanceOf(const ContextRecord& context,
                                                   uint64_t run) const {
  const uint64_t first = run * kRunTokens;
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, contexts_.reader().Head(context));
  MNEMO_ASSIGN_OR_RETURN(const TreeNode node,
                         contexts_.reader().Summarize(context, first, first + kRunTokens));
  ImportanceSignals signals{.first_position = first,
                            .end_position = first + kRunTokens,
                            .context_tokens = head.next_position,
                            .client = node.largest_importance};
  if (const auto use = contexts_.uses().Find(context.scope, run)) {
    signals.uses = use->uses;
    signals.age = clock_.Mono() - use->last;
  } else {
    const int64_t now_us = clock_.Wall().nanos / 1000;
    // What a client gives as a time may be anything; later than now is now.
    const int64_t said_us = std::clamp<int64_t>(node.last_time_unix_us, 0, now_us);
    signals.age = std::chrono::microseconds(now_us - said_us);
  }
  return TokenImportance(signals);
}

ContextUpkeep::OutcomeOr ContextUpkeep::Promote() {
  const uint64_t noted = contexts_.uses().noted();
  if (promotable_.empty() && noted != uses_seen_) {
    uses_seen_ = noted;
    promotable_ = contexts_.uses().UsedAtLeast(options_.promote_hits);
    std::erase_if(promotable_, [&](const RunUses::UsedRun& used) {
      return !ledger_.InArchive({used.scope, used.run});
    });
    std::sort(promotable_.begin(), promotable_.end(),
              [](const auto& a, const auto& b) { return a.uses < b.uses; });
  }
  // Above the mark others have to leave first, which makes room for these.
  if (promotable_.empty() || Over(options_.high_watermark)) return Outcome{};
  const RunRef ref{promotable_.back().scope, promotable_.back().run};
  promotable_.pop_back();
  return Move(ref, /*to_archive=*/false);
}

ContextUpkeep::OutcomeOr ContextUpkeep::Move(RunRef ref, bool to_archive) {
  const auto move = [&]() -> absl::Status {
    MNEMO_ASSIGN_OR_RETURN(const ContextRecord context,
                           contexts_.ById(ref.scope.tenant, ref.scope.space));
    return to_archive ? mover_.Demote(context, ref.run) : mover_.Promote(context, ref.run);
  };
  const absl::Status moved = move();
  if (moved.ok()) {
    ledger_.Move(ref, to_archive);
    ++(to_archive ? figures_.demoted : figures_.promoted);
    return Outcome{.worked = true, .bytes = ledger_.RunBytes(ref.scope)};
  }
  // It may be half done: what the store says is asked for again.
  ledger_.Forget(ref.scope);
  if (!absl::IsNotFound(moved)) contexts_.changed().Note(ref.scope);
  if (!IsOfOneContext(moved)) return moved;
  return Outcome{.worked = true};
}

}  // namespace mnemo

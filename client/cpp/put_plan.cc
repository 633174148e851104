#include "client/cpp/put_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

// What a verdict makes of a part for which no result comes.
PartStored StoredFor(const OfferVerdict& verdict) {
  switch (verdict.verdict) {
    case Verdict::kPresent:
      return {.outcome = PutOutcome::kAlreadyPresent, .digest = verdict.digest};
    case Verdict::kPending:
      return {.outcome = PutOutcome::kPending};
    default:
      return {.status = verdict.reason.ok() ? absl::UnknownError("refused without a reason")
                                            : verdict.reason};
  }
}

PutOutcome ToOutcome(v1::PutOutcome outcome) {
  switch (outcome) {
    case v1::PUT_OUTCOME_STORED:
      return PutOutcome::kStored;
    case v1::PUT_OUTCOME_ALREADY_PRESENT:
      return PutOutcome::kAlreadyPresent;
    case v1::PUT_OUTCOME_CONFLICT:
      return PutOutcome::kConflict;
    default:
      return PutOutcome::kFailed;
  }
}

}  // namespace

PutPlan::PutPlan(std::vector<uint64_t> sizes) {
  parts_.reserve(sizes.size());
  for (const uint64_t size : sizes) parts_.push_back({.size = size});
  Advance();
}

void PutPlan::Reset() {
  for (Part& part : parts_) part = {.size = part.size};
  current_ = 0;
  offset_ = 0;
  sent_ = 0;
  allowed_ = kMaxPiece;
  granted_ = false;
  Advance();
}

void PutPlan::Advance() {
  while (current_ < parts_.size() &&
         (!parts_[current_].wanted || offset_ == parts_[current_].size)) {
    ++current_;
    offset_ = 0;
  }
}

std::optional<PutPiece> PutPlan::Next() {
  if (done() || sent_ >= allowed_) return std::nullopt;
  const PutPiece piece{.index = static_cast<uint32_t>(current_),
                       .offset = offset_,
                       .size = std::min({kMaxPiece, allowed_ - sent_,
                                         parts_[current_].size - offset_})};
  sent_ += piece.size;
  offset_ += piece.size;
  Advance();
  return piece;
}

absl::Status PutPlan::OnGrant(const v1::PutGrant& grant) {
  allowed_ = std::max(allowed_, grant.bytes_granted());
  if (granted_) return absl::OkStatus();
  granted_ = true;
  if (static_cast<size_t>(grant.verdicts_size()) != parts_.size()) {
    return absl::InternalError(fmt::format("the daemon's grant has {} verdicts for {} parts",
                                           grant.verdicts_size(), parts_.size()));
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OfferVerdict verdict = FromMessage(grant.verdicts(static_cast<int>(i)));
    parts_[i].wanted = verdict.verdict == Verdict::kWant;
    // A result may follow for these as well; then it counts.
    if (!parts_[i].wanted) parts_[i].stored = StoredFor(verdict);
  }
  Advance();
  return absl::OkStatus();
}

absl::Status PutPlan::OnResult(const v1::PutResult& result) {
  if (result.index() >= parts_.size()) {
    return absl::InternalError(
        fmt::format("the daemon answered part {} of {}", result.index(), parts_.size()));
  }
  Part& part = parts_[result.index()];
  if (part.answered) {
    return absl::InternalError(fmt::format("the daemon answered part {} twice", result.index()));
  }
  part.answered = true;
  // What is decided needs no more bytes.
  part.wanted = false;
  Advance();
  const PutOutcome outcome = ToOutcome(result.outcome());
  // The error that the daemon gives for a pending part says no more than that.
  if (outcome == PutOutcome::kFailed && part.stored.outcome == PutOutcome::kPending) {
    return absl::OkStatus();
  }
  part.stored = {.outcome = outcome, .digest = ToDigest(result.digest())};
  if (outcome == PutOutcome::kFailed) part.stored.status = ToStatus(result.error());
  return absl::OkStatus();
}

absl::StatusOr<PutResult> PutPlan::Finish(const absl::Status& status) {
  const bool any = std::any_of(parts_.begin(), parts_.end(),
                               [](const Part& part) { return part.answered || !part.wanted; });
  if (!status.ok() && !any) return status;
  PutResult result;
  result.parts.reserve(parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (!part.answered && part.wanted) {
      part.stored.status =
          status.ok() ? absl::InternalError(fmt::format("the daemon did not answer part {}", i))
                      : status;
    }
    result.parts.push_back(std::move(part.stored));
  }
  return result;
}

}  // namespace mnemo::client

#include "client/cpp/put_plan.h"

#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

constexpr uint64_t kMiB = 1 << 20;

v1::PutGrant Grant(uint64_t bytes, const std::vector<v1::Verdict>& verdicts = {}) {
  v1::PutGrant grant;
  grant.set_bytes_granted(bytes);
  for (const v1::Verdict verdict : verdicts) grant.add_verdicts()->set_verdict(verdict);
  return grant;
}

v1::PutResult Stored(uint32_t index) {
  v1::PutResult result;
  result.set_index(index);
  result.set_outcome(v1::PUT_OUTCOME_STORED);
  return result;
}

TEST(PutPlanTest, SendsOneMebibyteBeforeTheGrantAndNoMore) {
  PutPlan plan({3 * kMiB});
  const auto first = plan.Next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->offset, 0u);
  EXPECT_EQ(first->size, kMiB);
  EXPECT_FALSE(plan.Next());
  EXPECT_FALSE(plan.done());
  EXPECT_OK(plan.OnGrant(Grant(2 * kMiB + 5, {v1::VERDICT_WANT})));
  EXPECT_EQ(plan.Next()->offset, kMiB);
  const auto rest = plan.Next();
  EXPECT_EQ(rest->offset, 2 * kMiB);
  EXPECT_EQ(rest->size, 5u);
  EXPECT_FALSE(plan.Next());
  EXPECT_OK(plan.OnGrant(Grant(3 * kMiB)));
  EXPECT_EQ(plan.Next()->size, kMiB - 5);
  EXPECT_TRUE(plan.done());
}

TEST(PutPlanTest, AGrantTakesBackNothing) {
  PutPlan plan({4 * kMiB});
  EXPECT_OK(plan.OnGrant(Grant(5, {v1::VERDICT_WANT})));
  EXPECT_EQ(plan.Next()->size, kMiB) << "the first mebibyte needs no grant";
  EXPECT_OK(plan.OnGrant(Grant(2 * kMiB)));
  EXPECT_OK(plan.OnGrant(Grant(kMiB)));
  EXPECT_EQ(plan.Next()->size, kMiB);
  EXPECT_FALSE(plan.Next());
}

TEST(PutPlanTest, PiecesFollowWithoutGapsAndEndWithTheirPart) {
  PutPlan plan({kMiB / 2, kMiB + 1, 1});
  EXPECT_OK(plan.OnGrant(Grant(64 * kMiB, {v1::VERDICT_WANT, v1::VERDICT_WANT, v1::VERDICT_WANT})));
  std::vector<std::pair<uint32_t, uint64_t>> seen;
  while (const auto piece = plan.Next()) seen.emplace_back(piece->index, piece->offset);
  EXPECT_EQ(seen, (std::vector<std::pair<uint32_t, uint64_t>>{{0, 0}, {1, 0}, {1, kMiB}, {2, 0}}));
}

TEST(PutPlanTest, LeavesOutWhatTheGrantDoesNotWantEvenHalfWay) {
  PutPlan plan({2 * kMiB, kMiB, kMiB});
  EXPECT_EQ(plan.Next()->index, 0u);
  EXPECT_OK(
      plan.OnGrant(Grant(8 * kMiB, {v1::VERDICT_PRESENT, v1::VERDICT_PENDING, v1::VERDICT_WANT})));
  EXPECT_EQ(plan.Next()->index, 2u);
  EXPECT_TRUE(plan.done());
  EXPECT_OK(plan.OnResult(Stored(2)));
  ASSERT_OK_AND_ASSIGN(const PutResult result, plan.Finish(absl::OkStatus()));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kAlreadyPresent);
  EXPECT_EQ(result.parts[1].outcome, PutOutcome::kPending);
  EXPECT_EQ(result.parts[2].outcome, PutOutcome::kStored);
}

TEST(PutPlanTest, AResultWinsOverTheVerdict) {
  PutPlan plan({8});
  EXPECT_OK(plan.OnGrant(Grant(0, {v1::VERDICT_PRESENT})));
  v1::PutResult conflict;
  conflict.set_outcome(v1::PUT_OUTCOME_CONFLICT);
  conflict.mutable_digest()->set_low(7);
  EXPECT_OK(plan.OnResult(conflict));
  ASSERT_OK_AND_ASSIGN(const PutResult result, plan.Finish(absl::OkStatus()));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kConflict);
  EXPECT_EQ(result.parts[0].digest.low, 7u);
}

TEST(PutPlanTest, APendingPartStaysPendingWhateverErrorFollows) {
  PutPlan plan({8});
  EXPECT_OK(plan.OnGrant(Grant(0, {v1::VERDICT_PENDING})));
  v1::PutResult aborted;
  aborted.mutable_error()->set_code(10);
  EXPECT_OK(plan.OnResult(aborted));
  ASSERT_OK_AND_ASSIGN(const PutResult result, plan.Finish(absl::OkStatus()));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kPending);
  EXPECT_OK(result.parts[0].status);
}

TEST(PutPlanTest, RefusesAnswersThatBreakTheContract) {
  PutPlan plan({8, 8});
  EXPECT_THAT(plan.OnResult(Stored(2)), StatusIs(absl::StatusCode::kInternal));
  EXPECT_OK(plan.OnResult(Stored(1)));
  EXPECT_THAT(plan.OnResult(Stored(1)), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(plan.OnGrant(Grant(8, {v1::VERDICT_WANT})), StatusIs(absl::StatusCode::kInternal));
}

TEST(PutPlanTest, WhatWasStoredBeforeAFailureCounts) {
  PutPlan plan({8, 8});
  EXPECT_THAT(plan.Finish(absl::UnavailableError("gone")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(plan.OnResult(Stored(0)));
  ASSERT_OK_AND_ASSIGN(const PutResult result, plan.Finish(absl::UnavailableError("gone")));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kStored);
  EXPECT_EQ(result.parts[1].outcome, PutOutcome::kFailed);
  EXPECT_THAT(result.parts[1].status, StatusIs(absl::StatusCode::kUnavailable));
}

TEST(PutPlanTest, AnotherAttemptStartsFromTheBeginning) {
  PutPlan plan({8, 8});
  while (plan.Next()) {
  }
  EXPECT_OK(plan.OnResult(Stored(0)));
  plan.Reset();
  EXPECT_EQ(plan.Next()->index, 0u);
  EXPECT_EQ(plan.Next()->index, 1u);
}

}  // namespace
}  // namespace mnemo::client

#include "client/cli/exit_code.h"

#include <gtest/gtest.h>

#include <map>

namespace mnemo::cli {
namespace {

TEST(ExitCodeTest, EveryStatusHasTheCodeThatOperatorsAreTold) {
  const std::map<absl::StatusCode, ExitCode> expected = {
      {absl::StatusCode::kOk, ExitCode::kOk},
      {absl::StatusCode::kCancelled, ExitCode::kFailure},
      {absl::StatusCode::kUnknown, ExitCode::kFailure},
      {absl::StatusCode::kInvalidArgument, ExitCode::kUsage},
      {absl::StatusCode::kDeadlineExceeded, ExitCode::kUnreachable},
      {absl::StatusCode::kNotFound, ExitCode::kNotFound},
      {absl::StatusCode::kAlreadyExists, ExitCode::kConflict},
      {absl::StatusCode::kPermissionDenied, ExitCode::kNotPermitted},
      {absl::StatusCode::kResourceExhausted, ExitCode::kFailure},
      {absl::StatusCode::kFailedPrecondition, ExitCode::kConflict},
      {absl::StatusCode::kAborted, ExitCode::kConflict},
      {absl::StatusCode::kOutOfRange, ExitCode::kUsage},
      {absl::StatusCode::kUnimplemented, ExitCode::kFailure},
      {absl::StatusCode::kInternal, ExitCode::kFailure},
      {absl::StatusCode::kUnavailable, ExitCode::kUnreachable},
      {absl::StatusCode::kDataLoss, ExitCode::kFailure},
      {absl::StatusCode::kUnauthenticated, ExitCode::kNotPermitted}};
  for (int code = 0; code <= 16; ++code) {
    const auto status = static_cast<absl::StatusCode>(code);
    ASSERT_TRUE(expected.contains(status)) << code;
    EXPECT_EQ(ExitCodeOf(absl::Status(status, "why")), expected.at(status)) << code;
  }
}

TEST(ExitCodeTest, NumbersAreThoseOfTheManual) {
  EXPECT_EQ(static_cast<int>(ExitCode::kOk), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kFailure), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kNotFound), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::kUnreachable), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::kNotPermitted), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::kPartlyDone), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::kUnhealthy), 7);
  EXPECT_EQ(static_cast<int>(ExitCode::kConflict), 8);
}

}  // namespace
}  // namespace mnemo::cli

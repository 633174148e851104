#include "server/exit_code.h"

#include <gtest/gtest.h>

namespace mnemo {
namespace {

TEST(ExitCodeTest, StatusCarriesItsCode) {
  EXPECT_EQ(ExitCodeOf(WithExitCode(absl::UnavailableError("x"), ExitCode::kLocked)),
            ExitCode::kLocked);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("x")), ExitCode::kFailure);
}

TEST(ExitCodeTest, ErrorsOfOpenAreToldApart) {
  EXPECT_EQ(ExitCodeOfOpen(absl::UnavailableError("")), ExitCode::kLocked);
  EXPECT_EQ(ExitCodeOfOpen(absl::FailedPreconditionError("")), ExitCode::kFormat);
  EXPECT_EQ(ExitCodeOfOpen(absl::DataLossError("")), ExitCode::kDamaged);
  EXPECT_EQ(ExitCodeOfOpen(absl::InvalidArgumentError("")), ExitCode::kConfig);
  EXPECT_EQ(ExitCodeOfOpen(absl::PermissionDeniedError("")), ExitCode::kDirectory);
  EXPECT_EQ(ExitCodeOfOpen(absl::ResourceExhaustedError("")), ExitCode::kDirectory);
  EXPECT_EQ(ExitCodeOfOpen(absl::InternalError("")), ExitCode::kDirectory);
}

}  // namespace
}  // namespace mnemo

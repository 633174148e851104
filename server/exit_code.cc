#include "server/exit_code.h"

#include <cstdlib>
#include <string>

#include "absl/strings/cord.h"

namespace mnemo {
namespace {

constexpr char kPayload[] = "mnemo/exit-code";

}  // namespace

absl::Status WithExitCode(absl::Status status, ExitCode code) {
  status.SetPayload(kPayload, absl::Cord(std::to_string(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  const absl::optional<absl::Cord> code = status.GetPayload(kPayload);
  if (!code) return ExitCode::kFailure;
  return static_cast<ExitCode>(std::atoi(std::string(*code).c_str()));
}

ExitCode ExitCodeOfOpen(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kConfig;
    case absl::StatusCode::kUnavailable:
      return ExitCode::kLocked;
    case absl::StatusCode::kFailedPrecondition:
      return ExitCode::kFormat;
    case absl::StatusCode::kDataLoss:
      return ExitCode::kDamaged;
    default:
      return ExitCode::kDirectory;
  }
}

}  // namespace mnemo

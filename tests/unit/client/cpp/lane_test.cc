#include "client/cpp/lane.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

TEST(LaneTest, AClientThatIsToUseTlsSendsNothingInPlainText) {
  CalibrationCache calibrations;
  // Nobody listens there: who goes on finds that out.
  Lane lane(
      {.tls = TlsOptions()},
      [](Plane, LaneTime, CancelSource*) -> absl::StatusOr<LaneAddress> {
        return LaneAddress{.tcp_address = "127.0.0.1:1", .ticket = "secret"};
      },
      calibrations,
      [](const SpaceRef&, const std::set<uint32_t>&, LaneTime, CancelSource*) {
        return CalibrationFailures();
      });
  const std::string_view key = "k";
  const auto answer = lane.Match({.space = "s", .keys = {&key, 1}}, {.plane = PlaneChoice::kBulk});
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(answer->status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("plain")));
}

}  // namespace
}  // namespace mnemo::client

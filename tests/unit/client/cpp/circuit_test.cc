#include "client/cpp/circuit.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace mnemo::client {
namespace {

const absl::Status kFailure = absl::UnavailableError("gone");

class CircuitTest : public ::testing::Test {
 protected:
  void Fail(int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(circuit_.Enter());
      circuit_.Leave(kFailure);
    }
  }
  FakeClock clock_;
  Circuit circuit_{{.failures_to_open = 3, .open_for = Millis(1000)}, clock_};
};

TEST_F(CircuitTest, OpensAfterFailuresInARow) {
  Fail(2);
  ASSERT_TRUE(circuit_.Enter());
  circuit_.Leave(absl::OkStatus());
  Fail(3);
  EXPECT_FALSE(circuit_.Enter());
  EXPECT_EQ(circuit_.stats().failed, 5u);
  EXPECT_EQ(circuit_.stats().skipped, 1u);
}

TEST_F(CircuitTest, RefusalsAreNoFailures) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(circuit_.Enter());
    circuit_.Leave(absl::InvalidArgumentError("keys[0] is empty"));
  }
  EXPECT_TRUE(circuit_.Enter());
}

TEST_F(CircuitTest, LetsOneCallTryWhenItsTimeIsUp) {
  Fail(3);
  clock_.Advance(Millis(999));
  EXPECT_FALSE(circuit_.Enter());
  clock_.Advance(Millis(1));
  EXPECT_TRUE(circuit_.Enter());
  EXPECT_FALSE(circuit_.Enter()) << "only one may try";
  circuit_.Leave(kFailure);
  EXPECT_FALSE(circuit_.Enter()) << "it failed: open again";
  clock_.Advance(Millis(1000));
  ASSERT_TRUE(circuit_.Enter());
  circuit_.Leave(absl::OkStatus());
  EXPECT_TRUE(circuit_.Enter());
  EXPECT_TRUE(circuit_.Enter());
}

}  // namespace
}  // namespace mnemo::client

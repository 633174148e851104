// Which of two forms is better, by what a part gave in both.
#include "storage/block/form_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr double kFast = 1e9;

TEST(FormChoiceTest, AxesAreTakenWhereTheyErrLessThanAsManyBitsOfTheOtherWould) {
  const FormTrial rotated{.bits_per_value = 2.25, .error = 0.35};
  EXPECT_TRUE(AreAxesBetter(rotated, {2.25, 0.34}, kFast));
  EXPECT_FALSE(AreAxesBetter(rotated, {2.25, 0.35}, kFast));
  // Half a bit more is worth 1 / sqrt(2).
  EXPECT_TRUE(AreAxesBetter(rotated, {2.75, 0.24}, kFast));
  EXPECT_FALSE(AreAxesBetter(rotated, {2.75, 0.26}, kFast));
  EXPECT_TRUE(AreAxesBetter(rotated, {2.0, 0.41}, kFast));
}

TEST(FormChoiceTest, AxesThatTakeTooMuchRoomOrTimeAreNotTaken) {
  const FormTrial rotated{.bits_per_value = 2, .error = 0.35};
  EXPECT_TRUE(AreAxesBetter(rotated, {2 * kMostBytesOfAxes, 0.1}, kFast));
  EXPECT_FALSE(AreAxesBetter(rotated, {2 * kMostBytesOfAxes + 0.01, 0.1}, kFast));
  EXPECT_TRUE(AreAxesBetter(rotated, {2, 0.1}, kLeastDecodeRate));
  EXPECT_FALSE(AreAxesBetter(rotated, {2, 0.1}, kLeastDecodeRate - 1));
}

// Takes as long between two looks as it is told, the last again and again.
class SteppingClock final : public Clock {
 public:
  explicit SteppingClock(std::vector<Nanos> steps) : steps_(std::move(steps)) {}
  WallTime Wall() const override { return {}; }
  MonoTime Mono() const override {
    // Between the end of a try and the begin of the next no time passes.
    if (looks_++ % 2 == 1) now_ += steps_[std::min(looks_ / 2, steps_.size()) - 1];
    return now_;
  }
  size_t tries() const { return looks_ / 2; }

 private:
  const std::vector<Nanos> steps_;
  mutable MonoTime now_;
  mutable size_t looks_ = 0;
};

class DecodeRateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string payload(kMiB, 'x');
    const uint64_t sizes[] = {payload.size()};
    auto builder = EnvelopeBuilder::Create("key", sizes, 1);
    ASSERT_OK(builder);
    ASSERT_OK(builder->Update(AsBytes(payload)));
    ASSERT_OK_AND_ASSIGN(envelope_, builder->Header());
    envelope_ += payload;
  }
  std::string envelope_;
  CodecSet codecs_;
  SectionDecoder decoder_{codecs_};
};

TEST_F(DecodeRateTest, OneTryThatIsFastEnoughIsEnough) {
  const SteppingClock clock({std::chrono::seconds(1), std::chrono::milliseconds(10)});
  ASSERT_OK_AND_ASSIGN(const double rate, DecodeRateOf(AsBytes(envelope_), decoder_, clock));
  EXPECT_NEAR(rate, 100.0 * kMiB, kMiB);
  EXPECT_EQ(clock.tries(), 2u);
}

TEST_F(DecodeRateTest, WhatIsNeverFastEnoughIsGivenUp) {
  const SteppingClock clock({std::chrono::milliseconds(500)});
  ASSERT_OK_AND_ASSIGN(const double rate, DecodeRateOf(AsBytes(envelope_), decoder_, clock));
  EXPECT_NEAR(rate, 2.0 * kMiB, 1);
  EXPECT_EQ(clock.tries(), 8u);
}

TEST_F(DecodeRateTest, NoTimeIsFastAndDamageIsSaid) {
  const FakeClock still;
  ASSERT_OK_AND_ASSIGN(const double rate, DecodeRateOf(AsBytes(envelope_), decoder_, still));
  EXPECT_TRUE(std::isinf(rate));
  envelope_.back() ^= 1;
  EXPECT_THAT(DecodeRateOf(AsBytes(envelope_), decoder_, still),
              StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo

#include "server/gate/stream_watchdog.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

constexpr Nanos kLimit = std::chrono::seconds(10);

class FakeStream final : public WatchedStream {
 public:
  FakeStream(StreamWatchdog& watchdog, Clock& clock) : watchdog_(watchdog), clock_(clock) {
    watchdog_.Add(*this);
  }
  ~FakeStream() override { watchdog_.Remove(*this); }

  bool OnStalled() override {
    ++stalled;
    return take_turn;
  }
  void EndStalled() override { ++ended; }
  void OnShutdown() override { ++shutdowns; }

  void BeginRead() { reading_wait_.Begin(clock_.Mono()); }
  void EndRead(bool progress) { reading_wait_.End(progress); }
  void BeginWrite() { writing_wait_.Begin(clock_.Mono()); }

  bool take_turn = false;
  int stalled = 0;
  int ended = 0;
  int shutdowns = 0;

 private:
  StreamWatchdog& watchdog_;
  Clock& clock_;
};

class StreamWatchdogTest : public ::testing::Test {
 protected:
  void Pass(Nanos time) {
    clock_.Advance(time);
    watchdog_.Scan();
  }
  FakeClock clock_;
  StreamWatchdog watchdog_{clock_, kLimit};
};

TEST_F(StreamWatchdogTest, EndsAWaitAtItsLimitAndNotBefore) {
  FakeStream stream(watchdog_, clock_);
  stream.BeginRead();
  Pass(kLimit - Nanos(1));
  EXPECT_EQ(stream.stalled, 0);
  Pass(Nanos(1));
  EXPECT_GE(stream.stalled, 1);
  EXPECT_EQ(stream.ended, 0);
}

TEST_F(StreamWatchdogTest, TimeSpentWaitingForUsDoesNotCount) {
  FakeStream stream(watchdog_, clock_);
  stream.BeginRead();
  stream.EndRead(true);
  Pass(10 * kLimit);
  stream.BeginRead();
  Pass(kLimit / 2);
  EXPECT_EQ(stream.stalled, 0);
}

TEST_F(StreamWatchdogTest, HardlyAnythingIsNoProgress) {
  FakeStream stream(watchdog_, clock_);
  for (int i = 0; i < 3; ++i) {
    stream.BeginRead();
    Pass(std::chrono::seconds(4));
    stream.EndRead(false);
  }
  stream.BeginRead();
  watchdog_.Scan();
  EXPECT_GE(stream.stalled, 1);
}

TEST_F(StreamWatchdogTest, ProgressBeginsAnew) {
  FakeStream stream(watchdog_, clock_);
  for (int i = 0; i < 10; ++i) {
    stream.BeginRead();
    Pass(std::chrono::seconds(4));
    stream.EndRead(i % 2 == 1);
  }
  EXPECT_EQ(stream.stalled, 0);
}

TEST_F(StreamWatchdogTest, EitherWaitCounts) {
  FakeStream stream(watchdog_, clock_);
  stream.BeginRead();
  stream.EndRead(true);
  stream.BeginWrite();
  Pass(kLimit);
  EXPECT_GE(stream.stalled, 1);
}

TEST_F(StreamWatchdogTest, CountsWhoWaitsForWhat) {
  FakeStream reader(watchdog_, clock_);
  FakeStream writer(watchdog_, clock_);
  EXPECT_EQ(watchdog_.waiting().for_input, 0u);
  EXPECT_EQ(watchdog_.waiting().for_output, 0u);
  reader.BeginRead();
  writer.BeginRead();
  writer.BeginWrite();
  EXPECT_EQ(watchdog_.waiting().for_input, 2u);
  EXPECT_EQ(watchdog_.waiting().for_output, 1u);
  reader.EndRead(true);
  writer.EndRead(false);
  EXPECT_EQ(watchdog_.waiting().for_input, 0u);
  EXPECT_EQ(watchdog_.waiting().for_output, 1u);
}

TEST_F(StreamWatchdogTest, AStreamWhoseTurnWasTakenIsEnded) {
  FakeStream stream(watchdog_, clock_);
  stream.take_turn = true;
  stream.BeginRead();
  Pass(kLimit);
  EXPECT_EQ(stream.ended, stream.stalled);
}

TEST_F(StreamWatchdogTest, TellsOfTheShutdownToThoseThatComeLateAsWell) {
  FakeStream early(watchdog_, clock_);
  watchdog_.AnnounceShutdown();
  EXPECT_EQ(early.shutdowns, 1);
}

}  // namespace
}  // namespace mnemo

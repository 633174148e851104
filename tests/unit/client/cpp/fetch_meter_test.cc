#include "client/cpp/fetch_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "mnemo/client.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::client {
namespace {

using ::testing::DoubleNear;
using Seconds = FetchMeter::Duration;

constexpr uint64_t kMiB = 1 << 20;

FetchShare Blocks(uint64_t blocks, uint64_t bytes_each = 2 * kMiB, Level level = Level::kL1) {
  return {.level = level, .blocks = blocks, .bytes = blocks * bytes_each};
}
FetchShare OnDisk(uint64_t blocks) { return Blocks(blocks, 2 * kMiB, Level::kL3); }

void Record(FetchMeter& meter, std::vector<FetchShare> shares, double seconds) {
  meter.Record(shares, Seconds(seconds));
}
// Below 0: not known.
double Estimate(const FetchMeter& meter, std::vector<FetchShare> shares) {
  const auto estimate = meter.Estimate(shares);
  return estimate ? estimate->count() : -1;
}

TEST(FetchMeterTest, KnowsNothingBeforeTheFirstRead) {
  FetchMeter meter;
  EXPECT_EQ(Estimate(meter, {Blocks(1)}), -1);
  Record(meter, {Blocks(4)}, 0.01);
  EXPECT_GT(Estimate(meter, {Blocks(1)}), 0);
  EXPECT_EQ(Estimate(meter, {OnDisk(1)}), -1);
  EXPECT_EQ(Estimate(meter, {Blocks(1), OnDisk(1)}), -1);
  EXPECT_EQ(Estimate(meter, {}), -1);
}

TEST(FetchMeterTest, TellsACallAndItsBytesApart) {
  FetchMeter meter;
  for (int round = 0; round < 5; ++round) {
    for (const int blocks : {1, 2, 4, 8, 16})
      Record(meter, {Blocks(blocks)}, 0.003 + blocks * 0.001);
  }
  for (const int blocks : {1, 3, 10, 64}) {
    EXPECT_THAT(Estimate(meter, {Blocks(blocks)}), DoubleNear(0.003 + blocks * 0.001, 1e-5));
  }
}

TEST(FetchMeterTest, TakesEqualReadsForARatio) {
  FetchMeter meter;
  for (int round = 0; round < 10; ++round) Record(meter, {Blocks(4)}, 0.004);
  EXPECT_THAT(Estimate(meter, {Blocks(8)}), DoubleNear(0.008, 1e-6));
}

TEST(FetchMeterTest, KeepsLevelsAndSizesApart) {
  FetchMeter meter;
  Record(meter, {Blocks(4)}, 0.04);
  Record(meter, {OnDisk(4)}, 4.0);
  Record(meter, {Blocks(4, 4096)}, 0.004);
  EXPECT_THAT(Estimate(meter, {Blocks(4)}), DoubleNear(0.04, 1e-6));
  EXPECT_THAT(Estimate(meter, {OnDisk(4)}), DoubleNear(4.0, 1e-6));
  EXPECT_THAT(Estimate(meter, {Blocks(4), OnDisk(4)}), DoubleNear(4.04, 1e-6));
  // What is nearest in size stands in for a size that was not read.
  EXPECT_THAT(Estimate(meter, {Blocks(4, kMiB)}), DoubleNear(0.02, 1e-6));
  EXPECT_THAT(Estimate(meter, {Blocks(4, 2048)}), DoubleNear(0.002, 1e-6));
}

TEST(FetchMeterTest, LearnsOfEachLevelFromAReadOfSeveral) {
  FetchMeter meter;
  Record(meter, {Blocks(4), OnDisk(4)}, 1.0);  // cannot be told apart yet
  EXPECT_EQ(Estimate(meter, {Blocks(4)}), -1);
  Record(meter, {Blocks(4)}, 0.1);
  Record(meter, {OnDisk(4)}, 0.4);
  for (int round = 0; round < 400; ++round) Record(meter, {Blocks(4), OnDisk(4)}, 1.0);
  EXPECT_THAT(Estimate(meter, {Blocks(4), OnDisk(4)}), DoubleNear(1.0, 0.05));
  EXPECT_GT(Estimate(meter, {OnDisk(4)}), 3 * Estimate(meter, {Blocks(4)}));
}

TEST(FetchMeterTest, ForgetsWhatIsOld) {
  FetchMeter meter;
  for (int round = 0; round < 500; ++round) Record(meter, {Blocks(4)}, 0.1);
  for (int round = 0; round < 200; ++round) Record(meter, {Blocks(4)}, 0.01);
  EXPECT_THAT(Estimate(meter, {Blocks(4)}), DoubleNear(0.01, 0.0025));
}

TEST(FetchMeterTest, AdvisesRightWhereItMatters) {
  FetchMeter meter;
  std::mt19937 random(11);
  std::lognormal_distribution<double> noise(0, 0.1);
  std::uniform_int_distribution<uint64_t> blocks(1, 64);
  std::uniform_real_distribution<double> rates(3000, 60000);
  int asked = 0;
  int right = 0;
  for (int round = 0; round < 3000; ++round) {
    const bool far = random() % 2 == 0;
    const FetchShare share = far ? OnDisk(blocks(random)) : Blocks(blocks(random));
    const double fetch =
        (0.001 + static_cast<double>(share.blocks) * (far ? 0.004 : 0.0005)) * noise(random);
    const double rate = rates(random);
    const MatchResult match{.blocks = static_cast<uint32_t>(share.blocks),
                            .tokens = 16 * share.blocks,
                            .fetch_time = meter.Estimate(std::vector{share})};
    const double prefill = static_cast<double>(match.tokens) / rate;
    // The bar: outside of a band of 20 % around equal cost.
    if (match.fetch_time && std::abs(std::log(fetch / prefill)) > std::log(1.25)) {
      ++asked;
      right += match.ShouldFetch(rate) == (fetch < prefill) ? 1 : 0;
    }
    Record(meter, {share}, fetch);
  }
  EXPECT_GT(asked, 1000);
  EXPECT_GT(right, asked * 9 / 10);
}

TEST(FetchSharesTest, PutTogetherWhatLiesAtOneLevel) {
  const MatchResult match{.blocks = 5,
                          .runs = {{.first = 0, .count = 2, .level = Level::kL1},
                                   {.first = 2, .count = 1, .level = Level::kL3},
                                   {.first = 3, .count = 2, .level = Level::kL1}},
                          .fetch_bytes = 500};
  const std::vector<FetchShare> shares = SharesOf(match);
  ASSERT_EQ(shares.size(), 2u);
  EXPECT_EQ(shares[0].level, Level::kL1);
  EXPECT_EQ(shares[0].blocks, 4u);
  EXPECT_EQ(shares[0].bytes, 400u);
  EXPECT_EQ(shares[1].bytes, 100u);
  EXPECT_TRUE(SharesOf(MatchResult{}).empty());
}

TEST(FetchSharesTest, CountABlockWhereItsFarthestPartLies) {
  GetResult read;
  read.parts = {{.bytes = 10, .level = Level::kL1},
                {.bytes = 20, .level = Level::kL3},
                {.bytes = 30, .level = Level::kL1},
                {.bytes = 40, .level = Level::kL1}};
  const std::vector<FetchShare> shares = SharesOf(read, 2);
  ASSERT_EQ(shares.size(), 2u);
  EXPECT_EQ(shares[0].bytes, 70u);
  EXPECT_EQ(shares[0].blocks, 1u);
  EXPECT_EQ(shares[1].level, Level::kL3);
  EXPECT_EQ(shares[1].bytes, 30u);
  read.parts[3].status = absl::NotFoundError("gone");
  EXPECT_TRUE(SharesOf(read, 2).empty());
}

TEST(MatchResultTest, WithoutFiguresFetchesWhatIsThere) {
  EXPECT_TRUE((MatchResult{.blocks = 1, .tokens = 16}).ShouldFetch(1000));
  EXPECT_FALSE(MatchResult{}.ShouldFetch(1000));
  EXPECT_TRUE(
      (MatchResult{.blocks = 1, .tokens = 16, .fetch_time = Seconds(0.015)}).ShouldFetch(1000));
  EXPECT_FALSE(
      (MatchResult{.blocks = 1, .tokens = 16, .fetch_time = Seconds(0.017)}).ShouldFetch(1000));
}

// A client against a daemon whose answers are made up.
TEST(FetchEstimateTest, AMatchKnowsWhatTheReadsOfItsClientTook) {
  FakeDaemon daemon;
  daemon.blocks.match = [](auto&, const auto&, v1::MatchResponse& response) {
    response.set_blocks(2);
    response.set_fetch_bytes(10);
    v1::MatchRun* run = response.add_runs();
    run->set_count(2);
    run->set_level(v1::LEVEL_L1);
    return grpc::Status::OK;
  };
  daemon.blocks.get = [](auto&, const auto&, FakeBlocks::GetWriter& writer) {
    v1::GetResponse header;
    header.mutable_header()->set_size(5);
    header.mutable_header()->set_bytes_following(5);
    header.mutable_header()->set_level(v1::LEVEL_L1);
    writer.Write(header);
    v1::GetResponse data;
    data.mutable_data()->set_data("bytes");
    writer.Write(data);
    return grpc::Status::OK;
  };
  const auto client = ConnectTo(daemon);
  const std::string_view keys[] = {"k0", "k1"};
  ASSERT_OK_AND_ASSIGN(MatchResult match, client->blocks().Match({.space = "s", .keys = keys}));
  EXPECT_FALSE(match.fetch_time);
  std::vector<uint8_t> memory(5);
  const Destination to[] = {{.memory = memory}};
  const auto began = std::chrono::steady_clock::now();
  ASSERT_OK(client->blocks().Get({.space = "s", .keys = std::span(keys, 1), .destinations = to}));
  const Seconds spent = std::chrono::steady_clock::now() - began;
  ASSERT_OK_AND_ASSIGN(match, client->blocks().Match({.space = "s", .keys = keys}));
  ASSERT_TRUE(match.fetch_time);
  EXPECT_GT(match.fetch_time->count(), 0);
  // Twice the bytes of the read.
  EXPECT_LE(match.fetch_time->count(), 2 * spent.count());
}

}  // namespace
}  // namespace mnemo::client

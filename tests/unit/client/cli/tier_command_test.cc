#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/client/cli/run_mnemoctl.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::cli {
namespace {

using client::FakeDaemon;
using ::testing::HasSubstr;

TEST(TierCommandTest, StatsShowNoHitRatioBeforeThereAreLookUps) {
  FakeDaemon daemon;
  daemon.admin.levels = [](v1::ListLevelsResponse& response) {
    v1::LevelInfo& level = *response.add_levels();
    level.set_label("l1_ram");
    level.set_used_bytes(1 << 20);
    level.set_capacity_bytes(4 << 20);
    v1::LevelInfo& none = *response.add_levels();
    none.set_label("archive");
    none.set_lookups(4);
    none.set_hits(3);
    none.set_hit_ratio(0.75);
    none.set_p99_us(1500);
    return grpc::Status::OK;
  };
  const Ran ran = RunMnemoctl({"tier", "stats"}, {.server = daemon.target()});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out,
              ::testing::MatchesRegex("LEVEL .*\n"
                                      "l1_ram  *1 MiB  *4 MiB  25.0 %  *0  *-  *-  *-.*\n"
                                      "archive  *0 B  *0 B  *0.0 %  *0  *75.0 %  *-  *1.5 ms.*\n"));
}

TEST(TierCommandTest, InspectSaysWhereEachPartLiesAndWhy) {
  FakeDaemon daemon;
  v1::ExplainPlacementRequest seen;
  daemon.admin.explain = [&](const v1::ExplainPlacementRequest& request,
                             v1::ExplainPlacementResponse& response) {
    seen = request;
    v1::Placement& placement = *response.add_parts();
    placement.mutable_part()->set_key("\x01\x02");
    placement.mutable_part()->set_size(4096);
    placement.mutable_part()->set_stored_bytes(2048);
    placement.mutable_part()->set_level(v1::LEVEL_L2);
    placement.set_explanation("l2_ram, because it was promoted");
    placement.add_copies(v1::LEVEL_L2);
    placement.add_copies(v1::LEVEL_L3);
    v1::Signal& signal = *placement.add_signals();
    signal.set_name("hits");
    signal.set_value(2);
    return grpc::Status::OK;
  };
  const std::vector<std::string> arguments = {"tier",   "inspect", "0102",      "-s",  "llama",
                                              "--salt", "pepper",  "--stretch", "ff00"};
  const Ran ran = RunMnemoctl(arguments, {.server = daemon.target()});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_EQ(seen.key(), "\x01\x02");
  EXPECT_EQ(seen.space().name(), "llama");
  EXPECT_EQ(seen.salt(), "pepper");
  EXPECT_EQ(seen.stretch(), std::string("\xff\x00", 2));
  EXPECT_THAT(ran.out,
              HasSubstr("group 0 rank 0/0: 4 KiB as 2 KiB at l2_ram, because it was promoted;"));

  std::vector<std::string> as_json = arguments;
  as_json.insert(as_json.end(), {"-o", "json"});
  const auto json = nlohmann::json::parse(RunMnemoctl(as_json, {.server = daemon.target()}).out);
  EXPECT_EQ(json[0]["key"], "0102");
  EXPECT_EQ(json[0]["copies"], (std::vector<std::string>{"l2_ram", "l3_disk"}));
  EXPECT_EQ(json[0]["signals"]["hits"], 2.0);
}

TEST(TierCommandTest, KeyThatIsNoneNeverReachesTheDaemon) {
  const Ran ran =
      RunMnemoctl({"tier", "inspect", "zz", "-s", "llama", "--server", "unix:/nowhere"});
  EXPECT_EQ(ran.code, ExitCode::kUsage);
  EXPECT_THAT(ran.err, HasSubstr("key 'zz' is not hexadecimal; write text:zz"));
}

}  // namespace
}  // namespace mnemo::cli

#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/config/config.h"
#include "storage/base/units.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

absl::StatusOr<Config> Load(std::vector<std::string> pairs) {
  std::vector<std::string> arguments;
  for (const std::string& pair : pairs) arguments.insert(arguments.end(), {"--set", pair});
  MNEMO_ASSIGN_OR_RETURN(const CommandLine command_line, ParseCommandLine(arguments));
  MNEMO_ASSIGN_OR_RETURN(const LoadedConfig loaded,
                         LoadConfig(command_line, {}, [](const std::string&) {
                           return absl::StatusOr<HostFacts>(HostFacts{16 * kGiB, 100 * kGiB, 0});
                         }));
  return loaded.config;
}

TEST(OptionsTest, SettingsOfStreamsReachTheirRoom) {
  ASSERT_OK_AND_ASSIGN(
      const Config config,
      Load({"memory.total=2GiB", "streams.unix_socket=/t", "streams.socket_mode=0640",
            "streams.socket_owner=0:0", "streams.threads=5", "streams.max_connections=6",
            "streams.regions=7", "streams.region_bytes=8MiB", "streams.staging=9MiB",
            "streams.process_memory=false", "streams.busy_poll=7us",
            "streams.listen=127.0.0.1:0"}));
  EXPECT_EQ(MakeRpcServerOptions(config).stream_socket, "/t");
  ASSERT_OK_AND_ASSIGN(const StreamServerOptions streams, MakeStreamServerOptions(config));
  EXPECT_EQ(streams.unix_socket, "/t");
  EXPECT_EQ(streams.tcp_address, "127.0.0.1:0");
  EXPECT_EQ(streams.access.mode, 0640u);
  EXPECT_EQ(streams.access.owner, "0:0");
  EXPECT_EQ(streams.threads, 5u);
  EXPECT_EQ(streams.max_connections, 6u);
  EXPECT_EQ(streams.busy_poll, std::chrono::microseconds(7));
  const RegionLimits regions = MakeRegionLimits(config);
  EXPECT_EQ(regions.tenant_regions, 7u);
  EXPECT_EQ(regions.tenant_bytes, 8 * kMiB);
  EXPECT_EQ(regions.staging_bytes, 9 * kMiB);
  EXPECT_FALSE(regions.process_memory);
}

TEST(OptionsTest, StreamsThatCannotBeServedAreNamed) {
  ASSERT_OK_AND_ASSIGN(const Config mode, Load({"streams.socket_mode=rw"}));
  EXPECT_THAT(CheckOptions(mode), StatusIs(absl::StatusCode::kInvalidArgument,
                                           ::testing::HasSubstr("streams.socket_mode: 'rw'")));
  ASSERT_OK_AND_ASSIGN(const Config owner, Load({"streams.socket_owner=no-such-user"}));
  EXPECT_THAT(CheckOptions(owner), StatusIs(absl::StatusCode::kInvalidArgument,
                                            ::testing::HasSubstr("no user 'no-such-user'")));
  ASSERT_OK_AND_ASSIGN(const Config small, Load({"memory.total=160MiB"}));
  EXPECT_EQ(MakeRegionLimits(small).staging_bytes, 10 * kMiB);
}

// Each setting has a value of its own, so that none can stand in for another.
TEST(OptionsTest, EverySettingReachesItsRoom) {
  ASSERT_OK_AND_ASSIGN(const Config config, Load({"data_dir=/d",
                                                  "memory.total=2GiB",
                                                  "memory.l1=301MiB",
                                                  "memory.l2=202MiB",
                                                  "memory.disk_cache=103MiB",
                                                  "memory.inflight=104MiB",
                                                  "memory.connections=105MiB",
                                                  "memory.contexts=106MiB",
                                                  "disk.total=9GiB",
                                                  "disk.l3=4GiB",
                                                  "disk.contexts=900MiB",
                                                  "disk.archive=4GiB",
                                                  "disk.direct_reads=true",
                                                  "watermark.high=0.93",
                                                  "watermark.low=0.87",
                                                  "promote_hits=7",
                                                  "eviction.policy=lru",
                                                  "wal.interval=250ms",
                                                  "reservation.max=33s",
                                                  "lease.share=0.11",
                                                  "pin.share=0.22",
                                                  "gate.critical_threads=11",
                                                  "gate.default_threads=12",
                                                  "gate.batch_threads=13",
                                                  "gate.queue=14",
                                                  "gate.default_deadline=15s",
                                                  "grpc.max_streams=16",
                                                  "mover.threads=3",
                                                  "mover.duty=0.75",
                                                  "mover.idle_wait=2s",
                                                  "upkeep.bytes_per_second=21MiB",
                                                  "upkeep.steps_per_second=22",
                                                  "upkeep.idle_wait=3s",
                                                  "listen=127.0.0.1:17",
                                                  "unix_socket=/s",
                                                  "objective.l1.p99=1ms",
                                                  "objective.l2.p99=2ms",
                                                  "objective.l3.p99=3ms",
                                                  "objective.disk.p99=4ms",
                                                  "objective.l1.hit_ratio=0.1",
                                                  "objective.l2.hit_ratio=0.2",
                                                  "objective.l3.hit_ratio=0.3"}));
  const BlockStoreOptions store = MakeBlockStoreOptions(config);
  EXPECT_EQ(store.directory, "/d");
  EXPECT_EQ(store.l1_bytes, 301 * kMiB);
  EXPECT_EQ(store.l2_bytes, 202 * kMiB);
  EXPECT_EQ(store.disk_cache_bytes, 103 * kMiB);
  EXPECT_EQ(store.l3_bytes, 4 * kGiB);
  EXPECT_EQ(store.archive_bytes, 4 * kGiB);
  EXPECT_EQ(store.high_watermark, 0.93);
  EXPECT_EQ(store.low_watermark, 0.87);
  EXPECT_EQ(store.promote_hits, 7u);
  EXPECT_EQ(store.eviction_policy, "lru");
  EXPECT_EQ(store.wal_interval, std::chrono::milliseconds(250));
  EXPECT_TRUE(store.direct_reads);
  EXPECT_EQ(store.max_reservation, std::chrono::seconds(33));
  EXPECT_EQ(store.lease_share, 0.11);
  EXPECT_EQ(store.pin_share, 0.22);
  EXPECT_EQ(MakeContextStoreOptions(config).cache_bytes, 106 * kMiB / 16 * 15);
  EXPECT_EQ(MakeContextStoreOptions(config).columns_bytes, 106 * kMiB / 16);
  EXPECT_EQ(MakeContextEngineOptions(config).search_memory_bytes, 106 * kMiB / 8 * 7);

  const GateOptions gate = MakeGateOptions(config);
  EXPECT_EQ(gate.critical_threads, 11u);
  EXPECT_EQ(gate.default_threads, 12u);
  EXPECT_EQ(gate.batch_threads, 13u);
  EXPECT_EQ(gate.max_queued, 14u);
  EXPECT_EQ(gate.default_deadline, std::chrono::seconds(15));
  EXPECT_EQ(gate.inflight_bytes, 104 * kMiB);

  const RpcServerOptions rpc = MakeRpcServerOptions(config);
  EXPECT_THAT(rpc.addresses, ::testing::ElementsAre("127.0.0.1:17"));
  EXPECT_EQ(rpc.unix_socket, "/s");
  EXPECT_EQ(rpc.max_concurrent_streams, 16);
  EXPECT_EQ(rpc.receive_buffer_bytes, 105 * kMiB);

  const MoverPoolOptions mover = MakeMoverPoolOptions(config);
  EXPECT_EQ(mover.threads, 3u);
  EXPECT_EQ(mover.duty, 0.75);
  EXPECT_EQ(mover.idle_wait, std::chrono::seconds(2));

  const ContextUpkeepOptions upkeep = MakeContextUpkeepOptions(config);
  EXPECT_EQ(upkeep.l3_bytes, 900 * kMiB);
  EXPECT_EQ(upkeep.high_watermark, 0.93);
  EXPECT_EQ(upkeep.low_watermark, 0.87);
  EXPECT_EQ(upkeep.promote_hits, 7u);
  EXPECT_EQ(upkeep.bytes_per_second, 21 * kMiB);
  EXPECT_EQ(upkeep.steps_per_second, 22u);
  EXPECT_EQ(upkeep.idle_wait, std::chrono::seconds(3));

  const LevelObjectives objectives = MakeLevelObjectives(config);
  for (size_t i = 0; i < kLevelCount; ++i) {
    EXPECT_EQ(objectives[i].p99, std::chrono::milliseconds(i + 1));
  }
  EXPECT_EQ(objectives[0].hit_ratio, 0.1);
  EXPECT_EQ(objectives[1].hit_ratio, 0.2);
  EXPECT_EQ(objectives[2].hit_ratio, 0.3);
  EXPECT_EQ(objectives[3].hit_ratio, 0);
}

// What the table of settings allows, the rooms must not refuse.
TEST(OptionsTest, RoomsAcceptDefaultsAndEveryBoundOfTheTable) {
  ASSERT_OK_AND_ASSIGN(const Config defaults, Load({}));
  EXPECT_OK(CheckOptions(defaults));
  for (const Setting& setting : ConfigRegistry()) {
    // The other sizes would have to change with these.
    if (std::holds_alternative<SizeField>(setting.field)) continue;
    for (const std::string_view bound : {setting.minimum, setting.maximum}) {
      if (bound.empty()) continue;
      std::vector<std::string> pairs = {std::string(setting.key) + "=" + std::string(bound)};
      if (setting.key == "watermark.high") pairs.push_back("watermark.low=0.3");
      if (setting.key == "watermark.low") pairs.push_back("watermark.high=0.99");
      const absl::StatusOr<Config> config = Load(pairs);
      ASSERT_OK(config);
      EXPECT_OK(CheckOptions(*config)) << pairs[0];
    }
  }
  for (const std::string total : {"160MiB", "1GiB", "100GiB", "8TiB"}) {
    ASSERT_OK_AND_ASSIGN(const Config config, Load({"memory.total=" + total}));
    EXPECT_OK(CheckOptions(config)) << total;
  }
}

}  // namespace
}  // namespace mnemo

#include "server/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "storage/base/units.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<HostFacts> FixedHost(const std::string&) {
  return HostFacts{16 * kGiB, 100 * kGiB, 0};
}

class ConfigTest : public ::testing::Test {
 protected:
  absl::StatusOr<LoadedConfig> Load(const std::vector<std::string>& arguments,
                                    const Environment& environment = {}) {
    MNEMO_ASSIGN_OR_RETURN(const CommandLine command_line, ParseCommandLine(arguments));
    return LoadConfig(command_line, environment, FixedHost);
  }
  std::string WriteFile(const std::string& text) {
    const std::string path = directory_ / "mnemod.yaml";
    std::ofstream(path) << text;
    return path;
  }
  static ConfigEntry EntryOf(const LoadedConfig& loaded, const std::string& key) {
    for (const ConfigEntry& entry : loaded.entries) {
      if (entry.key == key) return entry;
    }
    ADD_FAILURE() << "no entry " << key;
    return {};
  }

  TempDir directory_;
};

TEST_F(ConfigTest, FlagGoesOverEnvironmentOverFileOverDefault) {
  const std::string path =
      WriteFile("wal:\n  interval: 200ms\npromote_hits: 3\nlog:\n  level: warning\n");
  ASSERT_OK_AND_ASSIGN(
      const LoadedConfig loaded,
      Load({"--config", path, "--log-level", "error"},
           {{"MNEMO_PROMOTE_HITS", "4"}, {"MNEMO_LOG_LEVEL", "debug"}, {"HOME", "/root"}}));
  EXPECT_EQ(loaded.config.log_level, "error");
  EXPECT_EQ(loaded.config.promote_hits, 4);
  EXPECT_EQ(loaded.config.wal_interval, std::chrono::milliseconds(200));
  EXPECT_EQ(loaded.config.eviction_policy, "s3fifo");
  EXPECT_EQ(EntryOf(loaded, "log.level").origin, "flag");
  EXPECT_EQ(EntryOf(loaded, "promote_hits").origin, "env:MNEMO_PROMOTE_HITS");
  EXPECT_EQ(EntryOf(loaded, "wal.interval").origin, "file:" + path);
  EXPECT_EQ(EntryOf(loaded, "eviction.policy").origin, "default");
  EXPECT_THAT(loaded.warnings, IsEmpty());
}

TEST_F(ConfigTest, SetGivesAnyKeyAndCountsAsAFlag) {
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded,
                       Load({"--set", "memory.l1=1GiB", "--set", "eviction.policy=lru"},
                            {{"MNEMO_EVICTION_POLICY", "s3fifo"}}));
  EXPECT_EQ(loaded.config.memory.l1, kGiB);
  EXPECT_EQ(loaded.config.eviction_policy, "lru");
  EXPECT_EQ(EntryOf(loaded, "memory.l1").origin, "flag");
  EXPECT_EQ(EntryOf(loaded, "memory.l1").value, "1GiB");
}

TEST_F(ConfigTest, TakesTheFlagsThatClientsStartTheDaemonWith) {
  ASSERT_OK_AND_ASSIGN(
      const LoadedConfig loaded,
      Load({"--data-dir", "/d", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
            "--probe-listen", "127.0.0.1:0", "--unix-socket", "/s", "--ready-file", "-"}));
  EXPECT_EQ(loaded.config.data_dir, "/d");
  EXPECT_EQ(loaded.config.listen, "127.0.0.1:0");
  EXPECT_EQ(loaded.config.metrics_listen, "127.0.0.1:0");
  EXPECT_EQ(loaded.config.probe_listen, "127.0.0.1:0");
  EXPECT_EQ(loaded.config.unix_socket, "/s");
  EXPECT_EQ(loaded.config.ready_file, "-");
}

TEST_F(ConfigTest, DefaultsAreThoseOfTheDesign) {
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded, Load({}));
  EXPECT_EQ(loaded.config.listen, "127.0.0.1:7070");
  EXPECT_EQ(loaded.config.metrics_listen, "127.0.0.1:7071");
  EXPECT_EQ(loaded.config.probe_listen, "127.0.0.1:7072");
  EXPECT_EQ(loaded.config.unix_socket, "/var/lib/mnemo/mnemod.sock");
  EXPECT_EQ(loaded.config.streams.unix_socket, "/var/lib/mnemo/streams.sock");
  EXPECT_EQ(loaded.config.memory.total, 8 * kGiB);
  EXPECT_EQ(loaded.config.disk.total, 80 * kGiB);
  EXPECT_EQ(loaded.config.wal_interval, std::chrono::milliseconds(100));
  EXPECT_FALSE(loaded.config.insecure);
}

TEST_F(ConfigTest, UnknownKeyIsRefusedNamingTheNearest) {
  const std::string path = WriteFile("log:\n  format: json\nmemory:\n  totl: 1GiB\n");
  EXPECT_THAT(Load({"--config", path}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       path + ":4: unknown key 'memory.totl'; did you mean 'memory.total'?"));
  EXPECT_THAT(Load({"--set", "wal.intervall=1s"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "--set: unknown key 'wal.intervall'; did you mean 'wal.interval'?"));
  EXPECT_THAT(
      Load({"--set", "entirely-different=1"}),
      StatusIs(absl::StatusCode::kInvalidArgument, "--set: unknown key 'entirely-different'"));
  EXPECT_THAT(Load({"--lisen", "127.0.0.1:1"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("did you mean --listen?")));
}

TEST_F(ConfigTest, BeyondLoopbackWithTlsAndClientCertificatesOnly) {
  const std::vector<std::string> tls = {"--listen",           "0.0.0.0:7070", "--set",
                                        "tls.certificate=/c", "--set",        "tls.key=/k"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), tls.begin(), tls.end());
    return Load(more);
  };
  ASSERT_OK_AND_ASSIGN(const LoadedConfig required, with({"--set", "tls.client_ca=/a"}));
  EXPECT_THAT(required.warnings, IsEmpty());
  EXPECT_FALSE(IsOpenToAnybody(required.config));
  for (const char* clients : {"optional", "off"}) {
    std::vector<std::string> more = {"--set", std::string("tls.clients=") + clients};
    if (std::string(clients) != "off") more.insert(more.end(), {"--set", "tls.client_ca=/a"});
    EXPECT_THAT(with(more), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loopback")))
        << clients;
    more.insert(more.end(), {"--insecure", "--set", "auth.required=true"});
    ASSERT_OK_AND_ASSIGN(const LoadedConfig open, with(more));
    EXPECT_THAT(open.warnings, Contains(HasSubstr("only credentials stand before it")));
    EXPECT_TRUE(IsOpenToAnybody(open.config));
  }
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loopback, Load({}));
  EXPECT_FALSE(IsOpenToAnybody(loopback.config));
  EXPECT_THAT(with({"--set", "tls.client_ca=/a", "--metrics-listen", "0.0.0.0:7071"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("metrics.listen")));
}

TEST_F(ConfigTest, TlsFilesComeTogether) {
  const std::vector<std::string> bad[] = {
      {"tls.certificate=/c"},
      {"tls.key=/k"},
      {"tls.client_ca=/a"},
      {"tls.certificate=/c", "tls.key=/k"},
      {"tls.certificate=/c", "tls.key=/k", "tls.clients=optional"},
      {"tls.certificate=/c", "tls.key=/k", "tls.clients=off", "tls.client_ca=/a"}};
  for (const std::vector<std::string>& settings : bad) {
    std::vector<std::string> arguments;
    for (const std::string& setting : settings)
      arguments.insert(arguments.end(), {"--set", setting});
    EXPECT_THAT(Load(arguments), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls.")))
        << settings.back();
  }
  EXPECT_OK(
      Load({"--set", "tls.certificate=/c", "--set", "tls.key=/k", "--set", "tls.clients=off"}));
}

TEST_F(ConfigTest, UnknownEnvironmentVariableIsAWarning) {
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded,
                       Load({}, {{"MNEMO_MEMROY_TOTAL", "1GiB"}, {"MNEMOD_BINARY", "x"}}));
  EXPECT_THAT(loaded.warnings,
              ElementsAre("MNEMO_MEMROY_TOTAL in the environment is not a setting; did you mean "
                          "MNEMO_MEMORY_TOTAL?"));
}

TEST_F(ConfigTest, ValueOutOfRangeNamesPlaceKeyAndRange) {
  const std::string path = WriteFile("promote_hits: 11\n");
  EXPECT_THAT(Load({"--config", path}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       path + ":1: promote_hits: '11' is not allowed; allowed: 1 to 10"));
  EXPECT_THAT(Load({}, {{"MNEMO_EVICTION_POLICY", "fifo"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "MNEMO_EVICTION_POLICY: eviction.policy: 'fifo' is not allowed; allowed: "
                       "s3fifo, sieve or lru"));
  EXPECT_THAT(Load({"--memory-total", "much"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--memory-total: memory.total: 'much' is not a size"),
                             HasSubstr("160MiB to 8TiB"))));
  EXPECT_THAT(Load({"--set", "watermark.high=nan"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not a number")));
  EXPECT_THAT(Load({"--set", "insecure=maybe"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("true or false")));
}

TEST_F(ConfigTest, WatermarksMustBeInOrder) {
  EXPECT_THAT(Load({"--set", "watermark.high=0.8"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "watermark.low: 0.9 is not below watermark.high: 0.8"));
}

TEST_F(ConfigTest, GivenTwiceOnTheCommandLineIsRefused) {
  EXPECT_THAT(
      Load({"--log-level", "info", "--set", "log.level=error"}),
      StatusIs(absl::StatusCode::kInvalidArgument, "log.level is given twice on the command line"));
}

TEST_F(ConfigTest, OnlyLoopbackWithoutInsecure) {
  EXPECT_THAT(Load({"--listen", "0.0.0.0:7070"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "listen: 0.0.0.0:7070 is not a loopback address; give tls.certificate, "
                       "tls.key and tls.client_ca, bind loopback behind a proxy with TLS, or say "
                       "--insecure to let everybody in who reaches the port"));
  EXPECT_THAT(Load({"--metrics-listen", "10.0.0.1:7071"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("metrics.listen: 10.0.0.1:7071 is not a loopback address")));
  EXPECT_THAT(Load({"--listen", "[::]:7070"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(Load({"--probe-listen", "0.0.0.0:7072"}));
  EXPECT_OK(Load({"--listen", "[::1]:7070"}));
  EXPECT_OK(Load({"--listen", "127.8.9.10:7070"}));
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded, Load({"--listen", "0.0.0.0:7070", "--insecure"}));
  EXPECT_THAT(loaded.warnings, Contains(HasSubstr("listen=0.0.0.0:7070 is open to everybody")));
}

TEST_F(ConfigTest, HostNamesAndBadPortsAreRefused) {
  for (const std::string text : {"example.org:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                 "::1:7070", "[::1:7070", "127.0.0.1:7070x", "", "off"}) {
    EXPECT_THAT(Load({"--set", "listen=" + text}), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
  EXPECT_THAT(Load({"--probe-listen", "[::1]:7072"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("an IPv4 address, or off")));
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded, Load({"--set", "metrics.listen=off"}));
  EXPECT_EQ(loaded.config.metrics_listen, "");
  EXPECT_EQ(EntryOf(loaded, "metrics.listen").value, "off");
}

TEST_F(ConfigTest, SocketPathLongerThanTheKernelTakesIsRefused) {
  EXPECT_THAT(Load({"--data-dir", "/" + std::string(100, 'd')}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 107")));
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded,
                       Load({"--data-dir", "/" + std::string(100, 'd'), "--unix-socket", "off"}));
  EXPECT_EQ(loaded.config.unix_socket, "");
  // Nobody asked for streams by name.
  EXPECT_EQ(loaded.config.streams.unix_socket, "");
  EXPECT_THAT(loaded.warnings, ::testing::ElementsAre(HasSubstr("no streams")));
}

TEST_F(ConfigTest, FileThatIsNotThereIsNamed) {
  EXPECT_THAT(Load({"--config", directory_ / "none.yaml"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.yaml: cannot be read")));
}

TEST_F(ConfigTest, EnvironmentMayNameTheFile) {
  const std::string path = WriteFile("promote_hits: 5\n");
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded, Load({}, {{"MNEMO_CONFIG", path}}));
  EXPECT_EQ(loaded.config.promote_hits, 5);
  EXPECT_THAT(loaded.warnings, IsEmpty());
}

TEST_F(ConfigTest, EveryValueReadsBackAsItIsWritten) {
  ASSERT_OK_AND_ASSIGN(
      const LoadedConfig loaded,
      Load({"--set", "memory.l1=1234567890", "--set", "wal.interval=1500us", "--set",
            "watermark.high=0.9512345678901234", "--insecure", "--set", "shutdown.drain=0"}));
  std::vector<std::string> arguments;
  for (const ConfigEntry& entry : loaded.entries) {
    if (entry.value.empty()) continue;
    arguments.insert(arguments.end(), {"--set", entry.key + "=" + entry.value});
  }
  ASSERT_OK_AND_ASSIGN(const LoadedConfig again, Load(arguments));
  ASSERT_EQ(again.entries.size(), loaded.entries.size());
  for (size_t i = 0; i < loaded.entries.size(); ++i) {
    EXPECT_EQ(again.entries[i].value, loaded.entries[i].value) << loaded.entries[i].key;
  }
  EXPECT_EQ(again.config.memory.l1, 1234567890u);
  EXPECT_EQ(again.config.high_watermark, 0.9512345678901234);
}

TEST_F(ConfigTest, SecretsAreNeverShown) {
  std::vector<Setting> registry = ConfigRegistry();
  for (Setting& setting : registry) setting.secret = setting.key == "ready_file";
  ASSERT_OK_AND_ASSIGN(const CommandLine command_line,
                       ParseCommandLine({"--ready-file", "hunter2"}, registry));
  ASSERT_OK_AND_ASSIGN(const LoadedConfig loaded,
                       LoadConfig(command_line, {}, FixedHost, registry));
  EXPECT_EQ(loaded.config.ready_file, "hunter2");
  EXPECT_EQ(EntryOf(loaded, "ready_file").value, "********");
}

}  // namespace
}  // namespace mnemo

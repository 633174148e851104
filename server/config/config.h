// The daemon's configuration, and the only reader of flags, environment and
// files.
//
// A value comes from the first of: flag, environment (MNEMO_*), file, default.
// Each keeps its origin. What a key means, its range and its default stand in
// one table: server/config/registry.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config/command_line.h"
#include "server/config/registry.h"
#include "storage/base/clock.h"

namespace mnemo {

// Size not given: derived from the machine.
inline constexpr uint64_t kAutoSize = UINT64_MAX;

// All settings. A plain value; after LoadConfig no field is kAutoSize.
struct Config {
  std::string data_dir;
  std::string ready_file;  // empty: none; "-": standard output

  std::string listen;
  std::string unix_socket;     // empty: none
  std::string metrics_listen;  // empty: none
  std::string probe_listen;    // empty: none
  bool insecure = false;

  struct Streams {
    std::string unix_socket;  // empty: none on this host
    std::string listen;       // empty: none over TCP
    std::string socket_mode;  // octal
    std::string socket_owner;
    int64_t threads = 0;
    int64_t max_connections = 0;
    Nanos busy_poll{0};
    int64_t regions = 0;
    uint64_t region_bytes = 0;
    uint64_t staging = 0;
    bool process_memory = false;
  } streams;

  struct Auth {
    bool required = false;
    std::string file;  // empty: none
  } auth;
  struct Tls {
    std::string certificate;  // empty: no TLS
    std::string key;
    std::string client_ca;
    std::string clients;  // "off", "optional", "required"
  } tls;

  struct Memory {
    uint64_t total = kAutoSize;
    uint64_t l1 = kAutoSize;
    uint64_t l2 = kAutoSize;
    uint64_t disk_cache = kAutoSize;
    uint64_t inflight = kAutoSize;
    uint64_t connections = kAutoSize;
    uint64_t directory = kAutoSize;
    uint64_t contexts = kAutoSize;
  } memory;

  struct Disk {
    uint64_t total = kAutoSize;
    uint64_t l3 = kAutoSize;
    uint64_t archive = kAutoSize;
    uint64_t contexts = kAutoSize;
    bool direct_reads = false;
  } disk;

  Nanos wal_interval{0};
  double high_watermark = 0;
  double low_watermark = 0;
  int64_t promote_hits = 0;
  std::string eviction_policy;
  Nanos max_reservation{0};
  double lease_share = 0;
  double pin_share = 0;

  struct Mover {
    int64_t threads = 0;
    double duty = 0;
    Nanos idle_wait{0};
  } mover;
  struct Prefetch {
    int64_t threads = 0;
    double share = 0;
    int64_t follow = 0;
  } prefetch;
  struct Upkeep {
    uint64_t bytes_per_second = 0;
    int64_t steps_per_second = 0;
    Nanos idle_wait{0};
  } upkeep;
  double index_duty = 0;
  int64_t grpc_max_streams = 0;
  struct Gate {
    int64_t critical_threads = 0;
    int64_t default_threads = 0;
    int64_t batch_threads = 0;
    int64_t queue = 0;  // of each class
    Nanos default_deadline{0};
  } gate;

  struct Objective {
    Nanos p99{0};
    double hit_ratio = 0;  // 0: none
  };
  Objective l1_objective;
  Objective l2_objective;
  Objective l3_objective;
  Objective disk_objective;

  std::string log_format;
  std::string log_level;
  Nanos shutdown_drain{0};
};

// One setting as it is in force.
struct ConfigEntry {
  std::string key;
  std::string value;   // as it would be written; secrets masked
  std::string origin;  // "default", "file:PATH", "env:NAME" or "flag"
  std::string description;
};

struct LoadedConfig {
  Config config;
  std::vector<ConfigEntry> entries;   // by key
  std::vector<std::string> warnings;  // to be logged once
};

// What sizes are derived from.
struct HostFacts {
  uint64_t memory_bytes = 0;     // the smaller of RAM and the cgroup's limit
  uint64_t disk_free_bytes = 0;  // on the file system of the data directory
  uint64_t disk_used_bytes = 0;  // by the data directory itself
};
using HostProbe = std::function<absl::StatusOr<HostFacts>(const std::string& data_dir)>;
using Environment = std::map<std::string, std::string>;

// The process's environment.
Environment ReadEnvironment();

// Whether somebody beyond this host may reach data without having shown a client
// certificate: what `insecure` has allowed.
bool IsOpenToAnybody(const Config& config);

// Puts together what the command line, the environment and the file say,
// derives the sizes left open, and checks everything. Errors:
// kInvalidArgument, naming the key, its origin and the allowed range; an
// unknown key with the nearest known one; kNotFound (no such file).
absl::StatusOr<LoadedConfig> LoadConfig(const CommandLine& command_line,
                                        const Environment& environment, const HostProbe& probe,
                                        const std::vector<Setting>& registry = ConfigRegistry());

}  // namespace mnemo

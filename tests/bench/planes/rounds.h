// Two servers in turn: what a client of either does, and the rates of both. Of the benches
// of data planes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mnemo/client.h"
#include "tests/bench/common/redis_client.h"

namespace mnemo::bench {

struct Size {
  const char* name;
  const char* plane;  // what its bars are called
  uint64_t bytes;
  uint32_t calls;  // of each client in a round
};

// User and system time of a process, and of this one.
double CpuSecondsOf(int pid);
double OwnCpuSeconds();

// One client of one server: its connection, and memory for one value each way. Not
// thread-safe.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual std::span<uint8_t> out() = 0;  // puts come from here
  virtual std::span<uint8_t> in() = 0;   // gets go here
  // `checked`: a digest of the payload is made first.
  virtual absl::Status Put(const std::string& key, uint64_t size, bool checked) = 0;
  // `digest`, where it is not null: what the payload must have.
  virtual absl::Status Get(const std::string& key, uint64_t size, const client::Digest* digest) = 0;
};

// What a client without checks of its own does.
absl::Status MakeDigest(std::span<const uint8_t> payload);
absl::Status CheckDigest(std::span<const uint8_t> payload, const client::Digest* expected);

class RedisPeer final : public Peer {
 public:
  RedisPeer(std::unique_ptr<RedisClient> redis, uint64_t size)
      : redis_(std::move(redis)), out_(size), in_(size) {}
  std::span<uint8_t> out() override { return out_; }
  std::span<uint8_t> in() override { return in_; }
  absl::Status Put(const std::string& key, uint64_t size, bool checked) override;
  absl::Status Get(const std::string& key, uint64_t size, const client::Digest* digest) override;

 private:
  const std::unique_ptr<RedisClient> redis_;
  std::vector<uint8_t> out_, in_;
};

// The daemon's space of these benches, a group of bytes. Not thread-safe.
class BenchSpace {
 public:
  static absl::StatusOr<BenchSpace> Open(const client::ClientOptions& options);
  // Empty again, as Redis is after FLUSHALL.
  absl::Status Clear();
  absl::Status Delete();

 private:
  explicit BenchSpace(std::unique_ptr<client::Client> client) : client_(std::move(client)) {}
  std::unique_ptr<client::Client> client_;
};

// Makes a peer with memory for values of so many bytes.
using MakePeer = std::function<absl::StatusOr<std::unique_ptr<Peer>>(uint64_t size)>;

struct Rates {
  double put_gbps = 0;
  double get_gbps = 0;
  double cpu_per_gb = 0;  // of server and client
};

// Median, smallest and largest.
void Report(nlohmann::ordered_json& out, const std::string& name, std::vector<double> all);

struct Contender {
  std::string name;  // of its figures: "bulk" gives "bulk_get_gbps_2MiB_c1"
  int pid = 0;       // of its server; 0: this process
  MakePeer make;
};

struct Comparison {
  Contender ours;
  Contender theirs;
  std::string ratio = "ratio";  // "bulk_get_ratio_2MiB"
  int rounds = 5;               // measured; one more goes before
  // Before each turn of either: what earlier turns left must not be displaced by this one.
  std::function<absl::Status()> clear = [] { return absl::OkStatus(); };
};

// The median ratios of one client, where payload is checked.
struct Ratios {
  double put = 0;
  double get = 0;
};

// Rounds of both in turn, the first to go changing; a ratio is of the two rates of one
// round. Every client puts its blocks, then gets them back.
absl::StatusOr<Ratios> Compare(const Comparison& comparison, const Size& size, int clients,
                               bool checked, nlohmann::ordered_json& out);

}  // namespace mnemo::bench

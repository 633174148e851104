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
#include "storage/base/status_macros.h"
#include "tests/bench/common/cache_clients.h"

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

// Of RedisClient and MemcachedClient.
template <typename Cache>
class CachePeer final : public Peer {
 public:
  CachePeer(Cache cache, uint64_t size) : cache_(std::move(cache)), out_(size), in_(size) {}
  std::span<uint8_t> out() override { return out_; }
  std::span<uint8_t> in() override { return in_; }
  absl::Status Put(const std::string& key, uint64_t size, bool checked) override {
    if (checked) MNEMO_RETURN_IF_ERROR(MakeDigest(out().first(size)));
    return cache_.Set(key, out().first(size));
  }
  absl::Status Get(const std::string& key, uint64_t size, const client::Digest* digest) override {
    MNEMO_RETURN_IF_ERROR(cache_.Get(key, in().first(size)));
    return CheckDigest(in().first(size), digest);
  }

 private:
  Cache cache_;
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
  std::function<absl::Status()> clear;  // its server keeps nothing of earlier turns
};

// What ours is held against.
struct Rival {
  Contender contender;
  std::string ratio;  // "ratio" gives "bulk_get_ratio_2MiB"
  std::string cpu;  // "over_redis" gives "bulk_cpu_seconds_per_gb_over_redis_2MiB_c1"; empty: none
};

// A cache at the other end of what `connect` makes.
template <typename Cache>
Rival CacheRival(std::string name, int pid, std::string ratio, std::string cpu,
                 std::function<absl::StatusOr<LineSocket>()> connect) {
  return {.contender = {.name = std::move(name),
                        .pid = pid,
                        .make = [connect](uint64_t size) -> absl::StatusOr<std::unique_ptr<Peer>> {
                          MNEMO_ASSIGN_OR_RETURN(LineSocket socket, connect());
                          return std::make_unique<CachePeer<Cache>>(Cache(std::move(socket)), size);
                        },
                        .clear = [connect]() -> absl::Status {
                          MNEMO_ASSIGN_OR_RETURN(LineSocket socket, connect());
                          return Cache(std::move(socket)).FlushAll();
                        }},
          .ratio = std::move(ratio),
          .cpu = std::move(cpu)};
}

struct Comparison {
  Contender ours;
  std::vector<Rival> rivals;
  int rounds = 5;  // measured; one more goes before
};

// The median ratios to the first rival.
struct Ratios {
  double put = 0;
  double get = 0;
};

// Rounds of all in turn, the first to go changing; a ratio is of two rates of one round.
// Every client puts its blocks, then gets them back.
absl::StatusOr<Ratios> Compare(const Comparison& comparison, const Size& size, int clients,
                               bool checked, nlohmann::ordered_json& out);

}  // namespace mnemo::bench

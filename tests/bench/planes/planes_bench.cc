// The planes of one host beside Redis on its UNIX socket, rounds of both interleaved,
// one request outstanding a client, L1 behind them.
//
// The same work on both sides: a digest of the payload before every put and after
// every get, compared with the one put. `_unchecked` ratios are without it.
//
//   bench_planes MNEMO_TARGET STREAM_SOCKET MNEMOD_PID REDIS_SOCKET REDIS_PID [ROUNDS]
//
// Prints one flat JSON object.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tests/bench/common/bench_support.h"
#include "tests/bench/planes/rounds.h"

namespace mnemo::bench {
namespace {

constexpr Size kSizes[] = {
    {"4KiB", "fast", 4 * kKiB, 2000},          {"128KiB", "fast", 128 * kKiB, 500},
    {"512KiB", "registered", 512 * kKiB, 128}, {"2MiB", "registered", 2 * kMiB, 64},
    {"8MiB", "registered", 8 * kMiB, 16},      {"32MiB", "registered", 32 * kMiB, 4}};
constexpr int kClientCounts[] = {1, 4};

struct Arguments {
  std::string target;
  std::string streams;
  int mnemod_pid = 0;
  std::string redis;
  int redis_pid = 0;
  std::string memcached;
  int memcached_pid = 0;
  int rounds = 5;
};

class MnemoPeer final : public Peer {
 public:
  MnemoPeer(std::unique_ptr<client::Client> mnemo, std::unique_ptr<client::SharedMemory> memory)
      : mnemo_(std::move(mnemo)), memory_(std::move(memory)) {}
  std::span<uint8_t> out() override { return memory_->bytes().first(memory_->bytes().size() / 2); }
  std::span<uint8_t> in() override { return memory_->bytes().subspan(memory_->bytes().size() / 2); }
  absl::Status Put(const std::string& key, uint64_t size, bool checked) override {
    client::PutRequest request{.space = "bench-planes", .send_digests = checked};
    request.parts = {{.key = key, .data = out().first(size)}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo_->blocks().Put(request, kFast));
    if (result.parts[0].outcome == client::PutOutcome::kStored) return absl::OkStatus();
    return absl::InternalError("not stored: " + result.parts[0].status.ToString());
  }
  absl::Status Get(const std::string& key, uint64_t size, const client::Digest* digest) override {
    const std::string_view view = key;
    const client::Destination to{.memory = in().first(size)};
    MNEMO_ASSIGN_OR_RETURN(
        const auto result,
        mnemo_->blocks().Get(
            {.space = "bench-planes", .keys = {&view, 1}, .destinations = {&to, 1}}, kFast));
    MNEMO_RETURN_IF_ERROR(result.parts[0].status);
    if (result.parts[0].level != client::Level::kL1) {
      return absl::InternalError("not read from L1");
    }
    return CheckDigest(in().first(size), digest);
  }
  client::Client& client() { return *mnemo_; }

  static inline const client::CallOptions kFast{.plane = client::PlaneChoice::kFast};

 private:
  const std::unique_ptr<client::Client> mnemo_;
  const std::unique_ptr<client::SharedMemory> memory_;
};

absl::StatusOr<std::unique_ptr<MnemoPeer>> MakeMnemo(const Arguments& arguments, uint64_t size) {
  MNEMO_ASSIGN_OR_RETURN(auto mnemo, client::Client::Connect({.target = arguments.target,
                                                              .stream_socket = arguments.streams}));
  MNEMO_ASSIGN_OR_RETURN(auto memory, mnemo->AllocateShared(2 * std::max(size, 64 * kKiB)));
  return std::make_unique<MnemoPeer>(std::move(mnemo), std::move(memory));
}

// Beside Redis and memcached on their UNIX sockets.
Comparison BesideCaches(const Arguments& arguments, BenchSpace& space, const Size& size) {
  const auto over = [](const std::string& path) {
    return [path] { return LineSocket::ConnectUnix(path); };
  };
  return {
      .ours = {.name = size.plane,
               .pid = arguments.mnemod_pid,
               .make = [&](uint64_t bytes) -> absl::StatusOr<std::unique_ptr<Peer>> {
                 return MakeMnemo(arguments, bytes);
               },
               .clear = [&] { return space.Clear(); }},
      .rivals = {CacheRival<RedisClient>("redis", arguments.redis_pid, "ratio", "over_redis",
                                         over(arguments.redis)),
                 CacheRival<MemcachedClient>("memcached", arguments.memcached_pid, "over_memcached",
                                             "over_memcached", over(arguments.memcached))},
      .rounds = arguments.rounds};
}

// Two ends of a UNIX socket, and a thread that sends every byte back.
class PingPong {
 public:
  PingPong() {
    MNEMO_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_) == 0);
    thread_ = std::thread([this] {
      char byte = 0;
      while (::read(ends_[1], &byte, 1) == 1 && ::write(ends_[1], &byte, 1) == 1) {
      }
    });
  }
  ~PingPong() {
    ::shutdown(ends_[0], SHUT_RDWR);
    thread_.join();
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void Once() {
    char byte = 0;
    MNEMO_CHECK(::write(ends_[0], &byte, 1) == 1 && ::read(ends_[0], &byte, 1) == 1);
  }

 private:
  int ends_[2] = {-1, -1};
  std::thread thread_;
};

template <typename Work>
double Micros(const Work& work) {
  const auto start = BenchClock::now();
  work();
  return Seconds(BenchClock::now() - start) * 1e6;
}

// Latencies of the fast lane beside their floor, one after the other.
absl::Status Latencies(const Arguments& arguments, nlohmann::ordered_json& out) {
  constexpr int kCalls = 5000;
  constexpr uint64_t kBytes = 128 * kKiB;
  MNEMO_ASSIGN_OR_RETURN(const auto peer, MakeMnemo(arguments, kBytes));
  MNEMO_RETURN_IF_ERROR(peer->Put("latency", kBytes, true));
  std::vector<std::string> names;
  std::vector<std::string_view> keys;
  for (int i = 0; i < 256; ++i) names.push_back(fmt::format("{:032}", i));
  for (const std::string& name : names) {
    MNEMO_RETURN_IF_ERROR(peer->Put(name, 4096, true));
    keys.push_back(name);
  }
  PingPong ping_pong;
  std::vector<uint8_t> from(kBytes, 1), to(kBytes);
  std::vector<double> gets, floors, pings, matches;
  absl::Status status;
  for (int i = 0; i < kCalls && status.ok(); ++i) {
    floors.push_back(Micros([&] {
      ping_pong.Once();
      std::memcpy(to.data(), from.data(), kBytes);
    }));
    gets.push_back(Micros([&] { status = peer->Get("latency", kBytes, nullptr); }));
    if (!status.ok()) break;
    pings.push_back(Micros([&] { ping_pong.Once(); }));
    matches.push_back(Micros([&] {
      const auto match =
          peer->client().blocks().Match({.space = "bench-planes", .keys = keys}, MnemoPeer::kFast);
      status = match.status();
      if (status.ok() && match->blocks != 256) status = absl::InternalError("not all are there");
    }));
  }
  MNEMO_RETURN_IF_ERROR(status);
  out["raw_unix_pingpong_us"] = Percentile(pings, 0.5);
  out["fast_get_128KiB_p50_us"] = Percentile(gets, 0.5);
  out["fast_get_128KiB_p99_us"] = Percentile(gets, 0.99);
  out["floor_128KiB_p99_us"] = Percentile(floors, 0.99);
  out["fast_get_128KiB_p99_over_floor"] = Percentile(gets, 0.99) / Percentile(floors, 0.99);
  out["fast_match_256_us"] = Percentile(matches, 0.5);
  out["fast_match_256_over_pingpong"] = Percentile(matches, 0.5) / Percentile(pings, 0.5);
  return absl::OkStatus();
}

// 64 parts of 512 KiB in one call beside a memcpy of as much.
absl::Status Batch(const Arguments& arguments, nlohmann::ordered_json& out) {
  constexpr uint64_t kPart = 512 * kKiB;
  constexpr size_t kParts = 64;
  MNEMO_ASSIGN_OR_RETURN(const auto peer, MakeMnemo(arguments, kPart * kParts));
  std::vector<std::string> names;
  std::vector<std::string_view> keys;
  std::vector<client::Destination> to;
  for (size_t i = 0; i < kParts; ++i) names.push_back(fmt::format("batch-{}", i));
  for (size_t i = 0; i < kParts; ++i) {
    MNEMO_RETURN_IF_ERROR(peer->Put(names[i], kPart, true));
    keys.push_back(names[i]);
    to.push_back({.memory = peer->in().subspan(i * kPart, kPart)});
  }
  std::vector<uint8_t> from(kPart * kParts, 1), copy(kPart * kParts);
  std::vector<double> rates, copies, shares;
  absl::Status status;
  for (int round = 0; round <= 4 * arguments.rounds; ++round) {
    const double copied = Micros([&] { std::memcpy(copy.data(), from.data(), from.size()); });
    const double got = Micros([&] {
      const auto result = peer->client().blocks().Get(
          {.space = "bench-planes", .keys = keys, .destinations = to}, MnemoPeer::kFast);
      status = result.status();
      if (!status.ok()) return;
      for (const client::PartRead& part : result->parts) status.Update(part.status);
    });
    MNEMO_RETURN_IF_ERROR(status);
    if (round == 0) continue;
    const double bytes = static_cast<double>(from.size());
    copies.push_back(bytes / copied / 1e3);
    rates.push_back(bytes / got / 1e3);
    shares.push_back(copied / got);
  }
  Report(out, "memcpy_gbps", copies);
  Report(out, "registered_batch_get_gbps", rates);
  Report(out, "registered_batch_get_of_memcpy", shares);
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::ordered_json> Run(const Arguments& arguments) {
  MNEMO_ASSIGN_OR_RETURN(BenchSpace space, BenchSpace::Open({.target = arguments.target}));
  nlohmann::ordered_json out = {{"rounds", arguments.rounds}, {"level", "L1"}};
  MNEMO_RETURN_IF_ERROR(Latencies(arguments, out));
  MNEMO_RETURN_IF_ERROR(space.Clear());
  MNEMO_RETURN_IF_ERROR(Batch(arguments, out));
  for (const Size& size : kSizes) {
    for (const int clients : kClientCounts) {
      for (const bool checked : {true, false}) {
        if (!checked && clients != 1) continue;
        std::cerr << fmt::format("{} with {} clients\n", size.name, clients);
        MNEMO_RETURN_IF_ERROR(
            Compare(BesideCaches(arguments, space, size), size, clients, checked, out).status());
      }
    }
  }
  MNEMO_RETURN_IF_ERROR(space.Delete());
  const double before = CpuSecondsOf(arguments.mnemod_pid);
  constexpr std::chrono::seconds kIdle(10);
  std::this_thread::sleep_for(kIdle);
  out["idle_cpu_share"] = (CpuSecondsOf(arguments.mnemod_pid) - before) / Seconds(kIdle);
  return out;
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  if (argc < 8) {
    std::cerr << "usage: bench_planes MNEMO_TARGET STREAM_SOCKET MNEMOD_PID REDIS_SOCKET "
                 "REDIS_PID MEMCACHED_SOCKET MEMCACHED_PID [ROUNDS]\n";
    return 2;
  }
  const auto out = mnemo::bench::Run({.target = argv[1],
                                      .streams = argv[2],
                                      .mnemod_pid = std::stoi(argv[3]),
                                      .redis = argv[4],
                                      .redis_pid = std::stoi(argv[5]),
                                      .memcached = argv[6],
                                      .memcached_pid = std::stoi(argv[7]),
                                      .rounds = argc > 8 ? std::stoi(argv[8]) : 5});
  if (!out.ok()) {
    std::cerr << "bench_planes: " << out.status().message() << '\n';
    return 1;
  }
  std::cout << out->dump(2) << '\n';
  return 0;
}

// The inline plane beside Redis: GET and PUT over loopback TCP, one request
// outstanding a client, rounds of both servers interleaved.
//
// The same work on both sides: a digest of the payload before every put, one
// copy from the socket into the caller's memory and a digest of it after every
// get, compared with the one put.
//
//   bench_inline MNEMO_TARGET REDIS_HOST REDIS_PORT [ROUNDS]
//
// Prints one flat JSON object.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tests/bench/common/cache_clients.h"

namespace mnemo::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Size {
  const char* name;
  uint64_t bytes;
  uint32_t calls;  // of each client in a round
};
constexpr Size kSizes[] = {{"128KiB", 128 * kKiB, 128},
                           {"512KiB", 512 * kKiB, 64},
                           {"2MiB", 2 * kMiB, 32},
                           {"8MiB", 8 * kMiB, 8}};
constexpr int kClientCounts[] = {1, 4};

// One client of one server, with its own connection and memory.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual absl::Status Put(const std::string& key, std::span<const uint8_t> value) = 0;
  // Verified against `digest`.
  virtual absl::Status Get(const std::string& key, std::span<uint8_t> into,
                           const client::Digest& digest) = 0;
};

absl::Status Compare(const client::Digest& got, const client::Digest& want) {
  return got == want ? absl::OkStatus() : absl::DataLossError("other bytes came back");
}

class RedisPeer final : public Peer {
 public:
  explicit RedisPeer(RedisClient redis) : redis_(std::move(redis)) {}
  absl::Status Put(const std::string& key, std::span<const uint8_t> value) override {
    // Redis takes no digest; it is computed all the same, as mnemo's client does.
    if (client::DigestOf(value) == client::Digest{}) return absl::InternalError("no digest");
    return redis_.Set(key, value);
  }
  absl::Status Get(const std::string& key, std::span<uint8_t> into,
                   const client::Digest& digest) override {
    MNEMO_RETURN_IF_ERROR(redis_.Get(key, into));
    return Compare(client::DigestOf(into), digest);
  }

 private:
  RedisClient redis_;
};

class MnemoPeer final : public Peer {
 public:
  MnemoPeer(std::unique_ptr<client::Client> mnemo, uint64_t space)
      : mnemo_(std::move(mnemo)), space_(space) {}
  absl::Status Put(const std::string& key, std::span<const uint8_t> value) override {
    client::PutRequest request{.space = space_, .borrow_payload = true};
    request.parts = {{.key = key, .data = value}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo_->blocks().Put(request));
    if (result.parts[0].outcome == client::PutOutcome::kStored) return absl::OkStatus();
    return absl::InternalError("not stored: " + result.parts[0].status.ToString());
  }
  absl::Status Get(const std::string& key, std::span<uint8_t> into,
                   const client::Digest& digest) override {
    const std::string_view view = key;
    const client::Destination destination{.memory = into};
    client::GetRequest request{.space = space_};
    request.keys = {&view, 1};
    request.destinations = {&destination, 1};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo_->blocks().Get(request));
    MNEMO_RETURN_IF_ERROR(result.parts[0].status);
    return Compare(client::DigestOf(into), digest);
  }

 private:
  const std::unique_ptr<client::Client> mnemo_;
  const uint64_t space_;
};

using MakePeer = std::function<absl::StatusOr<std::unique_ptr<Peer>>()>;

struct Rates {
  double put_gbps = 0;
  double get_gbps = 0;
};

// Runs `body(client)` on a thread each and returns the seconds until all ended.
absl::StatusOr<double> Timed(int clients, const std::function<absl::Status(int)>& body) {
  std::vector<absl::Status> status(static_cast<size_t>(clients));
  const auto start = SteadyClock::now();
  std::vector<std::thread> threads;
  for (int c = 0; c < clients; ++c) {
    threads.emplace_back([&, c] { status[static_cast<size_t>(c)] = body(c); });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(SteadyClock::now() - start).count();
  for (const absl::Status& s : status) MNEMO_RETURN_IF_ERROR(s);
  return seconds;
}

// One round of one server: every client puts its blocks, then gets them back.
absl::StatusOr<Rates> Round(const MakePeer& make, const std::string& name, const Size& size,
                            int clients, std::span<const uint8_t> payload) {
  std::vector<std::unique_ptr<Peer>> peers;
  for (int c = 0; c < clients; ++c) {
    MNEMO_ASSIGN_OR_RETURN(auto peer, make());
    peers.push_back(std::move(peer));
  }
  const client::Digest digest = client::DigestOf(payload);
  std::vector<std::vector<uint8_t>> memory(static_cast<size_t>(clients),
                                           std::vector<uint8_t>(size.bytes));
  const auto key = [&](int c, uint32_t i) { return fmt::format("{}-{}-{}", name, c, i); };
  MNEMO_ASSIGN_OR_RETURN(const double put, Timed(clients, [&](int c) -> absl::Status {
                           for (uint32_t i = 0; i < size.calls; ++i) {
                             Peer& peer = *peers[static_cast<size_t>(c)];
                             MNEMO_RETURN_IF_ERROR(peer.Put(key(c, i), payload));
                           }
                           return absl::OkStatus();
                         }));
  MNEMO_ASSIGN_OR_RETURN(const double get, Timed(clients, [&](int c) -> absl::Status {
                           const auto at = static_cast<size_t>(c);
                           for (uint32_t i = 0; i < size.calls; ++i) {
                             MNEMO_RETURN_IF_ERROR(peers[at]->Get(key(c, i), memory[at], digest));
                           }
                           return absl::OkStatus();
                         }));
  const double bytes = static_cast<double>(size.bytes) * size.calls * static_cast<double>(clients);
  return Rates{.put_gbps = bytes / put / 1e9, .get_gbps = bytes / get / 1e9};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Report(nlohmann::ordered_json& out, const std::string& name, const std::vector<double>& all) {
  out[name] = Median(all);
  out[name + "_min"] = *std::min_element(all.begin(), all.end());
  out[name + "_max"] = *std::max_element(all.begin(), all.end());
}

// Rounds of both servers in turn, the first to go changing; the ratio is of the
// two rates of one round.
absl::Status Compare(const MakePeer& mnemo, const MakePeer& redis, const Size& size, int clients,
                     int rounds, nlohmann::ordered_json& out) {
  std::vector<uint8_t> payload(size.bytes);
  std::mt19937_64 random(size.bytes);
  for (size_t i = 0; i + 8 <= payload.size(); i += 8) {
    const uint64_t word = random();
    std::copy_n(reinterpret_cast<const uint8_t*>(&word), 8, payload.data() + i);
  }
  std::vector<double> get[2], put[2], get_ratio, put_ratio;
  for (int round = 0; round <= rounds; ++round) {
    Rates rates[2];
    for (int turn = 0; turn < 2; ++turn) {
      const int server = (round + turn) % 2;
      const std::string name = fmt::format("{}-{}-{}", size.name, clients, round);
      MNEMO_ASSIGN_OR_RETURN(rates[server],
                             Round(server == 0 ? mnemo : redis, name, size, clients, payload));
    }
    if (round == 0) continue;  // both warm up
    for (int server = 0; server < 2; ++server) {
      get[server].push_back(rates[server].get_gbps);
      put[server].push_back(rates[server].put_gbps);
    }
    get_ratio.push_back(rates[0].get_gbps / rates[1].get_gbps);
    put_ratio.push_back(rates[0].put_gbps / rates[1].put_gbps);
  }
  const std::string suffix = fmt::format("_{}_c{}", size.name, clients);
  Report(out, "get_gbps" + suffix, get[0]);
  Report(out, "put_gbps" + suffix, put[0]);
  Report(out, "redis_get_gbps" + suffix, get[1]);
  Report(out, "redis_put_gbps" + suffix, put[1]);
  Report(out, "get_ratio" + suffix, get_ratio);
  Report(out, "put_ratio" + suffix, put_ratio);
  if (clients == 1) {
    out[fmt::format("get_ratio_{}", size.name)] = Median(get_ratio);
    out[fmt::format("put_ratio_{}", size.name)] = Median(put_ratio);
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::ordered_json> Run(const std::string& target, const std::string& host,
                                           int port, int rounds) {
  MNEMO_ASSIGN_OR_RETURN(const auto client, client::Client::Connect({.target = target}));
  client::Space space{.name = "bench-inline", .tokens_per_block = 256};
  space.groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}};
  nlohmann::ordered_json out = {{"inline_rounds", rounds}};
  for (const Size& size : kSizes) {
    for (const int clients : kClientCounts) {
      std::cerr << fmt::format("{} with {} clients\n", size.name, clients);
      MNEMO_ASSIGN_OR_RETURN(const auto opened, client->spaces().Open(space));
      const MakePeer mnemo = [&]() -> absl::StatusOr<std::unique_ptr<Peer>> {
        MNEMO_ASSIGN_OR_RETURN(auto own, client::Client::Connect({.target = target}));
        MNEMO_RETURN_IF_ERROR(own->WaitUntilConnected(std::chrono::seconds(5)));
        return std::make_unique<MnemoPeer>(std::move(own), opened.space.id);
      };
      const MakePeer redis = [&]() -> absl::StatusOr<std::unique_ptr<Peer>> {
        MNEMO_ASSIGN_OR_RETURN(LineSocket own, LineSocket::Connect(host, port));
        return std::make_unique<RedisPeer>(RedisClient(std::move(own)));
      };
      MNEMO_RETURN_IF_ERROR(Compare(mnemo, redis, size, clients, rounds, out));
      MNEMO_RETURN_IF_ERROR(client->spaces().Delete(opened.space.id).status());
    }
  }
  return out;
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: bench_inline MNEMO_TARGET REDIS_HOST REDIS_PORT [ROUNDS]\n";
    return 2;
  }
  const int rounds = argc > 4 ? std::stoi(argv[4]) : 5;
  const auto out = mnemo::bench::Run(argv[1], argv[2], std::stoi(argv[3]), rounds);
  if (!out.ok()) {
    std::cerr << "bench_inline: " << out.status().message() << '\n';
    return 1;
  }
  std::cout << out->dump(2) << '\n';
  return 0;
}

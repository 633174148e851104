// The daemon itself, through the C++ client.
//
//   bench_store_daemon FOLDER > daemon.json
//
// How long a match of 4,096 keys takes beyond a call that asks nearly nothing,
// and the daemon's resident memory over memory.total while puts and gets of
// 4 KiB to 40 MiB go through all its levels.
#include <atomic>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "mnemo/client.h"
#include "tests/bench/common/bench_support.h"
#include "tests/support/daemon/daemon_process.h"

namespace mnemo::client {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMemoryTotal = 1024 * kMiB;
constexpr uint32_t kChain = 4096;
constexpr int kChains = 8;
constexpr uint64_t kChurnBytes = 4 * kMemoryTotal;

Space OpaqueSpace(const std::string& name) {
  Space space;
  space.name = name;
  space.tokens_per_block = 16;
  space.fingerprint.weights_digest = "bench";
  Group group;
  group.name = "all";
  group.kind = GroupKind::kOpaque;
  group.layers = 1;
  space.groups = {group};
  return space;
}

std::string KeyOf(uint64_t chain, uint64_t depth) {
  std::mt19937_64 random(chain << 32 | depth);
  std::string key(36, '\0');
  for (size_t i = 0; i < 32; i += 8) {
    const uint64_t word = random();
    std::memcpy(key.data() + i, &word, sizeof(word));
  }
  return key;
}

std::string Noise(uint64_t seed, size_t size) {
  std::mt19937_64 random(seed);
  std::string bytes(size + 8, '\0');
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, sizeof(word));
  }
  bytes.resize(size);
  return bytes;
}

Bytes View(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

double MatchMs(Client& client, const std::vector<std::string>& keys, uint32_t expected) {
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  const MatchRequest request{.space = std::string("match"), .keys = views};
  const auto began = BenchClock::now();
  const MatchResult result = Require(client.blocks().Match(request), "match");
  const double milliseconds = Seconds(BenchClock::now() - began) * 1e3;
  if (result.blocks != expected) {
    std::fprintf(stderr, "matched %u of %u blocks\n", result.blocks, expected);
    std::exit(1);
  }
  return milliseconds;
}

void Match(Client& client, nlohmann::ordered_json& out) {
  Require(client.spaces().Open(OpaqueSpace("match")), "open");
  const std::string payload = Noise(1, 4096);
  std::vector<std::vector<std::string>> chains(kChains);
  for (uint64_t chain = 0; chain < kChains; ++chain) {
    for (uint64_t depth = 0; depth < kChain; ++depth) chains[chain].push_back(KeyOf(chain, depth));
    for (uint64_t first = 0; first < kChain; first += 1024) {
      PutRequest put{.space = std::string("match")};
      for (uint64_t depth = first; depth < first + 1024; ++depth) {
        PartPut part;
        part.key = chains[chain][depth];
        part.data = View(payload);
        part.depth = static_cast<uint32_t>(depth);
        if (depth > 0) part.parent = chains[chain][depth - 1];
        put.parts.push_back(part);
      }
      for (const PartStored& stored : Require(client.blocks().Put(put), "put").parts) {
        Require(stored.status, "part");
      }
    }
  }
  std::vector<double> whole;
  std::vector<double> empty;
  const std::vector<std::string> absent = {KeyOf(999, 0)};
  for (int round = 0; round < 200; ++round) {
    whole.push_back(MatchMs(client, chains[static_cast<size_t>(round) % kChains], kChain));
    empty.push_back(MatchMs(client, absent, 0));
  }
  const double whole_p50 = Percentile(whole, 0.5);
  const double empty_p50 = Percentile(empty, 0.5);
  out["match_4096_call_p50_ms"] = whole_p50;
  out["match_4096_call_p99_ms"] = Percentile(whole, 0.99);
  out["empty_call_p50_ms"] = empty_p50;
  out["match_4096_p50_ms"] = whole_p50 - empty_p50;
}

uint64_t SomeSize(std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(12, std::log2(40.0 * kMiB));
  return static_cast<uint64_t>(std::exp2(exponent(random)));
}

// One client's share of the load. Counts what was put.
void Load(Client& client, uint64_t worker, std::atomic<uint64_t>& bytes,
          std::atomic<uint64_t>& refused) {
  std::mt19937_64 random(worker);
  std::string payload = Noise(worker, 40 * kMiB);
  std::vector<uint8_t> received(40 * kMiB);
  std::vector<std::string> keys;
  while (bytes < kChurnBytes) {
    const uint64_t size = SomeSize(random);
    const std::string key = KeyOf(1000 + worker, keys.size());
    const uint64_t mark = random();
    std::memcpy(payload.data(), &mark, sizeof(mark));
    PartPut part;
    part.key = key;
    part.data = View(payload).first(size);
    PutRequest put{.space = std::string("churn")};
    put.durability = keys.size() % 2 == 0 ? Durability::kCache : Durability::kInterval;
    put.parts = {part};
    const absl::StatusOr<PutResult> result = client.blocks().Put(put);
    if (!result.ok() || result->parts[0].outcome != PutOutcome::kStored) {
      ++refused;
    }
    bytes += size;
    keys.push_back(key);
    const std::string_view wanted = keys[random() % keys.size()];
    const Destination into{.memory = {received.data(), received.size()}};
    const GetRequest get{
        .space = std::string("churn"), .keys = {&wanted, 1}, .destinations = {&into, 1}};
    client.blocks().Get(get).status().IgnoreError();
  }
}

void ResidentUnderLoad(const DaemonProcess& daemon, nlohmann::ordered_json& out) {
  auto client = Require(Client::Connect({.target = daemon.unix_socket()}), "connect");
  Require(client->spaces().Open(OpaqueSpace("churn")), "open");
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> refused{0};
  std::vector<std::thread> workers;
  for (uint64_t i = 0; i < 2; ++i) {
    workers.emplace_back([&, i] { Load(*client, i, bytes, refused); });
  }
  for (std::thread& worker : workers) worker.join();
  const uint64_t peak = daemon.peak_resident_bytes();
  out["rss_over_budget"] = static_cast<double>(peak) / static_cast<double>(kMemoryTotal);
  out["rss_peak_mib"] = static_cast<double>(peak) / kMiB;
  out["rss_puts_refused"] = refused.load();
}

}  // namespace
}  // namespace mnemo::client

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_store_daemon FOLDER\n");
    return 2;
  }
  using mnemo::Require;
  const std::string folder = std::string(argv[1]) + "/daemon";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string memory =
      "--memory-total=" + std::to_string(mnemo::client::kMemoryTotal / mnemo::client::kMiB) + "MiB";
  nlohmann::ordered_json out;
  {
    const auto daemon = Require(
        mnemo::DaemonProcess::Start(folder, {memory, "--disk-total=4GiB", "--log-level=warning"}),
        "start");
    auto client =
        Require(mnemo::client::Client::Connect({.target = daemon->unix_socket()}), "connect");
    mnemo::client::Match(*client, out);
    mnemo::client::ResidentUnderLoad(*daemon, out);
  }
  std::filesystem::remove_all(folder);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

// Whether a match's advice was right, at what rate each level gives, and what a prefetch
// ahead of a read saves.
//
// Usage: bench_advice MNEMOD FOLDER ROUNDS. Prints one flat JSON. Starts daemons of its own
// in FOLDER, which is empty, with small levels, so that chains lie at all four.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mnemo/client.h"
#include "tests/bench/common/bench_support.h"
#include "tests/support/daemon/daemon_process.h"

namespace mnemo {
namespace {

using client::CallOptions;
using client::Level;
using client::PlaneChoice;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kSizes[] = {4 * kKiB, 128 * kKiB, 512 * kKiB, 2048 * kKiB};
constexpr uint32_t kBlocks = 8;  // of a chain
constexpr uint32_t kTokensPerBlock = 16;
constexpr uint32_t kGenerations = 36;  // one chain of each size, 21 MiB
// Of one in five the reads teach; the others are judged.
constexpr uint32_t kTeaches = 5;
// Prefill rates in tokens a second, from 500 on, each half as much again.
constexpr double kLowestRate = 500;
constexpr int kRates = 20;
constexpr double kBand = 0.2;  // around equal cost
constexpr uint32_t kLongChain = 64;
constexpr uint64_t kLongBytes = 512 * kKiB;

const char* NameOf(Level level) {
  constexpr const char* kNames[] = {"none", "l1", "l2", "l3", "disk"};
  return kNames[static_cast<int>(level)];
}

struct Node {
  std::unique_ptr<DaemonProcess> daemon;
  std::unique_ptr<client::Client> client;
  std::unique_ptr<client::SharedMemory> memory;
};

Node Start(const std::string& folder, const std::vector<std::string>& settings) {
  Node node;
  node.daemon = Require(DaemonProcess::Start(folder, settings), "daemon");
  node.client = Require(client::Client::Connect({.target = node.daemon->tcp()}), "connect");
  node.memory = Require(node.client->AllocateShared(kLongChain * kLongBytes), "memory");
  client::Space space{.name = "bench", .tokens_per_block = kTokensPerBlock};
  space.groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}};
  Require(node.client->spaces().Open(space).status(), "space");
  return node;
}

std::vector<std::string> ChainKeys(const std::string& name, uint32_t blocks) {
  std::vector<std::string> keys;
  for (uint32_t i = 0; i < blocks; ++i) keys.push_back(name + "/" + std::to_string(i));
  return keys;
}

// Block by block, and again while the movers make room.
void PutChain(Node& node, const std::vector<std::string>& keys, uint64_t size,
              client::MutableBytes payload) {
  for (uint32_t i = 0; i < keys.size(); ++i) {
    const client::PartPut part{
        .key = keys[i],
        .data = payload.subspan(i * size, size),
        .depth = i,
        .parent = i == 0 ? std::string_view() : std::string_view(keys[i - 1])};
    absl::Status status = absl::ResourceExhaustedError("not tried");
    for (int tries = 0; absl::IsResourceExhausted(status) && tries < 2000; ++tries) {
      const auto put =
          Require(node.client->blocks().Put(
                      {.space = "bench", .parts = {part}, .durability = client::Durability::kSync}),
                  "put");
      status = put.parts[0].status;
    }
    Require(status, "put");
  }
}

// Bytes that nothing compresses.
void FillRandom(client::MutableBytes bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
}

double Fetch(Node& node, const std::vector<std::string_view>& keys, uint64_t size,
             const CallOptions& options) {
  std::vector<client::Destination> to;
  for (size_t i = 0; i < keys.size(); ++i) {
    to.push_back({.memory = node.memory->bytes().subspan(i * size, size)});
  }
  const auto began = BenchClock::now();
  const auto got = Require(
      node.client->blocks().Get({.space = "bench", .keys = keys, .destinations = to}, options),
      "get");
  const double took = Seconds(BenchClock::now() - began);
  for (const client::PartRead& part : got.parts) Require(part.status, "get");
  return took;
}

struct Score {
  uint64_t right = 0, cases = 0, in_band = 0, unknown = 0;
  double share() const {
    return cases == 0 ? 1 : static_cast<double>(right) / static_cast<double>(cases);
  }
};

// Of the chains that were judged, by where they lay and the size of a block.
using Rates = std::map<std::pair<Level, uint64_t>, std::vector<double>>;

// One match, its advice at every rate, and what the fetch took.
void Judge(Node& node, const std::vector<std::string>& names, uint64_t size,
           const CallOptions& options, bool teach, std::map<Level, Score>& scores, Rates& rates) {
  const std::vector<std::string_view> keys = client::ViewsOf(names);
  const auto match =
      Require(node.client->blocks().Match({.space = "bench", .keys = keys}, options), "match");
  // Chains on their way between levels are left out.
  if (match.blocks != keys.size() || match.runs.size() != 1) return;
  const double took = Fetch(node, keys, size, options);
  if (teach) return;
  Score& score = scores[match.runs[0].level];
  rates[{match.runs[0].level, size}].push_back(static_cast<double>(size * keys.size()) / took /
                                               1e9);
  if (!match.fetch_time) ++score.unknown;
  double rate = kLowestRate;
  for (int i = 0; i < kRates; ++i, rate *= 1.5) {
    const double cost = static_cast<double>(match.tokens) / rate;
    if (std::abs(cost - took) <= kBand * took) {
      ++score.in_band;
      continue;
    }
    ++score.cases;
    score.right += match.ShouldFetch(rate) == (took < cost);
  }
}

void MeasureAdvice(const std::string& folder, nlohmann::json& out) {
  Node node =
      Start(folder, {"--memory-total=640MiB", "--disk-total=4GiB", "--set=memory.l1=96MiB",
                     "--set=memory.l2=96MiB", "--set=disk.l3=320MiB", "--set=disk.archive=2GiB",
                     "--set=promote_hits=10", "--set=prefetch.follow=0"});
  std::vector<uint8_t> payload(kBlocks * kSizes[3]);
  for (uint32_t generation = 0; generation < kGenerations; ++generation) {
    FillRandom(payload, generation);
    for (const uint64_t size : kSizes) {
      PutChain(node, ChainKeys(std::to_string(generation) + "/" + std::to_string(size), kBlocks),
               size, payload);
    }
  }
  Score all;
  for (const auto& [plane, choice] :
       {std::pair("inline", PlaneChoice::kInline), std::pair("fast", PlaneChoice::kFast)}) {
    const CallOptions options{.plane = choice};
    std::map<Level, Score> scores;
    Rates rates;
    for (const bool teach : {true, false}) {
      for (uint32_t generation = 0; generation < kGenerations; ++generation) {
        if ((generation % kTeaches == 0) != teach) continue;
        for (const uint64_t size : kSizes) {
          Judge(node, ChainKeys(std::to_string(generation) + "/" + std::to_string(size), kBlocks),
                size, options, teach, scores, rates);
        }
      }
    }
    for (const auto& [level, score] : scores) {
      const std::string name = std::string("_") + plane + "_" + NameOf(level);
      out["advice_right" + name] = score.share();
      out["advice_cases" + name] = score.cases;
      out["advice_unknown" + name] = score.unknown;
      all.right += score.right;
      all.cases += score.cases;
      all.in_band += score.in_band;
    }
    // GB/s of a get of a whole chain; what lies on disk is in the page cache, mostly.
    for (auto& [at, samples] : rates) {
      const std::string name = std::string("level_get_gbps_") + plane + "_" + NameOf(at.first) +
                               "_8x" + std::to_string(at.second / kKiB) + "KiB";
      out[name] = Percentile(samples, 0.5);
      out[name + "_min"] = samples.front();
      out[name + "_max"] = samples.back();
    }
  }
  out["advice_right"] = all.share();
  out["advice_cases"] = all.cases;
  out["advice_in_band"] = all.in_band;
}

size_t InRam(Node& node, const std::vector<std::string_view>& keys) {
  const auto parts =
      Require(node.client->blocks().Describe({.space = "bench", .keys = keys}), "describe");
  size_t count = 0;
  for (const client::PartInfo& part : parts) count += part.level == Level::kL1 ? 1 : 0;
  return count;
}

enum class Way { kAsItLies, kFollowed, kAsked };

// A chain that lies on L3 after a start, block by block by the fast lane; in milliseconds.
double ReadAfterStart(const std::string& folder, const std::vector<std::string>& names, Way way) {
  Node node = Start(
      folder, {"--memory-total=512MiB", "--disk-total=4GiB",
               way == Way::kFollowed ? "--set=prefetch.follow=16" : "--set=prefetch.follow=0"});
  const std::vector<std::string_view> keys = client::ViewsOf(names);
  const CallOptions options{.plane = PlaneChoice::kFast};
  // The stream, and the pages of its memory.
  FillRandom(node.memory->bytes(), 1);
  Require(node.client->blocks().Match({.space = "bench", .keys = keys}, options).status(), "match");
  if (way == Way::kAsked) {
    Require(node.client->blocks().Prefetch({.space = "bench", .keys = keys}, options).status(),
            "prefetch");
    while (InRam(node, keys) < keys.size()) std::this_thread::yield();
  }
  double took = 0;
  for (const std::string_view key : keys) took += Fetch(node, {key}, kLongBytes, options);
  return took * 1000;
}

void MeasurePrefetch(const std::string& folder, int rounds, nlohmann::json& out) {
  const std::vector<std::string> names = ChainKeys("long", kLongChain);
  {
    Node node = Start(folder, {"--memory-total=512MiB", "--disk-total=4GiB"});
    std::vector<uint8_t> payload(kLongChain * kLongBytes);
    FillRandom(payload, 7);
    PutChain(node, names, kLongBytes, payload);
    if (node.daemon->Stop() != 0) std::exit(1);
  }
  std::map<Way, std::vector<double>> took;
  for (int round = 0; round < rounds; ++round) {
    for (const Way way : {Way::kAsItLies, Way::kFollowed, Way::kAsked}) {
      took[way].push_back(ReadAfterStart(folder, names, way));
    }
  }
  for (const auto& [way, name] :
       {std::pair(Way::kAsItLies, "l3"), std::pair(Way::kFollowed, "followed"),
        std::pair(Way::kAsked, "prefetched")}) {
    std::vector<double>& samples = took[way];
    out[std::string("chain64_512KiB_ms_") + name] = Percentile(samples, 0.5);
    out[std::string("chain64_512KiB_ms_") + name + "_min"] = samples.front();
    out[std::string("chain64_512KiB_ms_") + name + "_max"] = samples.back();
  }
}

int Run(const std::string& mnemod, const std::string& folder, int rounds) {
  ::setenv("MNEMOD_BINARY", mnemod.c_str(), 1);
  nlohmann::json out;
  MeasureAdvice(folder + "/advice", out);
  MeasurePrefetch(folder + "/prefetch", rounds, out);
  std::cout << out.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: bench_advice MNEMOD FOLDER ROUNDS\n";
    return 2;
  }
  return mnemo::Run(argv[1], argv[2], std::atoi(argv[3]));
}

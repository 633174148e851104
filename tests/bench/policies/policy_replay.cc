// Replays real request traces through the eviction policies, beside the optimum.
//
//   bench_policies [FOLDER] > policies.json
//
// FOLDER holds conversation_trace.jsonl and synthetic_trace.jsonl (see its
// README); the default is ../shared/traces. A trace that is not there is
// skipped with a message.
//
// A request names the chain of its prompt's blocks. What it finds is the longest
// prefix of them that is resident; the rest is put. The hit ratio is blocks
// found over blocks asked for. The cache holds 1, 5 and 20 % of the trace's
// distinct blocks. The optimum is Belady's: the block whose next use is
// farthest leaves, or does not come in; among equals the deeper one, so that it
// keeps prefixes too.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "storage/policy/eviction_policy.h"

namespace mnemo {
namespace {

using Request = std::vector<uint32_t>;  // block numbers, root first

struct Trace {
  std::vector<Request> requests;
  uint64_t blocks = 0;  // distinct
  uint64_t accesses = 0;
};

std::vector<Request> ReadRequests(std::ifstream& file) {
  std::vector<Request> requests;
  std::string line;
  while (std::getline(file, line)) {
    if (!line.empty()) {
      requests.push_back(nlohmann::json::parse(line).at("hash_ids").get<Request>());
    }
  }
  return requests;
}

Trace Load(const std::filesystem::path& path) {
  std::ifstream file(path);
  Trace trace{.requests = ReadRequests(file)};
  for (const Request& request : trace.requests) {
    trace.accesses += request.size();
    for (const uint32_t block : request) {
      trace.blocks = std::max<uint64_t>(trace.blocks, uint64_t{block} + 1);
    }
  }
  return trace;
}

// As the directory gives them: shard and slot.
EntryId IdOf(uint32_t block) { return (block % 256) << 24 | block / 256; }
uint32_t BlockOf(EntryId id) { return (id & 0xffffff) * 256 + (id >> 24); }
// Mixed as a real hash is: a plain product spreads neighbours too well.
uint64_t FingerprintOf(uint32_t block) {
  uint64_t x = (block + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

double Replay(const Trace& trace, PolicyKind kind, uint64_t capacity) {
  constexpr uint64_t kBlockBytes = 1 << 20;
  EntryLinkTable links;
  const auto policy = MakeEvictionPolicy(kind, Level::kL1, links);
  std::vector<bool> resident(trace.blocks);
  uint64_t hits = 0;
  for (const Request& request : trace.requests) {
    size_t matched = 0;
    while (matched < request.size() && resident[request[matched]]) ++matched;
    hits += matched;
    for (size_t i = matched; i-- > 0;) policy->Touch(IdOf(request[i]));
    for (size_t i = matched; i < request.size(); ++i) {
      const uint32_t block = request[i];
      if (resident[block]) {
        // Present behind a gap: the put finds it there, which is a use.
        policy->Touch(IdOf(block));
        continue;
      }
      while (policy->entries() >= capacity) {
        const auto victim = policy->Victim();
        if (!victim) break;
        resident[BlockOf(*victim)] = false;
        policy->Remove(*victim, /*evicted=*/true, FingerprintOf(BlockOf(*victim)));
      }
      policy->Insert(IdOf(block), i == 0 ? kNoEntry : IdOf(request[i - 1]), kBlockBytes,
                     FingerprintOf(block));
      resident[block] = true;
    }
  }
  return static_cast<double>(hits) / static_cast<double>(trace.accesses);
}

// When each access's block is used next; a time is a request and, within it,
// less for deeper blocks, so that among equals the deeper leaves first.
std::vector<std::vector<uint64_t>> NextUses(const Trace& trace) {
  constexpr uint64_t kNever = ~uint64_t{0} >> 1;
  std::vector<uint64_t> next(trace.blocks, kNever);
  std::vector<std::vector<uint64_t>> uses(trace.requests.size());
  for (size_t r = trace.requests.size(); r-- > 0;) {
    const Request& request = trace.requests[r];
    uses[r].resize(request.size());
    for (size_t i = 0; i < request.size(); ++i) uses[r][i] = next[request[i]];
    for (size_t i = 0; i < request.size(); ++i) next[request[i]] = (uint64_t{r} << 20) + i;
  }
  return uses;
}

double ReplayOptimum(const Trace& trace, uint64_t capacity) {
  const auto next_uses = NextUses(trace);
  std::set<std::pair<uint64_t, uint32_t>> by_next_use;
  std::vector<uint64_t> resident_until(trace.blocks, 0);  // next use; 0: absent
  uint64_t hits = 0;
  for (size_t r = 0; r < trace.requests.size(); ++r) {
    const Request& request = trace.requests[r];
    bool prefix = true;
    for (size_t i = 0; i < request.size(); ++i) {
      const uint32_t block = request[i];
      uint64_t& until = resident_until[block];
      if (until != 0) {
        by_next_use.erase({until, block});
        hits += prefix;
      } else {
        prefix = false;
      }
      until = next_uses[r][i];
      by_next_use.emplace(until, block);
      if (by_next_use.size() > capacity) {
        const auto farthest = std::prev(by_next_use.end());
        resident_until[farthest->second] = 0;
        by_next_use.erase(farthest);
      }
    }
  }
  return static_cast<double>(hits) / static_cast<double>(trace.accesses);
}

void ReplayAll(const std::string& name, const Trace& trace, nlohmann::ordered_json& out) {
  out["blocks_" + name] = trace.blocks;
  out["accesses_" + name] = trace.accesses;
  for (const uint64_t percent : {1, 5, 20}) {
    const uint64_t capacity = trace.blocks * percent / 100;
    const std::string size = std::to_string(percent) + "pct";
    for (const PolicyKind kind : {PolicyKind::kLru, PolicyKind::kSieve, PolicyKind::kS3Fifo}) {
      const std::string key =
          "hit_ratio_" + name + "_" + std::string(PolicyName(kind)) + "_" + size;
      out[key] = Replay(trace, kind, capacity);
    }
    out["hit_ratio_" + name + "_optimum_" + size] = ReplayOptimum(trace, capacity);
  }
  // No policy is better than never evicting.
  out["hit_ratio_" + name + "_unbounded"] = ReplayOptimum(trace, trace.blocks);
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "../shared/traces";
  nlohmann::ordered_json out;
  for (const std::string name : {"conversation", "synthetic"}) {
    const std::filesystem::path path = folder / (name + "_trace.jsonl");
    if (!std::filesystem::exists(path)) {
      std::fprintf(stderr, "%s is not there: its hit ratios are skipped\n", path.c_str());
      continue;
    }
    mnemo::ReplayAll(name, mnemo::Load(path), out);
  }
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

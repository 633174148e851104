// What a million parts cost in the directory, and how long looking them up takes.
//
//   bench_directory [PARTS] > directory.json
//
// Bytes are the allocator's own (jemalloc's stats.allocated: size classes,
// rounding included), for the directory and the links of the eviction policies
// together, with chained 36-byte keys, every part in RAM and on disk. Times are
// the median and the extremes of 50 rounds over random stretches of the chain.
#include <jemalloc/jemalloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/block/directory.h"
#include "storage/policy/eviction_queues.h"

namespace mnemo {
namespace {

using SteadyClock = std::chrono::steady_clock;

uint64_t AllocatedBytes() {
  uint64_t epoch = 1;
  size_t size = sizeof(epoch);
  MNEMO_CHECK(mallctl("epoch", &epoch, &size, &epoch, size) == 0);
  size_t allocated = 0;
  size = sizeof(allocated);
  MNEMO_CHECK(mallctl("stats.allocated", &allocated, &size, nullptr, 0) == 0);
  return allocated;
}

BlockKey KeyNumber(uint64_t n) {
  // As a hash chain gives them: 32 bytes without order, and a group's index.
  std::string bytes(36, '\0');
  for (size_t i = 0; i < 32; i += 8) {
    n = (n + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    n ^= n >> 31;
    StoreLittle(bytes.data() + i, n);
  }
  StoreLittle<uint32_t>(bytes.data() + 32, 1);
  return *BlockKey::From(bytes);
}

PartKey PartNumber(uint64_t n) {
  PartKey part{.scope = {1, 1}, .key = KeyNumber(n)};
  part.shard = ShardOf(part.scope, part.salt, part.key.view());
  return part;
}

void Fill(Directory& directory, EvictionQueues& queues, uint64_t parts) {
  for (uint64_t i = 0; i < parts; ++i) {
    NewPart part{.key = PartNumber(i),
                 .payload_bytes = 4096,
                 .depth = static_cast<uint32_t>(i),
                 .tokens = 16};
    if (i > 0) {
      part.parent = KeyNumber(i - 1);
      part.parent_shard = ShardOf(part.key.scope, part.key.salt, part.parent.view());
    }
    const auto reserved = directory.Reserve(part, MonoTime::max());
    MNEMO_CHECK(reserved.ok());
    const auto ref = directory.Publish(reserved->ref, {i, i}, RamPlace{.locator = {i + 1}},
                                       DiskPlace{.instance = Durability::kCache});
    MNEMO_CHECK(ref.ok());
    const EntryId parent = directory.Get(ref->id)->parent;
    queues.Insert(Level::kL1, ref->id, parent, 4096, part.key.key.Hash());
    queues.Insert(Level::kL3, ref->id, parent, 4096, part.key.key.Hash());
  }
}

struct Spread {
  double median = 0;
  double least = 0;
  double most = 0;
};

template <typename Work>
Spread Milliseconds(const Work& work) {
  constexpr size_t kRounds = 50;
  std::vector<double> times;
  for (size_t i = 0; i < kRounds; ++i) times.push_back(work());
  std::sort(times.begin(), times.end());
  return {times[kRounds / 2], times.front(), times.back()};
}

// `keys` of the chain, from a random block on, looked up and touched.
Spread TimeLookup(Directory& directory, EvictionQueues& queues, uint64_t parts, size_t keys,
                  bool touch) {
  std::mt19937_64 random(keys);
  std::vector<PartKey> chain(keys);
  std::vector<PartHit> hits(keys);
  return Milliseconds([&] {
    const uint64_t first = random() % (parts - keys);
    for (size_t i = 0; i < keys; ++i) chain[i] = PartNumber(first + i);
    const auto start = SteadyClock::now();
    directory.Lookup(chain, hits);
    if (touch) {
      std::vector<EntryId> ids;
      ids.reserve(keys);
      for (const PartHit& hit : hits) ids.push_back(hit.ref.id);
      directory.Touch(ids);
      queues.Touch(ids);
    }
    const std::chrono::duration<double, std::milli> taken = SteadyClock::now() - start;
    for (const PartHit& hit : hits) MNEMO_CHECK(hit.state == EntryState::kPresent);
    return taken.count();
  });
}

void Report(nlohmann::ordered_json& out, const std::string& name, const Spread& spread) {
  out[name + "_p50_ms"] = spread.median;
  out[name + "_min_ms"] = spread.least;
  out[name + "_max_ms"] = spread.most;
}

int Run(uint64_t parts) {
  const SystemClock clock;
  const uint64_t before = AllocatedBytes();
  Directory directory({}, clock);
  EvictionQueues queues(
      {PolicyKind::kS3Fifo, PolicyKind::kS3Fifo, PolicyKind::kS3Fifo, PolicyKind::kS3Fifo});
  const auto start = SteadyClock::now();
  Fill(directory, queues, parts);
  const std::chrono::duration<double> filled = SteadyClock::now() - start;

  nlohmann::ordered_json out;
  const auto per_part = [&](uint64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(parts);
  };
  out["parts"] = parts;
  out["directory_bytes_per_part"] = per_part(AllocatedBytes() - before);
  out["directory_counted_bytes_per_part"] =
      per_part(directory.MemoryBytes() + queues.MemoryBytes());
  out["directory_links_bytes_per_part"] = per_part(queues.MemoryBytes());
  out["directory_fill_us_per_part"] = filled.count() * 1e6 / static_cast<double>(parts);
  Report(out, "directory_lookup_4096", TimeLookup(directory, queues, parts, 4096, false));
  Report(out, "directory_match_4096", TimeLookup(directory, queues, parts, 4096, true));
  Report(out, "directory_match_65536", TimeLookup(directory, queues, parts, 65'536, true));
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  return mnemo::Run(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000);
}

// How long a start takes after kill -9, with a million parts on disk.
//
//   bench_store_restart FOLDER [PARTS] > restart.json
//
// Chained blocks of 4 KiB with 36-byte keys, class interval. A child writes
// them and is killed; a fresh process opens the folder: metadata is read,
// verified, and made into a directory again.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/bench/common/bench_support.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 4 * kKiB;
constexpr uint32_t kChain = 4096;

BlockStoreOptions Options(const std::string& directory) {
  BlockStoreOptions options;
  options.directory = directory;
  options.l1_bytes = 512 * kMiB;
  options.l2_bytes = 0;
  options.disk_cache_bytes = 512 * kMiB;
  options.l3_bytes = 16 * kGiB;
  options.archive_bytes = 0;
  return options;
}

void Put(BlockStore& store, uint64_t number) {
  Require(PutChained(store, number / kChain, static_cast<uint32_t>(number % kChain), kPartBytes,
                     Durability::kInterval),
          "put");
}

[[noreturn]] void FillUntilKilled(const std::string& directory, uint64_t parts, int pipe) {
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  SystemClock clock;
  const std::unique_ptr<BlockStore> store =
      Require(BlockStore::Open(Options(directory), *files, clock, nullptr), "open");
  std::thread mover([&store] {
    while (true) {
      if (!store->MoveStep()) store->WaitForWork(std::chrono::milliseconds(200));
    }
  });
  const auto began = BenchClock::now();
  for (uint64_t i = 0; i < parts; ++i) Put(*store, i);
  // Acknowledged, and past the interval after which they are synced.
  Require(store->Flush({}), "flush");
  const double seconds = Seconds(BenchClock::now() - began);
  if (write(pipe, &seconds, sizeof(seconds)) != sizeof(seconds)) std::exit(1);
  mover.join();  // never ends: the parent kills us
  std::exit(1);
}

void MeasureStart(const std::string& directory, uint64_t parts, nlohmann::ordered_json& out) {
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  SystemClock clock;
  const auto began = BenchClock::now();
  const std::unique_ptr<BlockStore> store =
      Require(BlockStore::Open(Options(directory), *files, clock, nullptr), "open");
  out["restart_seconds_1m_blocks"] = Seconds(BenchClock::now() - began);
  out["restart_parts"] = store->parts();
  out["restart_rss_mib"] = static_cast<double>(ResidentBytes()) / kMiB;

  std::mt19937_64 random(7);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t number = random() % parts;
    const PartKey key = TestPart(number / kChain, static_cast<uint32_t>(number % kChain));
    if (Require(ReadAll(*store, key), "read") != TestPayload(key, 0, kPartBytes)) {
      std::fprintf(stderr, "wrong bytes\n");
      std::exit(1);
    }
  }
  // What a match asks of the store, without the call around it.
  std::vector<double> milliseconds;
  for (int round = 0; round < 50; ++round) {
    const uint64_t chain = random() % (parts / kChain);
    std::vector<PartKey> keys;
    for (uint32_t depth = 0; depth < kChain; ++depth) keys.push_back(TestPart(chain, depth));
    const auto asked = BenchClock::now();
    const std::vector<Lookup> found = store->Find(keys);
    store->Touch(keys);
    milliseconds.push_back(Seconds(BenchClock::now() - asked) * 1e3);
    for (const Lookup& lookup : found) {
      if (lookup.presence != Presence::kPresent) std::exit(1);
    }
  }
  out["find_and_touch_4096_p50_ms"] = Percentile(milliseconds, 0.5);
  Require(store->Close(), "close");
}

int Run(const std::string& folder, uint64_t parts) {
  const std::string directory = folder + "/restart";
  std::filesystem::remove_all(directory);
  int ends[2];
  if (pipe(ends) != 0) return 1;
  const pid_t child = fork();
  if (child == 0) FillUntilKilled(directory, parts, ends[1]);
  close(ends[1]);
  double fill_seconds = 0;
  const bool filled = read(ends[0], &fill_seconds, sizeof(fill_seconds)) == sizeof(fill_seconds);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  if (!filled) return 1;
  nlohmann::ordered_json out;
  out["fill_parts_per_second"] = static_cast<double>(parts) / fill_seconds;
  MeasureStart(directory, parts, out);
  std::filesystem::remove_all(directory);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_store_restart FOLDER [PARTS]\n");
    return 2;
  }
  return mnemo::Run(argv[1], argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000);
}

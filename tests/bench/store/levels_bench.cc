// How long a read of one 128 KiB part takes at each level.
//
//   bench_store_levels FOLDER [l1|l2|l3|disk] > levels.json
//
// Direct reads, random order, incompressible values, on disk a working set four
// times the cache. First as fast as one thread can, for its capacity; then at
// half of that with random (Poisson) arrivals: a latency runs from the arrival,
// so that waiting for the read before counts. One pause of 20 ms by the machine, and
// the queue behind it, are a hundredth of all reads of a round: figures are medians
// over rounds, with the least and the most beside the p99.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/bench/common/bench_support.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

constexpr uint64_t kPartBytes = 128 * kKiB;
constexpr uint64_t kCacheBytes = 64 * kMiB;
constexpr auto kMeasured = std::chrono::seconds(2);  // a round
constexpr int kRounds = 5;
constexpr std::array<std::string_view, kLevelCount> kNames = {"l1", "l2", "l3", "disk"};

class LevelBench {
 public:
  LevelBench(std::string directory, Level level) : directory_(std::move(directory)), level_(level) {
    std::filesystem::remove_all(directory_);
  }
  ~LevelBench() {
    if (store_) Require(store_->Close(), "close");
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Run(nlohmann::ordered_json& out) {
    Fill();
    std::mt19937_64 random(42);
    const double capacity = ClosedLoop(random);
    std::vector<double> p50, p99, p999;
    size_t reads = 0;
    for (int round = 0; round < kRounds; ++round) {
      std::vector<double> milliseconds = OpenLoop(random, capacity / 2);
      p50.push_back(Percentile(milliseconds, 0.5));
      p99.push_back(Percentile(milliseconds, 0.99));
      p999.push_back(Percentile(milliseconds, 0.999));
      reads += milliseconds.size();
    }
    const std::string name(kNames[Index(level_)]);
    out[name + "_p50_ms"] = Percentile(p50, 0.5);
    out[name + "_p99_ms"] = Percentile(p99, 0.5);
    out[name + "_p99_ms_min"] = *std::min_element(p99.begin(), p99.end());
    out[name + "_p99_ms_max"] = *std::max_element(p99.begin(), p99.end());
    out[name + "_p999_ms"] = Percentile(p999, 0.5);
    out[name + "_reads_per_second_capacity"] = capacity;
    out[name + "_reads"] = reads;
    out[name + "_parts"] = keys_.size();
    CheckBytes(random);
  }

 private:
  BlockStoreOptions Options() const {
    BlockStoreOptions options;
    options.directory = directory_;
    options.l1_bytes = level_ == Level::kL1 ? 320 * kMiB : 64 * kMiB;
    options.l2_bytes = level_ == Level::kL2 ? 384 * kMiB : 0;
    options.disk_cache_bytes = kCacheBytes;
    options.l3_bytes = level_ == Level::kDisk ? 64 * kMiB : 2 * kGiB;
    options.archive_bytes = 2 * kGiB;
    options.direct_reads = true;
    options.promote_hits = 10;
    return options;
  }

  void Open() { store_ = Require(BlockStore::Open(Options(), *files_, clock_, nullptr), "open"); }

  void Fill() {
    Open();
    const bool on_disk = !IsRam(level_);
    // Four times the cache, and what stays at the levels before.
    const uint64_t parts = on_disk ? 4 * kCacheBytes / kPartBytes + 1100 : 2048;
    for (uint64_t i = 0; i < parts; ++i) {
      Require(PutChained(*store_, i, 0, kPartBytes,
                         on_disk ? Durability::kInterval : Durability::kCache),
              "put");
      if (level_ == Level::kDisk) store_->MoveStep();
    }
    if (on_disk) {
      MoveAll(*store_);
      Require(store_->Close(), "close");
      store_.reset();
      Open();
    }
    for (uint64_t i = 0; i < parts; ++i) {
      const PartKey key = TestPart(i);
      const Lookup found = store_->Find({&key, 1})[0];
      if (found.presence == Presence::kPresent && found.level == level_) keys_.push_back(key);
    }
    if (keys_.size() < 1000) {
      std::fprintf(stderr, "only %zu parts at level %d\n", keys_.size(), static_cast<int>(level_));
      std::exit(1);
    }
  }

  void ReadOne(std::mt19937_64& random) {
    const PartRead read = Require(store_->Read(keys_[random() % keys_.size()], 0, 0), "read");
    if (read.level != level_) {
      std::fprintf(stderr, "read at level %d\n", static_cast<int>(read.level));
      std::exit(1);
    }
  }

  double ClosedLoop(std::mt19937_64& random) {
    const auto began = BenchClock::now();
    uint64_t reads = 0;
    for (; BenchClock::now() - began < kMeasured; ++reads) ReadOne(random);
    return static_cast<double>(reads) / Seconds(BenchClock::now() - began);
  }

  std::vector<double> OpenLoop(std::mt19937_64& random, double rate) {
    std::exponential_distribution<double> gap(rate);
    std::vector<double> milliseconds;
    const auto began = BenchClock::now();
    auto arrival = began;
    while (arrival - began < kMeasured) {
      arrival += std::chrono::duration_cast<BenchClock::duration>(
          std::chrono::duration<double>(gap(random)));
      // Waking up would take longer than the reads from RAM do.
      while (BenchClock::now() < arrival) {
      }
      ReadOne(random);
      milliseconds.push_back(Seconds(BenchClock::now() - arrival) * 1e3);
    }
    return milliseconds;
  }

  void CheckBytes(std::mt19937_64& random) {
    std::vector<PartKey> some = keys_;
    std::shuffle(some.begin(), some.end(), random);
    some.resize(100);
    for (const PartKey& key : some) {
      if (Require(ReadAll(*store_, key), "read") != TestPayload(key, 0, kPartBytes)) {
        std::fprintf(stderr, "wrong bytes\n");
        std::exit(1);
      }
    }
  }

  const std::string directory_;
  const Level level_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  SystemClock clock_;
  std::unique_ptr<BlockStore> store_;
  std::vector<PartKey> keys_;
};

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: bench_store_levels FOLDER [l1|l2|l3|disk]\n");
    return 2;
  }
  nlohmann::ordered_json out;
  for (size_t i = 0; i < mnemo::kLevelCount; ++i) {
    if (argc == 3 && mnemo::kNames[i] != argv[2]) continue;
    mnemo::LevelBench(std::string(argv[1]) + "/levels", static_cast<mnemo::Level>(i)).Run(out);
  }
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

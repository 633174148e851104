// What is left usable after much coming and going.
//
//   bench_store_churn FOLDER [TIMES] > churn.json
//
// The arena: ten times its capacity of values from 4 KiB to 40 MiB (log-uniform)
// pass through it, a tenth of them pinned by readers; then it is filled until
// it refuses. The disk: TIMES (10) the capacity of L3 in the same sizes, written
// and deleted at random. Meanwhile the resident memory, over what the options
// allow.
//
// `space_amplification` is what all files of the data directory take, write-ahead
// logs included, over the bytes of the values that live in L3, once background
// work has come to rest: no step of movement or upkeep found anything to do, and
// no file changed, for kRest. `space_amplification_peak` is the worst of the same
// on the way, looked at every 64 MiB from one capacity on. What the logs and the
// other files take each is in `churn_files_mib`.
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "storage/tier/arena.h"
#include "tests/bench/common/bench_support.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

uint64_t SomeSize(std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(std::log2(4.0 * kKiB), std::log2(40.0 * kMiB));
  return static_cast<uint64_t>(std::exp2(exponent(random)));
}

void ArenaChurn(nlohmann::ordered_json& out) {
  constexpr uint64_t kCapacity = 512 * kMiB;
  auto arena = Require(Arena::Create({.capacity_bytes = kCapacity}), "arena");
  std::mt19937_64 random(1);
  std::vector<std::pair<Locator, PinnedBytes>> values;
  uint64_t passed = 0;
  while (passed < 10 * kCapacity) {
    const uint64_t size = SomeSize(random);
    absl::StatusOr<WritableValue> value = arena->Reserve(size);
    if (!value.ok()) {
      const size_t victim = random() % values.size();
      arena->Free(values[victim].first);
      std::swap(values[victim], values.back());
      values.pop_back();
      continue;
    }
    passed += size;
    const Locator locator = arena->Seal(*std::move(value));
    PinnedBytes pin;
    if (random() % 10 == 0) pin = Require(arena->Pin(locator), "pin");
    values.emplace_back(locator, std::move(pin));
  }
  // Usable: what values of the largest size, then of ever smaller ones, can
  // still take, beside those that are there.
  for (uint64_t size = 40 * kMiB; size >= 4 * kKiB; size /= 2) {
    while (true) {
      absl::StatusOr<WritableValue> value = arena->Reserve(size);
      if (!value.ok()) break;
      values.emplace_back(arena->Seal(*std::move(value)), PinnedBytes());
    }
  }
  const ArenaStats stats = arena->Stats();
  out["arena_usable"] = static_cast<double>(stats.live_bytes) / kCapacity;
  out["arena_index_bytes"] = stats.index_bytes;
  values.clear();
}

// Files may go while they are counted.
uint64_t BytesOfFiles(const std::string& folder) {
  uint64_t bytes = 0;
  std::error_code gone;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file(gone)) continue;
    const uint64_t size = entry.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

// Bytes that this process gave to write calls, from /proc/self/io.
uint64_t BytesWritten() {
  std::ifstream io("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  while (io >> name >> value) {
    if (name == "wchar:") return value;
  }
  return 0;
}

class StoreChurn {
 public:
  StoreChurn(const std::string& folder, uint64_t times)
      : directory_(folder + "/churn"), times_(times) {
    std::filesystem::remove_all(directory_);
    options_.directory = directory_;
    options_.l1_bytes = 256 * kMiB;
    options_.l2_bytes = 128 * kMiB;
    options_.disk_cache_bytes = 128 * kMiB;
    options_.l3_bytes = 1 * kGiB;
    options_.archive_bytes = 0;
  }
  ~StoreChurn() { std::filesystem::remove_all(directory_); }

  void Run(nlohmann::ordered_json& out) {
    const uint64_t before = ResidentBytes();
    store_ = Require(BlockStore::Open(options_, *files_, clock_, nullptr), "open");
    std::thread mover([this] { MoveUntilStopped(); });
    const auto began = BenchClock::now();
    const uint64_t written_before = BytesWritten();
    Churn();
    out["churn_mib_per_second"] =
        static_cast<double>(written_) / kMiB / Seconds(BenchClock::now() - began);
    out["space_amplification_peak"] = worst_;
    out["churn_settled"] = Settle();
    out["churn_write_amplification"] =
        static_cast<double>(BytesWritten() - written_before) / static_cast<double>(written_);
    for (const auto& [folder, bytes] : BytesByFolder()) {
      out["churn_files_mib"][folder] = static_cast<double>(bytes) / kMiB;
    }
    const uint64_t live = store_->Levels()[Index(Level::kL3)].stats.live_bytes;
    const uint64_t files = BytesOfFiles(directory_);
    out["space_amplification"] = static_cast<double>(files) / static_cast<double>(live);
    out["churn_live_mib"] = static_cast<double>(live) / kMiB;
    out["churn_refused"] = refused_;
    // Beside the levels: the directory and what one read or move holds at once.
    const uint64_t budget =
        options_.l1_bytes + options_.l2_bytes + options_.disk_cache_bytes + 2 * kMaxPartBytes;
    out["store_rss_over_budget"] =
        static_cast<double>(peak_ - before) / static_cast<double>(budget);
    out["store_peak_rss_mib"] = static_cast<double>(peak_) / kMiB;
    stop_ = true;
    store_->WakeMovers();
    mover.join();
    Require(store_->Close(), "close");
    store_.reset();
  }

 private:
  // So that the share of live bytes is what L3 holds at its low watermark.
  static constexpr double kFill = 0.85;

  void Churn() {
    std::mt19937_64 random(2);
    std::vector<std::pair<PartKey, uint64_t>> there;
    std::string payload = TestPayload(TestPart(0), 0, 40 * kMiB);
    uint64_t live = 0;
    uint64_t looked = 0;
    for (uint64_t next = 0; written_ < times_ * options_.l3_bytes; ++next) {
      const uint64_t size = SomeSize(random);
      while (static_cast<double>(live + size) > kFill * static_cast<double>(options_.l3_bytes)) {
        const size_t victim = random() % there.size();
        Require(store_->Erase({&there[victim].first, 1}), "erase");
        live -= there[victim].second;
        there[victim] = there.back();
        there.pop_back();
      }
      const PartKey key = TestPart(next);
      // Other bytes for every part: a store may not gain from their likeness.
      StoreLittle(payload.data() + random() % (payload.size() - 8), random());
      const absl::Status put = PutPart(*store_, key, std::string_view(payload).substr(0, size),
                                       TestSpec(size, 0, Durability::kInterval));
      if (absl::IsResourceExhausted(put)) {
        ++refused_;
        continue;
      }
      Require(put, "put");
      written_ += size;
      live += size;
      there.emplace_back(key, size);
      if (random() % 3 == 0) {
        const PartKey& read = there[random() % there.size()].first;
        Require(store_->Read(read, 0, 0), "read");
      }
      peak_ = std::max(peak_, ResidentBytes());
      looked += size;
      if (looked >= 64 * kMiB && written_ > options_.l3_bytes) {
        looked = 0;
        worst_ = std::max(
            worst_, static_cast<double>(BytesOfFiles(directory_)) / static_cast<double>(live));
      }
    }
  }

  // By instance and kind of file.
  std::map<std::string, uint64_t> BytesByFolder() const {
    std::map<std::string, uint64_t> folders;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_)) {
      if (!entry.is_regular_file()) continue;
      const std::filesystem::path& path = entry.path();
      const std::string kind = path.has_extension() ? path.extension().string() : "other";
      folders[path.parent_path().lexically_relative(directory_).string() + kind] +=
          entry.file_size();
    }
    return folders;
  }

  void MoveUntilStopped() {
    while (!stop_) {
      const bool more = store_->MoveStep();
      if (settling_) LookForRest(more);
      if (!more) store_->WaitForWork(std::chrono::milliseconds(200));
    }
  }

  void LookForRest(bool busy) {
    const uint64_t bytes = BytesOfFiles(directory_);
    const std::lock_guard lock(rest_mutex_);
    if (busy || bytes != resting_bytes_) {
      resting_bytes_ = bytes;
      resting_since_ = BenchClock::now();
    }
    if (BenchClock::now() - resting_since_ < kRest) return;
    rested_ = true;
    rest_.notify_all();
  }

  // False: background work did not come to rest.
  bool Settle() {
    std::unique_lock lock(rest_mutex_);
    resting_since_ = BenchClock::now();
    settling_ = true;
    return rest_.wait_for(lock, kPatience, [this] { return rested_; });
  }

  // Several rounds of upkeep, and longer than a compaction that shows only at
  // its end.
  static constexpr auto kRest = std::chrono::seconds(8);
  static constexpr auto kPatience = std::chrono::seconds(120);

  const std::string directory_;
  const uint64_t times_;
  BlockStoreOptions options_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  SystemClock clock_;
  std::unique_ptr<BlockStore> store_;
  uint64_t written_ = 0;
  uint64_t refused_ = 0;
  uint64_t peak_ = 0;
  double worst_ = 0;

  std::atomic<bool> stop_{false};
  std::atomic<bool> settling_{false};
  std::mutex rest_mutex_;  // of all below
  std::condition_variable rest_;
  bool rested_ = false;
  uint64_t resting_bytes_ = 0;
  BenchClock::time_point resting_since_;
};

// Sessions that all begin with one system prompt.
void ShardBalance(nlohmann::ordered_json& out) {
  constexpr uint64_t kSessions = 1000;
  constexpr uint32_t kBlocks = 256;
  constexpr uint32_t kPromptBlocks = 64;
  std::array<uint64_t, kShardCount> bytes{};
  for (uint64_t session = 0; session <= kSessions; ++session) {
    for (uint32_t depth = session == 0 ? 0 : kPromptBlocks; depth < kBlocks; ++depth) {
      if (session == 0 && depth >= kPromptBlocks) break;
      bytes[TestPart(session, depth).shard] += 128 * kKiB;
    }
  }
  uint64_t sum = 0;
  uint64_t max = 0;
  for (const uint64_t shard : bytes) {
    sum += shard;
    max = std::max(max, shard);
  }
  out["shard_bytes_max_over_mean"] =
      static_cast<double>(max) * kShardCount / static_cast<double>(sum);
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_store_churn FOLDER [TIMES]\n");
    return 2;
  }
  nlohmann::ordered_json out;
  mnemo::ArenaChurn(out);
  mnemo::ShardBalance(out);
  mnemo::StoreChurn(argv[1], argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 10).Run(out);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

// Measures one instance alone: how fast blocks of one size are written, read
// and listed, how long a restart takes, and what churn does to space and
// writing. One line of flat JSON on standard output.
//
//   tier_bench PATH [key=value ...]
//
//   class=cache|interval|sync   blocks=N   value=BYTES   threads=N
//   churn=N      after filling, N blocks are erased and replaced
//   order=fifo|random           what churn erases
//   wal=0|1      of cache puts
//   direct=0|1   min_blob=BYTES   write_buffer=BYTES   blob_file=BYTES
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/tier/instance.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using Seconds = std::chrono::duration<double>;

struct Arguments {
  std::map<std::string, std::string> values;
  uint64_t Number(const std::string& name, uint64_t fallback) const {
    const auto found = values.find(name);
    return found == values.end() ? fallback : std::stoull(found->second);
  }
  std::string Text(const std::string& name, const std::string& fallback) const {
    const auto found = values.find(name);
    return found == values.end() ? fallback : found->second;
  }
};

double Timed(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return Seconds(std::chrono::steady_clock::now() - start).count();
}

// Incompressible, made once: the values differ in their first bytes alone.
class Values {
 public:
  explicit Values(size_t size) : base_(TestValue(TestKey(0), 1, std::max<size_t>(size, 64))) {}
  absl::Status Put(BlockLevel& level, uint64_t number) const {
    uint8_t head[16] = {};
    StoreLittle(head, number);
    const ByteView bytes = AsBytes(base_);
    return level.Put(TestKey(number), TestMetadata(number), {head, bytes.subspan(16)}).status();
  }

 private:
  const std::string base_;
};

class Bench {
 public:
  Bench(std::string path, const Arguments& arguments)
      : arguments_(arguments),
        blocks_(arguments.Number("blocks", 1000)),
        threads_(arguments.Number("threads", 1)),
        values_(arguments.Number("value", 2 << 20)) {
    options_.path = std::move(path);
    const std::string durability = arguments.Text("class", "cache");
    options_.durability = durability == "sync"       ? Durability::kSync
                          : durability == "interval" ? Durability::kInterval
                                                     : Durability::kCache;
    options_.direct_reads = arguments.Number("direct", 0) != 0;
    options_.wal_for_cache_puts = arguments.Number("wal", 0) != 0;
    options_.min_blob_bytes = arguments.Number("min_blob", options_.min_blob_bytes);
    options_.write_buffer_bytes = arguments.Number("write_buffer", options_.write_buffer_bytes);
    options_.blob_file_bytes = arguments.Number("blob_file", options_.blob_file_bytes);
    auto resources = TierResources::Create({.memory_bytes = 512ull << 20,
                                            .write_buffer_bytes = 256ull << 20});
    MNEMO_CHECK(resources.ok());
    resources_ = *std::move(resources);
  }

  void Run() {
    Open();
    Report("fill_mb_per_s", Megabytes(blocks_) / Timed([&] { Fill(); }));
    Report("fill_write_amplification", instance_->Stats().WriteAmplification());
    Latencies();
    if (arguments_.Number("churn", 0) > 0) Churn();
    Report("read_mb_per_s", Megabytes(reads_) / Timed([&] { Read(); }));
    Report("foreach_seconds", Timed([&] { List(); }));
    // A restart after the process died: the log is replayed.
    MNEMO_CHECK(instance_->Close().ok());
    instance_.reset();
    Report("reopen_seconds", Timed([&] { Open(); }));
    Report("foreach_cold_seconds", Timed([&] { List(); }));
    fmt::print("{{{}}}\n", json_);
  }

 private:
  void Report(const std::string& name, double value) {
    json_ += fmt::format("{}\"{}\": {:.4g}", json_.empty() ? "" : ", ", name, value);
  }
  double Megabytes(uint64_t blocks) const {
    return static_cast<double>(blocks * arguments_.Number("value", 2 << 20)) / 1e6;
  }
  void Open() {
    auto instance = Instance::Open(options_, *files_, clock_, *resources_, nullptr);
    if (!instance.ok()) fmt::print(stderr, "{}\n", instance.status().ToString());
    MNEMO_CHECK(instance.ok());
    instance_ = *std::move(instance);
  }

  void Fill() {
    std::atomic<uint64_t> next{0};
    std::vector<std::thread> writers;
    for (uint64_t i = 0; i < threads_; ++i) {
      writers.emplace_back([&] {
        std::vector<double> took;
        for (uint64_t at = next++; at < blocks_; at = next++) {
          took.push_back(Timed([&] { MNEMO_CHECK(values_.Put(instance_->blocks(), at).ok()); }));
        }
        const std::lock_guard lock(mutex_);
        put_seconds_.insert(put_seconds_.end(), took.begin(), took.end());
      });
    }
    for (std::thread& writer : writers) writer.join();
  }

  void Latencies() {
    std::sort(put_seconds_.begin(), put_seconds_.end());
    Report("put_p50_ms", 1e3 * put_seconds_[put_seconds_.size() / 2]);
    Report("put_p99_ms", 1e3 * put_seconds_[put_seconds_.size() * 99 / 100]);
    Report("put_max_ms", 1e3 * put_seconds_.back());
  }

  void Churn() {
    std::mt19937_64 random(7);
    const bool fifo = arguments_.Text("order", "fifo") == "fifo";
    std::vector<uint64_t> present;
    for (uint64_t i = 0; i < blocks_; ++i) present.push_back(i);
    double worst = 0;
    const uint64_t churn = arguments_.Number("churn", 0);
    const InstanceStats before = instance_->Stats();
    const double seconds = Timed([&] {
      for (uint64_t i = 0; i < churn; ++i) {
        const size_t at = fifo ? i % blocks_ : random() % blocks_;
        MNEMO_CHECK(instance_->blocks().Erase(TestKey(present[at]), {}).ok());
        present[at] = blocks_ + i;
        MNEMO_CHECK(values_.Put(instance_->blocks(), present[at]).ok());
        if (i % std::max<uint64_t>(1, blocks_ / 20) == 0) {
          MNEMO_CHECK(instance_->MaintainSpace().ok());
          worst = std::max(worst, instance_->Stats().SpaceAmplification());
        }
      }
    });
    keys_ = present;
    const InstanceStats after = instance_->Stats();
    const double written =
        static_cast<double>(after.wal_written_bytes + after.table_written_bytes +
                            after.blob_written_bytes - before.wal_written_bytes -
                            before.table_written_bytes - before.blob_written_bytes);
    Report("churn_mb_per_s", Megabytes(churn) / seconds);
    Report("space_amplification_worst", worst);
    Report("space_amplification", after.SpaceAmplification());
    Report("write_amplification",
           written / static_cast<double>(after.accepted_bytes - before.accepted_bytes));
  }

  void Read() {
    if (keys_.empty()) {
      for (uint64_t i = 0; i < blocks_; ++i) keys_.push_back(i);
    }
    std::mt19937_64 random(11);
    std::vector<double> took;
    for (uint64_t i = 0; i < reads_; ++i) {
      took.push_back(Timed([&] {
        const auto bytes = instance_->blocks().Get(TestKey(keys_[random() % keys_.size()]), {});
        MNEMO_CHECK(bytes.ok());
      }));
    }
    std::sort(took.begin(), took.end());
    Report("get_p50_ms", 1e3 * took[took.size() / 2]);
    Report("get_p99_ms", 1e3 * took[took.size() * 99 / 100]);
  }

  void List() {
    uint64_t count = 0;
    MNEMO_CHECK(instance_->blocks()
                    .ForEach([&](const StoredKey&, const BlockMetadata&) { return ++count > 0; })
                    .ok());
    MNEMO_CHECK(count == blocks_);
  }

  const Arguments& arguments_;
  const uint64_t blocks_;
  const uint64_t threads_;
  const uint64_t reads_ = 500;
  const Values values_;
  InstanceOptions options_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  SystemClock clock_;
  std::unique_ptr<TierResources> resources_;
  std::unique_ptr<Instance> instance_;
  std::mutex mutex_;
  std::vector<double> put_seconds_;
  std::vector<uint64_t> keys_;
  std::string json_;
};

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: tier_bench PATH [key=value ...]; see the top of its source\n");
    return 2;
  }
  mnemo::Arguments arguments;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) return 2;
    arguments.values[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
  mnemo::Bench(argv[1], arguments).Run();
  return 0;
}

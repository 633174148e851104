// How fast tokens are appended through the daemon, when nothing else goes on.
//
//   bench_contexts_append FOLDER [TOKENS] > append.json
//
// One writer of one context: dimension 256, fp16, durability interval, messages
// of 2,048 tokens with ids. From the first append until all is acknowledged.
// The rows are made before; a pool of them goes round.
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "tests/bench/contexts/context_load.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 256;
constexpr uint64_t kPiece = 2048;
constexpr uint64_t kPool = 64;  // pieces

double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int Run(const std::string& folder, uint64_t tokens) {
  RowMaker maker(kDimension, 1);
  std::vector<std::vector<uint16_t>> pool;
  for (uint64_t i = 0; i < kPool; ++i) pool.push_back(maker.DrawHalves(kPiece));
  const std::vector<uint32_t> ids = SomeIds(kPiece);

  const auto daemon = StartDaemon(folder, "4GiB");
  const auto client = Connect(*daemon);
  Require(client->contexts().Create(ContextOf("append", kDimension)), "create");
  const auto writer = Require(client->contexts().Write("append"), "write");

  const double processor = ProcessorSeconds();
  const auto began = BenchClock::now();
  uint64_t done = 0;
  double slowest = 0;
  for (auto before = began; done < tokens; done += kPiece) {
    Require(writer->Append(Columns(pool[done / kPiece % kPool], ids)), "append");
    const auto now = BenchClock::now();
    slowest = std::max(slowest, Seconds(now - before));
    before = now;
  }
  if (Require(writer->Flush(), "flush") != done) return 1;
  const double seconds = Seconds(BenchClock::now() - began);

  nlohmann::ordered_json out;
  out["append_tokens_per_second"] = static_cast<double>(done) / seconds;
  out["append_tokens"] = done;
  out["append_longest_wait_ms"] = slowest * 1e3;
  out["append_client_processor_share"] = (ProcessorSeconds() - processor) / seconds;
  out["append_peak_mib"] = static_cast<double>(daemon->peak_resident_bytes()) / (1 << 20);
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_contexts_append FOLDER [TOKENS]\n");
    return 2;
  }
  return mnemo::Run(std::string(argv[1]) + "/append",
                    argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 3'000'000);
}

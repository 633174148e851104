// What the programs of the store side of bench-contexts share: rows, and
// contexts that are filled with them.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/half.h"
#include "tests/bench/common/bench_support.h"
#include "tests/support/daemon/daemon_process.h"

namespace mnemo {

// Rows of a Gaussian mixture in fp16, cheap enough to be drawn beside an append
// that is measured: noise is cut from a pool at random offsets, so no two rows
// are alike. Not thread-safe.
class RowMaker {
 public:
  static constexpr size_t kComponents = 64;

  RowMaker(uint32_t dimension, uint64_t seed) : dimension_(dimension), random_(seed) {
    std::normal_distribution<float> centre(0, 1);
    std::normal_distribution<float> around(0, 0.5);
    centres_.resize(kComponents * dimension);
    for (float& value : centres_) value = centre(random_);
    noise_.resize(kNoise + dimension);
    for (float& value : noise_) value = around(random_);
  }

  void Draw(float* row) {
    const float* const centre = centres_.data() + random_() % kComponents * dimension_;
    const float* const noise = noise_.data() + random_() % kNoise;
    for (size_t i = 0; i < dimension_; ++i) row[i] = centre[i] + noise[i];
  }
  std::vector<uint16_t> DrawHalves(size_t rows) {
    std::vector<uint16_t> halves(rows * dimension_);
    std::vector<float> row(dimension_);
    for (size_t i = 0; i < rows; ++i) {
      Draw(row.data());
      for (size_t j = 0; j < dimension_; ++j) {
        halves[i * dimension_ + j] = FloatToHalf(row[j]);
      }
    }
    return halves;
  }
  std::vector<float> DrawQuery() {
    std::vector<float> query(dimension_);
    Draw(query.data());
    return query;
  }
  uint32_t dimension() const { return dimension_; }

 private:
  static constexpr size_t kNoise = 1 << 22;
  const uint32_t dimension_;
  std::mt19937_64 random_;
  std::vector<float> centres_;
  std::vector<float> noise_;
};

// `rows` as the columns of an append; a view of them and of `ids`.
inline client::TokenColumns Columns(const std::vector<uint16_t>& rows,
                                    const std::vector<uint32_t>& ids) {
  return {
      .count = ids.size(),
      .embedding_dtype = client::DType::kF16,
      .embeddings = {reinterpret_cast<const uint8_t*>(rows.data()), rows.size() * sizeof(uint16_t)},
      .ids = ids,
      .kind = client::TokenKind::kDocument};
}

inline std::vector<uint32_t> SomeIds(size_t count) {
  std::vector<uint32_t> ids(count);
  std::mt19937 random(static_cast<uint32_t>(count));
  for (uint32_t& id : ids) id = random() % 32'000;
  return ids;
}

inline client::Context ContextOf(const std::string& name, uint32_t dimension) {
  client::Context context;
  context.name = name;
  context.dimension = dimension;
  context.stored_dtype = client::DType::kF16;
  context.durability = client::Durability::kInterval;
  return context;
}

// Appends `tokens` rows behind what is there, in pieces of one message each, and
// waits until all are acknowledged.
inline void Fill(client::Client& client, const std::string& name, RowMaker& rows, uint64_t tokens) {
  constexpr uint64_t kPiece = 2048;
  const auto writer = Require(client.contexts().Write(name), "write");
  for (uint64_t done = 0; done < tokens; done += kPiece) {
    const uint64_t count = std::min(kPiece, tokens - done);
    Require(writer->Append(Columns(rows.DrawHalves(count), SomeIds(count))), "append");
  }
  Require(writer->Flush(), "flush");
}

// A daemon over `folder`, which is made, and a client of its UNIX socket.
inline std::unique_ptr<DaemonProcess> StartDaemon(const std::string& folder,
                                                  const std::string& memory) {
  std::filesystem::create_directories(folder);
  return Require(DaemonProcess::Start(folder, {"--memory-total=" + memory, "--disk-total=64GiB",
                                               "--log-level=warning"}),
                 "start");
}
inline std::unique_ptr<client::Client> Connect(const DaemonProcess& daemon) {
  return Require(client::Client::Connect({.target = daemon.unix_socket()}), "connect");
}

// The command line of a program that prepares a folder and then measures what is
// in it: prepare|measure FOLDER [NUMBER...]. The parts get FOLDER/`name` and the
// numbers. Returns the exit code.
using BenchPart = std::function<int(const std::string& folder, const std::vector<uint64_t>&)>;
inline int RunPrepareOrMeasure(int argc, char** argv, const std::string& name,
                               std::vector<uint64_t> numbers, const BenchPart& prepare,
                               const BenchPart& measure) {
  const std::string what = argc > 2 ? argv[1] : "";
  for (size_t i = 0; i < numbers.size() && static_cast<int>(i) + 3 < argc; ++i) {
    numbers[i] = std::strtoull(argv[i + 3], nullptr, 10);
  }
  if (what == "prepare") return prepare(std::string(argv[2]) + "/" + name, numbers);
  if (what == "measure") return measure(std::string(argv[2]) + "/" + name, numbers);
  std::fprintf(stderr, "usage: %s prepare|measure FOLDER [NUMBER...]\n", argv[0]);
  return 2;
}

inline constexpr client::CallOptions kPatient{.timeout = client::Millis(600'000)};

// The ten nearest of one query in one context; answers how many milliseconds
// that took.
inline double SearchMs(client::Client& client, const std::string& name,
                       const std::vector<float>& query) {
  client::SearchRequest request{.contexts = {name}};
  request.dimension = static_cast<uint32_t>(query.size());
  request.queries = query;
  const auto began = BenchClock::now();
  const auto result = Require(client.contexts().Search(request, kPatient), "search");
  const double milliseconds = Seconds(BenchClock::now() - began) * 1e3;
  if (result.hits.size() != 1 || result.hits[0].size() != 10) {
    std::fprintf(stderr, "a search of '%s' did not find ten tokens\n", name.c_str());
    std::exit(1);
  }
  return milliseconds;
}

// The least that is resident within some seconds, so that what an allocator is
// about to give back is not counted.
inline uint64_t SettledBytes(const DaemonProcess& daemon, int seconds = 5) {
  uint64_t least = daemon.resident_bytes();
  for (int i = 0; i < 10 * seconds; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    least = std::min(least, daemon.resident_bytes());
  }
  return least;
}

// Waits until workers have brought a context's summaries and indexes no further
// for some seconds: for longer than one build takes, while there is a run of
// tokens to be indexed.
inline void WaitForWorkers(client::Client& client, const std::string& name) {
  constexpr uint64_t kIndexedRun = 16'384;
  std::pair<uint64_t, uint64_t> last;
  for (int unchanged = 0;; ++unchanged) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const auto now = Require(client.contexts().Describe(name, 0, kPatient), "describe");
    const std::pair progress(now.summaries, now.indexed_tokens);
    if (std::exchange(last, progress) != progress) unchanged = 0;
    const bool indexed = now.context.tokens - now.indexed_tokens < kIndexedRun;
    if (unchanged >= (indexed ? 3 : 30)) return;
  }
}

// What is read next comes from the medium. Files that are open stay readable.
inline void DropFromPageCache(const std::string& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const int file = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    fdatasync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

}  // namespace mnemo

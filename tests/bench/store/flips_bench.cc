// 200 flipped bits anywhere in the data directory: how many reads gave wrong
// bytes (none may), none, or the right ones all the same.
//
// Twice: by bytes, four at a time, as decay strikes, which is mostly values; and
// by files, one to a start, so that every small file that a start stands on is
// hit as often as the large ones.
//
//   bench_store_flips FOLDER [SEED] > flips.json
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/bench/common/bench_support.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

constexpr int kFlips = 200;
// Few at a time, so that damage that is refused as a whole does not hide others.
constexpr int kFlipsByBytes = 4;
constexpr uint64_t kParts = 400;

struct Outcome {
  int wrong = 0;
  int right = 0;
  int missing = 0;
  int starts = 0;
  int refused = 0;
  int refused_sync = 0;  // by an instance of class sync, which may
  int flips = 0;
};

uint64_t SizeOf(uint64_t part) { return 1 + part * 7919 % 60'000; }

std::vector<std::string> FilesBelow(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.file_size() > 0) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void FlipBit(const std::string& path, uint64_t at, std::mt19937_64& random) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ (1 << random() % 8));
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

void FlipByBytes(const std::string& folder, std::mt19937_64& random) {
  const std::vector<std::string> paths = FilesBelow(folder);
  uint64_t total = 0;
  for (const std::string& path : paths) total += std::filesystem::file_size(path);
  uint64_t at = random() % total;
  for (const std::string& path : paths) {
    const uint64_t size = std::filesystem::file_size(path);
    if (at < size) return FlipBit(path, at, random);
    at -= size;
  }
}

void FlipByFiles(const std::string& folder, std::mt19937_64& random) {
  const std::vector<std::string> paths = FilesBelow(folder);
  const std::string& path = paths[random() % paths.size()];
  FlipBit(path, random() % std::filesystem::file_size(path), random);
}

void Round(const std::string& pristine, const std::string& damaged, bool by_files,
           std::mt19937_64& random, Outcome& outcome) {
  std::filesystem::remove_all(damaged);
  std::filesystem::copy(pristine, damaged, std::filesystem::copy_options::recursive);
  const int flips = by_files ? 1 : kFlipsByBytes;
  for (int i = 0; i < flips; ++i) {
    by_files ? FlipByFiles(damaged, random) : FlipByBytes(damaged, random);
  }
  outcome.flips += flips;
  ++outcome.starts;
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  SystemClock clock;
  auto store = BlockStore::Open(SmallStore(damaged), *files, clock, nullptr);
  if (!store.ok()) {
    ++outcome.refused;
    const std::string why = store.status().ToString();
    if (why.find("/sync") != std::string::npos) ++outcome.refused_sync;
    std::fprintf(stderr, "refused: %s\n", why.c_str());
    return;
  }
  for (uint64_t i = 0; i < kParts; ++i) {
    const PartKey key = TestPart(i);
    const absl::StatusOr<std::string> bytes = ReadAll(**store, key);
    if (!bytes.ok()) {
      ++outcome.missing;
    } else if (*bytes == TestPayload(key, 0, SizeOf(i))) {
      ++outcome.right;
    } else {
      ++outcome.wrong;
    }
  }
}

int Run(const std::string& folder, uint64_t seed) {
  const std::string pristine = folder + "/flips";
  std::filesystem::remove_all(pristine);
  {
    const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
    SystemClock clock;
    BlockStoreOptions options = SmallStore(pristine);
    // Small buffers and levels: logs, tables, blobs and the archive all hold some.
    options.disk_cache_bytes = 16 * kMiB;
    auto store = Require(BlockStore::Open(options, *files, clock, nullptr), "open");
    for (uint64_t i = 0; i < kParts; ++i) {
      Require(PutChained(*store, i, 0, SizeOf(i), static_cast<Durability>(1 + i % 3)), "put");
    }
    Require(store->Flush({}), "flush");
    Require(store->Close(), "close");
  }
  std::mt19937_64 random(seed);
  Outcome by_bytes;
  Outcome by_files;
  const std::string damaged = folder + "/flipped";
  while (by_bytes.flips < kFlips) Round(pristine, damaged, false, random, by_bytes);
  while (by_files.flips < kFlips) Round(pristine, damaged, true, random, by_files);
  std::filesystem::remove_all(pristine);
  std::filesystem::remove_all(damaged);
  nlohmann::ordered_json out;
  out["flips"] = by_bytes.flips + by_files.flips;
  out["flips_seed"] = seed;
  out["flips_wrong"] = by_bytes.wrong + by_files.wrong;
  const auto report = [&](const std::string& name, const Outcome& outcome) {
    out[name + "_starts"] = outcome.starts;
    out[name + "_starts_refused"] = outcome.refused;
    out[name + "_starts_refused_by_sync"] = outcome.refused_sync;
    out[name + "_reads_missing"] = outcome.missing;
    out[name + "_reads_right"] = outcome.right;
  };
  report("flips_by_bytes", by_bytes);
  report("flips_by_files", by_files);
  std::printf("%s\n", out.dump(2).c_str());
  return by_bytes.wrong + by_files.wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_store_flips FOLDER [SEED]\n");
    return 2;
  }
  return mnemo::Run(argv[1],
                    argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}());
}

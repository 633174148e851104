#include "tests/stress/crash_child.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "storage/base/clock.h"
#include "storage/block/space.h"
#include "tests/stress/crash_records.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/tensors.h"

namespace mnemo {
namespace {

using Kind = CrashRecord::Kind;

uint64_t SizeOf(uint32_t key, uint64_t version) {
  const uint64_t hash = Checksum64({}, key * 7919ull + version);
  // Mostly small, some of a megabyte: records within and across blob files.
  return 1 + (hash % 10 == 0 ? hash / 10 % 1'000'000 : hash / 10 % 40'000);
}

// Every eighth key is one of a space with a floor: its parts are encoded as they move, and
// where they lie.
constexpr KeyScope kModelScope{.tenant = 7, .space = 10};
bool IsTensor(uint32_t key) { return key % 8 == 7; }

std::shared_ptr<const Space> ModelSpace() {
  static const auto space =
      std::make_shared<const Space>(Space{.scope = kModelScope,
                                          .spec = {.name = "model",
                                                   .fingerprint = {.weights_digest = "sha256:1"},
                                                   .tokens_per_block = 16,
                                                   .groups = {{.name = "full",
                                                               .layers = 1,
                                                               .kv_heads = 2,
                                                               .k_dimension = 64,
                                                               .v_dimension = 64,
                                                               .dtype = DType::kBF16}},
                                                   .policy = {.floor_bits_per_value = 4}}});
  return space;
}

PartKey PartOf(uint32_t key) {
  return IsTensor(key) ? TestPart(key, 0, kModelScope) : TestPart(key);
}

// The shape of each of a tensor part's two sections.
TensorShape CrashTensor() { return {.tokens = 16, .heads = 2, .dimension = 64}; }

std::string PayloadOf(uint32_t key, uint64_t version) {
  if (!IsTensor(key)) return TestPayload(PartOf(key), version, SizeOf(key, version));
  std::string payload;
  for (const uint64_t role : {0, 1}) {
    payload += AsText(testing::NormalTensor(CrashTensor(), (key * 7919ull + version) * 2 + role));
  }
  return payload;
}

WriteSpec SpecOf(uint32_t key, uint64_t version, uint64_t size) {
  // Halves, which are a tensor part's sections.
  return TestSpec(size, static_cast<uint32_t>(version), ClassOfKey(key));
}

// Of an encoded part: nearer to what was put than any other tensor is.
bool IsNear(const std::string& was, const std::string& is) {
  if (was.size() != is.size()) return false;
  const TensorShape row = {.tokens = 1, .heads = 1, .dimension = 64};
  double squares = 0;
  double errors = 0;
  for (size_t at = 0; at < was.size(); at += row.bytes()) {
    const auto x = testing::RowAt(row, AsBytes(was).subspan(at), 0, 0, 0);
    const auto y = testing::RowAt(row, AsBytes(is).subspan(at), 0, 0, 0);
    for (size_t i = 0; i < x.size(); ++i) {
      squares += x[i] * x[i];
      errors += (x[i] - y[i]) * (x[i] - y[i]);
    }
  }
  return errors < 0.05 * squares;
}

BlockStoreOptions CrashStore(const std::string& directory) {
  BlockStoreOptions options = SmallStore(directory);
  // So small that everything moves, and memtables become files, within a cycle.
  options.l2_bytes = 4 * kMiB;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 64 * kMiB;
  options.disk_cache_bytes = 16 * kMiB;
  options.high_watermark = 0.2;
  options.low_watermark = 0.15;
  options.promote_hits = 1;
  options.wal_interval = std::chrono::milliseconds(kCrashWalIntervalMs);
  return options;
}

class Child {
 public:
  Child(BlockStore& store, const CrashChildOptions& options) : store_(store), options_(options) {}

  void Check() {
    for (uint32_t key = 0; key < kCrashKeys; ++key) {
      const PartKey part = PartOf(key);
      const absl::StatusOr<PartRead> read = store_.Read(part, 0, 0);
      if (!read.ok()) {
        // Nothing was flipped, so nothing may be damaged.
        if (!absl::IsNotFound(read.status())) {
          std::fprintf(stderr, "key %u: %s\n", key, read.status().ToString().c_str());
          Say(Kind::kWrong, key, 0);
        }
        Say(Kind::kFound, key, 0);
        continue;
      }
      // The version lies in the part's depth.
      const uint64_t version = read->depth;
      const std::string right = PayloadOf(key, version);
      const std::string found = read->bytes.ToString();
      if (read->fidelity ? !IsNear(right, found) : found != right) {
        Say(Kind::kWrong, key, version);
      }
      Say(Kind::kFound, key, version);
      versions_[key] = version;
    }
    Say(Kind::kReady, 0, 0);
  }

  void Work(uint32_t thread) {
    std::mt19937_64 random(options_.seed * 31 + thread);
    while (!stop_) {
      const auto key =
          static_cast<uint32_t>(random() % (kCrashKeys / kCrashThreads) * kCrashThreads + thread);
      const PartKey part = PartOf(key);
      switch (random() % 4) {
        case 0:
        case 1:
          Put(key, part);
          break;
        case 2:
          Erase(key, part);
          break;
        default:
          store_.Read(part, 0, 0).status().IgnoreError();
          break;
      }
    }
  }

  void Move() {
    while (!stop_) {
      if (!store_.MoveStep()) store_.WaitForWork(std::chrono::milliseconds(5));
    }
  }
  void Stop() { stop_ = true; }

 private:
  void Say(Kind kind, uint32_t key, uint64_t version) {
    CrashRecord record;
    record.kind = kind;
    record.key = key;
    record.version = version;
    Tell(options_.pipe, record);
  }

  void Put(uint32_t key, const PartKey& part) {
    if (store_.Describe(part).has_value()) return;
    const uint64_t version = ++versions_[key];
    const std::string payload = PayloadOf(key, version);
    Say(Kind::kBeginPut, key, version);
    const absl::Status put = PutPart(store_, part, payload, SpecOf(key, version, payload.size()));
    if (absl::IsAlreadyExists(put)) Say(Kind::kFailed, key, 1);
    Say(put.ok() ? Kind::kAcknowledged : Kind::kRefused, key, version);
  }

  void Erase(uint32_t key, const PartKey& part) {
    Say(Kind::kBeginErase, key, 0);
    const absl::StatusOr<uint64_t> erased = store_.Erase({&part, 1});
    Say(erased.ok() ? Kind::kAcknowledged : Kind::kRefused, key, 0);
  }

  BlockStore& store_;
  const CrashChildOptions& options_;
  std::atomic<bool> stop_{false};
  // Each element belongs to one thread; versions of a key only grow.
  std::vector<uint64_t> versions_ = std::vector<uint64_t>(kCrashKeys, 0);
};

}  // namespace

int RunCrashChild(const CrashChildOptions& options) {
  const std::unique_ptr<FileSystem> real = MakePosixFileSystem();
  const std::string graves = options.directory + ".graves";
  std::unique_ptr<FaultFileSystem> faulty;
  if (options.power_loss_after_ms > 0) {
    // A child that lost its power left its links behind.
    std::error_code ignored;
    std::filesystem::remove_all(graves, ignored);
    if (!real->CreateDirectory(graves).ok()) return 2;
    faulty = std::make_unique<FaultFileSystem>(*real, graves);
  }
  FileSystem& files = faulty ? static_cast<FileSystem&>(*faulty) : *real;
  SystemClock clock;
  auto store = BlockStore::Open(CrashStore(options.directory), files, clock, nullptr);
  if (!store.ok()) {
    std::fprintf(stderr, "open: %s\n", store.status().ToString().c_str());
    return 3;
  }
  (*store)->UseSpaces([](KeyScope scope) -> std::shared_ptr<const Space> {
    return scope == kModelScope ? ModelSpace() : nullptr;
  });
  Child child(**store, options);
  child.Check();
  if (options.check_only) return 0;

  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kCrashThreads; ++i) threads.emplace_back([&child, i] { child.Work(i); });
  threads.emplace_back([&child] { child.Move(); });
  if (!faulty) {
    for (std::thread& thread : threads) thread.join();  // until killed
    return 4;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(options.power_loss_after_ms));
  CrashRecord lost;
  lost.kind = Kind::kPowerLost;
  Tell(options.pipe, lost);
  // Without power nobody would see a call fail, let alone go on to RocksDB's
  // assertion about a file that failed before: such a thread stands still
  // instead, so none is waited for.
  std::signal(SIGABRT, [](int) {
    for (;;) pause();
  });
  faulty->SetDead(true);
  child.Stop();
  const absl::Status dropped = faulty->DropUnsynced(options.seed);
  if (!dropped.ok()) std::fprintf(stderr, "drop: %s\n", dropped.ToString().c_str());
  // A machine without power closes nothing.
  _exit(dropped.ok() ? 0 : 5);
}

}  // namespace mnemo

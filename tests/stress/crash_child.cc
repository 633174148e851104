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
#include "tests/stress/crash_records.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/fault_file_system.h"

namespace mnemo {
namespace {

using Kind = CrashRecord::Kind;

uint64_t SizeOf(uint32_t key, uint64_t version) {
  const uint64_t hash = Checksum64({}, key * 7919ull + version);
  // Mostly small, some of a megabyte: records within and across blob files.
  return 1 + (hash % 10 == 0 ? hash / 10 % 1'000'000 : hash / 10 % 40'000);
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
      const PartKey part = TestPart(key);
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
      const std::string right = TestPayload(part, version, SizeOf(key, version));
      if (read->bytes.ToString() != right) Say(Kind::kWrong, key, version);
      Say(Kind::kFound, key, version);
      versions_[key] = version;
    }
    Say(Kind::kReady, 0, 0);
  }

  void Work(uint32_t thread) {
    std::mt19937_64 random(options_.seed * 31 + thread);
    while (!stop_) {
      const auto key = static_cast<uint32_t>(random() % (kCrashKeys / kCrashThreads) *
                                             kCrashThreads + thread);
      const PartKey part = TestPart(key);
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
    const uint64_t size = SizeOf(key, version);
    const std::string payload = TestPayload(part, version, size);
    Say(Kind::kBeginPut, key, version);
    const absl::Status put = PutPart(
        store_, part, payload, TestSpec(size, static_cast<uint32_t>(version), ClassOfKey(key)));
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

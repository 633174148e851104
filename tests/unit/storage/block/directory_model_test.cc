#include <fmt/format.h>

#include <map>
#include <optional>
#include <random>
#include <string>

#include "tests/unit/storage/block/directory_fixture.h"

namespace mnemo {
namespace {

using Outcome = Reservation::Outcome;
using DirectoryModelTest = DirectoryTest;

// Every operation at random, against a plain map.
TEST_F(DirectoryModelTest, AgreesWithAModelThroughAnyOperations) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  struct Known {
    EntryRef ref;
    bool pinned = false;
    std::optional<RamPlace> ram;
    std::optional<DiskPlace> disk;
  };
  std::map<std::string, Known> model;
  const auto key_of = [](uint64_t i) { return fmt::format("{}{}", std::string(i % 60, 'k'), i); };
  uint64_t pinned = 0;
  for (int step = 0; step < 100'000; ++step) {
    const std::string key = key_of(random() % 4000);
    const auto at = model.find(key);
    switch (random() % 6) {
      case 0:
      case 1: {
        const auto reserved = directory_.Reserve(New(Part(key)), Soon());
        ASSERT_OK(reserved);
        ASSERT_EQ(reserved->outcome, at == model.end() ? Outcome::kReserved : Outcome::kPresent);
        if (at != model.end()) break;
        const RamPlace ram = Ram(random());
        model[key] = {*directory_.Publish(reserved->ref, {random(), 1}, ram, std::nullopt), false,
                      ram, std::nullopt};
        break;
      }
      case 2: {
        if (at == model.end()) break;
        pinned -= at->second.pinned;
        Drop(at->second.ref.id);
        model.erase(at);
        break;
      }
      case 3: {
        if (at == model.end()) break;
        const auto change = directory_.SetDisk(at->second.ref, Disk());
        ASSERT_OK(change);
        ASSERT_EQ(change->previous, at->second.disk);
        at->second.ref = change->ref;
        at->second.disk = Disk();
        break;
      }
      case 4: {
        if (at == model.end()) break;
        const auto change = directory_.ClearRam(at->second.ref);
        ASSERT_EQ(change.ok(), at->second.disk.has_value());
        if (!change.ok()) break;
        ASSERT_EQ(change->previous, at->second.ram);
        at->second.ref = change->ref;
        at->second.ram.reset();
        break;
      }
      default: {
        const auto entry = directory_.Find(Part(key));
        ASSERT_EQ(entry.has_value(), at != model.end());
        if (!entry) break;
        ASSERT_EQ(entry->ref, at->second.ref);
        ASSERT_EQ(entry->ram, at->second.ram);
        ASSERT_EQ(entry->disk, at->second.disk);
        ASSERT_EQ(entry->key.key.view(), key);
        at->second.ref = *directory_.SetPinned(entry->ref, !at->second.pinned);
        at->second.pinned = !at->second.pinned;
        pinned += at->second.pinned ? 1 : -1;
      }
    }
  }
  const DirectoryUsage usage = directory_.TotalUsage();
  EXPECT_EQ(usage.parts, model.size());
  EXPECT_EQ(usage.pinned_bytes, pinned * 1000);
  uint64_t nearest = 0;
  uint64_t pinned_parts = 0;
  for (size_t level = 0; level < kLevelCount; ++level) {
    nearest += usage.nearest_parts[level];
    pinned_parts += usage.pinned_parts[level];
  }
  EXPECT_EQ(nearest, model.size());
  EXPECT_EQ(pinned_parts, static_cast<uint64_t>(pinned));
  uint64_t by_shard = 0;
  for (const uint64_t bytes : directory_.ExactBytesByShard()) by_shard += bytes;
  EXPECT_EQ(by_shard, usage.exact_bytes);
  EXPECT_EQ(by_shard, model.size() * 1000);
}

}  // namespace
}  // namespace mnemo

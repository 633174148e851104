#include "storage/block/upkeep.h"

#include <algorithm>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kTimeFile = "/CLOCK";
constexpr uint64_t kTimeMagic = 0x31636b6c636f6d6d;  // "mmoclkc1"
constexpr size_t kTimeBytes = 24;
constexpr size_t kLeasesAStep = 256;
// Slots looked at in one step: about a millisecond.
constexpr size_t kMaxSlotsAStep = 32768;
constexpr size_t kMinSlotsAStep = 64;

}  // namespace

WallTime ReadLastKnownTime(FileSystem& files, const std::string& data_directory) {
  const absl::StatusOr<std::string> bytes =
      ReadSmallFile(files, data_directory + std::string(kTimeFile), kTimeBytes);
  if (!bytes.ok() || bytes->size() != kTimeBytes) return {};
  ByteReader reader(AsBytes(*bytes));
  const auto magic = reader.Little<uint64_t>();
  const WallTime time{reader.Little<int64_t>()};
  const auto checksum = reader.Little<uint64_t>();
  const ByteView covered = AsBytes(*bytes).first(kTimeBytes - sizeof(checksum));
  if (magic != kTimeMagic || checksum != Checksum64(covered)) return {};
  return time;
}

Upkeep::Upkeep(StoreCore& core, FileSystem& files)
    : core_(core),
      files_(files),
      swept_(core.time().Mono()),
      maintained_(swept_),
      written_down_(swept_) {}

absl::Status Upkeep::WriteDownTime() {
  if (!expiring_.load(std::memory_order_relaxed)) return absl::OkStatus();
  std::string bytes;
  AppendLittle<uint64_t>(bytes, kTimeMagic);
  AppendLittle<int64_t>(bytes, core_.time().Wall().nanos);
  AppendLittle<uint64_t>(bytes, Checksum64(AsBytes(bytes)));
  return ReplaceFile(files_, core_.data_directory().path() + std::string(kTimeFile),
                     AsBytes(bytes));
}

bool Upkeep::EndLeases() {
  const EndedLeases ended = core_.leases.EndExpired(kLeasesAStep);
  core_.ReleaseHolds(ended.unleased);
  core_.ReleaseHolds(ended.new_leaves);
  return ended.count == kLeasesAStep;
}

bool Upkeep::SweepExpired(Nanos elapsed) {
  const uint64_t parts = core_.directory.TotalUsage().parts;
  const double share = std::min(
      1.0, static_cast<double>(elapsed.count()) / static_cast<double>(kSweepPeriod.count()));
  // Slots are up to twice the parts, and every shard counts as one more.
  const auto due = static_cast<size_t>(2.0 * share * static_cast<double>(parts + kShardCount));
  const size_t slots = std::clamp(due, kMinSlotsAStep, kMaxSlotsAStep);
  std::vector<EntryId> new_leaves;
  for (const EntryRef ref : core_.directory.Expired(cursor_, slots, new_leaves)) {
    // A busy one is met again by the next sweep.
    core_.RemoveExpired(ref, core_.gate.TryEnter(ref.id));
  }
  core_.ReleaseHolds(new_leaves);
  core_.events.Deliver();
  return due > kMaxSlotsAStep;
}

bool Upkeep::Step() {
  if (!working_.TryLock()) return false;
  const MonoTime now = core_.time().Mono();
  bool more = EndLeases();
  more |= SweepExpired(now - swept_);
  swept_ = now;
  if (now - maintained_ >= kMaintainPeriod) {
    maintained_ = now;
    // Why it failed is in the instances' figures, and it is tried again.
    core_.disks().Maintain().IgnoreError();
  }
  if (now - written_down_ >= kWriteDownPeriod) {
    written_down_ = now;
    // An older time is as true, and makes the next start more cautious.
    WriteDownTime().IgnoreError();
  }
  working_.Unlock();
  return more;
}

}  // namespace mnemo

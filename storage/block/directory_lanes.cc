#include "storage/block/directory_lanes.h"

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Fields are unsigned and sums wrap, so a difference may be added.
void Add(DirectoryUsage& to, const DirectoryUsage& more, uint64_t sign) {
  to.parts += sign * more.parts;
  to.exact_bytes += sign * more.exact_bytes;
  to.first_part_blocks += sign * more.first_part_blocks;
  to.pinned_bytes += sign * more.pinned_bytes;
  to.pending += sign * more.pending;
  for (size_t level = 0; level < kLevelCount; ++level) {
    to.level_parts[level] += sign * more.level_parts[level];
    to.level_bytes[level] += sign * more.level_bytes[level];
    to.level_exact_bytes[level] += sign * more.level_exact_bytes[level];
    to.nearest_parts[level] += sign * more.nearest_parts[level];
    to.nearest_exact_bytes[level] += sign * more.nearest_exact_bytes[level];
    to.pinned_parts[level] += sign * more.pinned_parts[level];
    to.pinned_exact_bytes[level] += sign * more.pinned_exact_bytes[level];
  }
  for (size_t codec = 0; codec < kCodecSlots; ++codec) {
    to.codec_stored_bytes[codec] += sign * more.codec_stored_bytes[codec];
    to.codec_exact_bytes[codec] += sign * more.codec_exact_bytes[codec];
  }
}

constexpr uint64_t kPlus = 1;
constexpr uint64_t kMinus = ~uint64_t{0};

}  // namespace

uint32_t LaneTable::Acquire(const Lane& lane) {
  MutexLock lock(mutex_);
  for (const uint32_t number : by_salt_[{lane.scope, lane.salt}]) {
    if (records_[number].lane == lane) {
      ++records_[number].references;
      return number;
    }
  }
  return AddLocked(lane);
}

uint32_t LaneTable::AddLocked(const Lane& lane) {
  uint32_t number;
  if (unused_.empty()) {
    number = static_cast<uint32_t>(records_.size());
    records_.emplace_back();
  } else {
    number = unused_.back();
    unused_.pop_back();
  }
  records_[number] = {lane, 1};
  by_salt_[{lane.scope, lane.salt}].push_back(number);
  ++spaces_[lane.scope].lanes;
  return number;
}

std::optional<uint32_t> LaneTable::AcquireIfPresent(const Lane& lane) {
  MutexLock lock(mutex_);
  const auto found = by_salt_.find({lane.scope, lane.salt});
  if (found == by_salt_.end()) return std::nullopt;
  for (const uint32_t number : found->second) {
    if (records_[number].lane == lane) {
      ++records_[number].references;
      return number;
    }
  }
  return std::nullopt;
}

std::vector<std::pair<uint32_t, Lane>> LaneTable::AcquireMatching(const ListFilter& filter) {
  std::vector<std::pair<uint32_t, Lane>> matching;
  MutexLock lock(mutex_);
  for (uint32_t number = 0; number < records_.size(); ++number) {
    Record& record = records_[number];
    if (record.references == 0) continue;
    if (filter.tenant && *filter.tenant != record.lane.scope.tenant) continue;
    if (filter.space && *filter.space != record.lane.scope.space) continue;
    if (filter.salt && *filter.salt != record.lane.salt) continue;
    ++record.references;
    matching.emplace_back(number, record.lane);
  }
  return matching;
}

std::vector<uint32_t> LaneTable::AcquireSalt(KeyScope scope, const SaltDigest& salt) {
  MutexLock lock(mutex_);
  const auto found = by_salt_.find({scope, salt});
  if (found == by_salt_.end()) return {};
  for (const uint32_t number : found->second) ++records_[number].references;
  return found->second;
}

void LaneTable::AddReference(uint32_t number) {
  MutexLock lock(mutex_);
  ++records_[number].references;
}

void LaneTable::Release(uint32_t number) {
  MutexLock lock(mutex_);
  Record& record = records_[number];
  MNEMO_CHECK(record.references > 0);
  if (--record.references > 0) return;
  const auto siblings = by_salt_.find({record.lane.scope, record.lane.salt});
  std::erase(siblings->second, number);
  if (siblings->second.empty()) by_salt_.erase(siblings);
  const auto space = spaces_.find(record.lane.scope);
  if (--space->second.lanes == 0) spaces_.erase(space);
  unused_.push_back(number);
}

Lane LaneTable::Get(uint32_t number) const {
  MutexLock lock(mutex_);
  return records_[number].lane;
}

void LaneTable::Account(uint32_t number, const DirectoryUsage& before,
                        const DirectoryUsage& after) {
  MutexLock lock(mutex_);
  const Lane& lane = records_[number].lane;
  DirectoryUsage& usage = spaces_[lane.scope].usage;
  Add(usage, before, kMinus);
  Add(usage, after, kPlus);
  if (lane.part == PartId{}) usage.first_part_blocks += after.parts - before.parts;
}

DirectoryUsage LaneTable::Usage(KeyScope scope) const {
  MutexLock lock(mutex_);
  const auto found = spaces_.find(scope);
  return found == spaces_.end() ? DirectoryUsage{} : found->second.usage;
}

DirectoryUsage LaneTable::TenantUsage(uint64_t tenant) const {
  DirectoryUsage sum;
  MutexLock lock(mutex_);
  for (const auto& [scope, space] : spaces_) {
    if (scope.tenant == tenant) Add(sum, space.usage, kPlus);
  }
  return sum;
}

DirectoryUsage LaneTable::TotalUsage() const {
  DirectoryUsage sum;
  MutexLock lock(mutex_);
  for (const auto& [scope, space] : spaces_) Add(sum, space.usage, kPlus);
  return sum;
}

uint64_t LaneTable::MemoryBytes() const {
  MutexLock lock(mutex_);
  // A salt's vector holds at least one number, in the allocator's least size.
  return records_.capacity() * sizeof(Record) + unused_.capacity() * sizeof(uint32_t) +
         by_salt_.capacity() * (sizeof(SaltKey) + sizeof(std::vector<uint32_t>) + 1) +
         by_salt_.size() * 16 + spaces_.capacity() * (sizeof(KeyScope) + sizeof(Space) + 1);
}

}  // namespace mnemo

#include "storage/policy/eviction_queues.h"

namespace mnemo {
namespace {

constexpr std::array<Level, kLevelCount> kLevels = {Level::kL1, Level::kL2, Level::kL3,
                                                    Level::kDisk};

Level OtherOfSet(Level level) {
  switch (level) {
    case Level::kL1:
      return Level::kL2;
    case Level::kL2:
      return Level::kL1;
    case Level::kL3:
      return Level::kDisk;
    case Level::kDisk:
      break;
  }
  return Level::kL3;
}

}  // namespace

EvictionQueues::EvictionQueues(const std::array<PolicyKind, kLevelCount>& kinds) {
  MutexLock lock(mutex_);
  for (const Level level : kLevels) {
    policies_[Index(level)] = MakeEvictionPolicy(kinds[Index(level)], level, links_);
  }
}

void EvictionQueues::Insert(Level level, EntryId id, EntryId parent, uint64_t bytes,
                            uint64_t fingerprint) {
  MutexLock lock(mutex_);
  At(OtherOfSet(level)).Remove(id, /*evicted=*/false, fingerprint);
  At(level).Insert(id, parent, bytes, fingerprint);
}

void EvictionQueues::Remove(Level level, EntryId id, bool evicted, uint64_t fingerprint) {
  MutexLock lock(mutex_);
  At(level).Remove(id, evicted, fingerprint);
}

void EvictionQueues::RemoveAll(EntryId id) {
  MutexLock lock(mutex_);
  for (const Level level : kLevels) At(level).Remove(id, /*evicted=*/false, 0);
}

void EvictionQueues::Touch(std::span<const EntryId> chain) {
  MutexLock lock(mutex_);
  // The root last: where order is recency, it is the last to leave.
  for (size_t i = chain.size(); i-- > 0;) {
    const EntryLinkTable::Node* const node = links_.Find(chain[i]);
    if (node == nullptr) continue;
    for (const Level level : kLevels) {
      if (EntryLinkTable::IsAt(*node, level)) At(level).Touch(chain[i]);
    }
  }
}

std::optional<EntryId> EvictionQueues::Victim(Level level) {
  MutexLock lock(mutex_);
  return At(level).Victim();
}

void EvictionQueues::Release(EntryId id) {
  MutexLock lock(mutex_);
  for (const Level level : kLevels) At(level).Release(id);
}

void EvictionQueues::MarkLeftWindow(EntryId id) {
  MutexLock lock(mutex_);
  for (const Level level : kLevels) At(level).MarkLeftWindow(id);
}

uint64_t EvictionQueues::entries(Level level) const {
  MutexLock lock(mutex_);
  return policies_[Index(level)]->entries();
}

uint64_t EvictionQueues::MemoryBytes() const {
  MutexLock lock(mutex_);
  uint64_t bytes = links_.MemoryBytes();
  for (const std::unique_ptr<EvictionPolicy>& policy : policies_) bytes += policy->MemoryBytes();
  return bytes;
}

}  // namespace mnemo

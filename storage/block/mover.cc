#include "storage/block/mover.h"

#include <algorithm>

#include "storage/base/units.h"

namespace mnemo {
namespace {

// What one step moves at most, so that workers come round to everything.
constexpr uint64_t kStepBytes = 16 * kMiB;
constexpr int kPromotionsAStep = 16;

}  // namespace

bool Mover::Step() {
  bool more = upkeep_.Step();
  // The farthest first: what leaves a level finds room at the next.
  for (const Level level : {Level::kDisk, Level::kL3, Level::kL2, Level::kL1}) {
    more |= Relieve(level);
  }
  more |= reencoder_.Step();
  sampler_.Step();
  for (int i = 0; i < kPromotionsAStep && promotion_.Step(); ++i) {
  }
  return more || promotion_.waiting();
}

bool Mover::Relieve(Level level) {
  const uint64_t capacity = core_.Capacity(level);
  if (capacity == 0) return false;
  uint64_t wanted = 0;
  {
    const uint64_t used = core_.Used(level);
    MutexLock lock(mutex_);
    wanted = watermarks_[Index(level)].BytesToFree(used, capacity);
  }
  if (wanted == 0) return false;
  // If all that is left has to stay, trying again at once would find the same.
  return demotion_.MakeRoom(level, std::min(wanted, kStepBytes));
}

void Mover::WaitForWork(Nanos timeout) {
  MutexLock lock(mutex_);
  if (!woken_) work_.WaitFor(mutex_, timeout);
  woken_ = false;
}

void Mover::Wake() {
  MutexLock lock(mutex_);
  woken_ = true;
  work_.SignalAll();
}

void Mover::AfterWrite() {
  const double high = core_.options().high_watermark;
  for (const Level level : {Level::kL1, Level::kL3}) {
    if (static_cast<double>(core_.Used(level)) >=
        high * static_cast<double>(core_.Capacity(level))) {
      Wake();
      return;
    }
  }
}

void Mover::AfterUse(EntryId id, Level level, uint32_t hits) {
  if (Promote(level, hits, core_.rules()) && promotion_.Suggest(id)) Wake();
}

}  // namespace mnemo

// Background movement: one bounded step at a time.
#pragma once

#include <array>

#include "storage/base/mutex.h"
#include "storage/block/demotion.h"
#include "storage/block/fidelity_sampler.h"
#include "storage/block/promotion.h"
#include "storage/block/reencoder.h"
#include "storage/block/store_core.h"
#include "storage/block/upkeep.h"
#include "storage/policy/placement.h"

namespace mnemo {

// Thread-safe.
class Mover {
 public:
  Mover(StoreCore& core, FileSystem& files, const Watermark& watermark)
      : demotion_(core),
        promotion_(core, demotion_),
        upkeep_(core, files),
        reencoder_(core, demotion_),
        sampler_(core),
        core_(core),
        watermarks_{watermark, watermark, watermark, watermark} {}

  Demotion& demotion() { return demotion_; }
  Upkeep& upkeep() { return upkeep_; }
  Promotion& promotion() { return promotion_; }
  const Reencoder& reencoder() const { return reencoder_; }
  const FidelitySampler& sampler() const { return sampler_; }

  // As BlockStore.
  bool Step();
  void WaitForWork(Nanos timeout);
  void Wake();

  // After a part was published: wakes a worker if a level is past its mark.
  void AfterWrite();
  // After a use that was found at `level`; `hits` counts it.
  void AfterUse(EntryId id, Level level, uint32_t hits);

 private:
  bool Relieve(Level level);

  Demotion demotion_;
  Promotion promotion_;
  Upkeep upkeep_;
  Reencoder reencoder_;
  FidelitySampler sampler_;
  StoreCore& core_;
  Mutex mutex_;  // innermost
  CondVar work_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  std::array<Watermark, kLevelCount> watermarks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

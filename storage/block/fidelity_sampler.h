// How far from what was put the copies are that the node holds now, by sampling them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/base/units.h"
#include "storage/block/directory.h"
#include "storage/block/store_core.h"
#include "storage/codec/codec.h"

namespace mnemo {

// Thread-safe. Samples are drawn from the whole directory, each slot as likely as another.
// An envelope says what was measured when its part was encoded; the exact bytes are gone.
// Memory: 4 bytes a sample that is remembered.
class FidelitySampler {
 public:
  // One step a period looks at so many slots, and then at the envelopes of at most so many
  // parts; once those lie on disk it stops behind kStepBytes.
  static constexpr Nanos kPeriod = std::chrono::seconds(1);
  static constexpr int kStepSlots = 256;
  static constexpr int kStepSamples = 8;
  static constexpr uint64_t kStepBytes = 4 * kMiB;
  // Of each form, so many samples count.
  static constexpr size_t kRemembered = 256;

  explicit FidelitySampler(StoreCore& core) : core_(core) {}

  // At most once a period; others return at once.
  void Step();
  struct Sampled {
    std::optional<double> error;  // mean |x' - x| / |x| of the samples; none: no sample
    uint64_t samples = 0;         // up to kRemembered
  };
  // Of a form (StoredForm, below kCodecSlots); nothing of the exact ones.
  Sampled Of(uint8_t form) const;

 private:
  // Samples of one form, the newest in place of the oldest.
  struct Samples {
    std::array<float, kRemembered> errors{};
    uint64_t seen = 0;
  };
  // Of the entry's lossy copy, if it has one; adds what was read of disks. Held: nothing.
  void Look(const DirectoryEntry& entry, int& samples, uint64_t& read_bytes);
  void Remember(uint8_t form, float error);

  StoreCore& core_;
  mutable Mutex mutex_;  // innermost
  std::optional<MonoTime> stepped_ ABSL_GUARDED_BY(mutex_);
  uint64_t drawn_ ABSL_GUARDED_BY(mutex_) = 0;
  std::array<Samples, kCodecSlots> samples_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo

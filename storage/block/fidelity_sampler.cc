#include "storage/block/fidelity_sampler.h"

#include <algorithm>

#include "storage/base/checksum.h"
#include "storage/block/part_encoding.h"
#include "storage/codec/envelope.h"

namespace mnemo {

void FidelitySampler::Step() {
  uint64_t drawn;
  {
    MutexLock lock(mutex_);
    const MonoTime now = core_.time().Mono();
    if (stepped_ && now - *stepped_ < kPeriod) return;
    stepped_ = now;
    drawn = drawn_;
    drawn_ += kStepSlots;
  }
  int samples = 0;
  uint64_t read_bytes = 0;
  for (int i = 0; i < kStepSlots && samples < kStepSamples && read_bytes < kStepBytes; ++i) {
    // As random as need be, and the same in every run.
    const uint64_t random = Checksum64({}, ++drawn);
    const std::optional<DirectoryEntry> entry = core_.directory.InSlot(random);
    if (entry) Look(*entry, samples, read_bytes);
  }
}

void FidelitySampler::Look(const DirectoryEntry& entry, int& samples, uint64_t& read_bytes) {
  const bool in_ram = entry.ram && IsLossyForm(entry.ram->codec);
  if (!in_ram && !(entry.disk && IsLossyForm(entry.disk->codec))) return;
  ++samples;
  if (!in_ram) read_bytes += entry.disk->stored_bytes;
  const absl::StatusOr<PinnedBytes> stored =
      in_ram ? core_.Ram(entry.ram->level).Get(StoredKey(), entry.ram->locator)
             : core_.disks().Get(*entry.disk, entry.key.Stored());
  // What was moved meanwhile, or is damaged, whoever reads it will see.
  if (!stored.ok()) return;
  const absl::StatusOr<Envelope> envelope = CheckedHeader(entry, *stored);
  if (!envelope.ok() || !envelope->lossy()) return;
  Remember(FormOfEnvelope(*envelope), envelope->error());
}

void FidelitySampler::Remember(uint8_t form, float error) {
  MutexLock lock(mutex_);
  Samples& samples = samples_[form];
  samples.errors[samples.seen++ % kRemembered] = error;
}

FidelitySampler::Sampled FidelitySampler::Of(uint8_t form) const {
  MutexLock lock(mutex_);
  const Samples& samples = samples_[form];
  const uint64_t count = std::min<uint64_t>(samples.seen, kRemembered);
  if (count == 0) return {};
  double sum = 0;
  for (uint64_t i = 0; i < count; ++i) sum += samples.errors[i];
  return {.error = sum / static_cast<double>(count), .samples = count};
}

}  // namespace mnemo

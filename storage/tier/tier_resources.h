// What all instances of a process share: cache, write buffers, background
// threads and the rate of background writing.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mnemo {

struct TierResourcesOptions {
  // Block cache with the write buffers charged to it: what all instances
  // together hold in memory. Behaviour: 16 MiB to 1 TiB.
  uint64_t memory_bytes = 512ull << 20;
  // The share of `memory_bytes` that write buffers may take before they are
  // flushed. One value larger than this is still taken, alone. Behaviour:
  // 4 MiB to `memory_bytes`.
  uint64_t write_buffer_bytes = 256ull << 20;
  // Flushes and compactions of all instances together. Speed: 0 is no limit,
  // otherwise at least 1 MiB/s.
  uint64_t background_bytes_per_second = 0;
  // Threads for flushes and for compactions, each. Speed: 1 to 64.
  int background_threads = 2;

  // Errors: kInvalidArgument.
  absl::Status Validate() const;
};

// Outlives every Instance that was opened with it. Thread-safe.
class TierResources {
 public:
  struct Impl;  // storage/tier/rocks_resources.h

  // Errors: kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<TierResources>> Create(
      const TierResourcesOptions& options);
  ~TierResources();
  TierResources(const TierResources&) = delete;
  TierResources& operator=(const TierResources&) = delete;

  // Cache and write buffers together. At most the budget, but for a write
  // buffer that grew by one large value, and for blocks readers hold pinned.
  uint64_t memory_used_bytes() const;
  uint64_t write_buffer_used_bytes() const;
  // Errors: kInvalidArgument, as TierResourcesOptions::memory_bytes. Shrinking
  // evicts at once.
  absl::Status SetMemoryBytes(uint64_t bytes);

  Impl& impl() const { return *impl_; }

 private:
  explicit TierResources(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace mnemo

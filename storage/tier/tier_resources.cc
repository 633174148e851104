#include "storage/tier/tier_resources.h"

#include <fmt/format.h>

#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_resources.h"

namespace mnemo {
namespace {

constexpr uint64_t kMinMemory = 16ull << 20;
constexpr uint64_t kMaxMemory = 1ull << 40;
constexpr uint64_t kMinWriteBuffers = 4ull << 20;
constexpr uint64_t kMinRate = 1ull << 20;
constexpr int kMaxThreads = 64;

absl::Status ValidateMemory(uint64_t bytes) {
  if (bytes >= kMinMemory && bytes <= kMaxMemory) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("memory_bytes is {} ({} to {})", bytes, kMinMemory, kMaxMemory));
}

}  // namespace

absl::Status TierResourcesOptions::Validate() const {
  MNEMO_RETURN_IF_ERROR(ValidateMemory(memory_bytes));
  if (write_buffer_bytes < kMinWriteBuffers || write_buffer_bytes > memory_bytes) {
    return absl::InvalidArgumentError(fmt::format("write_buffer_bytes is {} ({} to {})",
                                                  write_buffer_bytes, kMinWriteBuffers,
                                                  memory_bytes));
  }
  if (background_bytes_per_second != 0 && background_bytes_per_second < kMinRate) {
    return absl::InvalidArgumentError(
        fmt::format("background_bytes_per_second is {} (0, or from {})",
                    background_bytes_per_second, kMinRate));
  }
  if (background_threads < 1 || background_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        fmt::format("background_threads is {} (1 to {})", background_threads, kMaxThreads));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TierResources>> TierResources::Create(
    const TierResourcesOptions& options) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>();
  // Not a strict limit: with one, a read would fail when readers pin the whole
  // cache.
  impl->cache = rocksdb::NewLRUCache(options.memory_bytes);
  impl->write_buffers =
      std::make_shared<rocksdb::WriteBufferManager>(options.write_buffer_bytes, impl->cache);
  if (options.background_bytes_per_second > 0) {
    impl->rate_limiter.reset(rocksdb::NewGenericRateLimiter(
        static_cast<int64_t>(options.background_bytes_per_second)));
  }
  impl->background_threads = options.background_threads;
  return std::unique_ptr<TierResources>(new TierResources(std::move(impl)));
}

TierResources::TierResources(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TierResources::~TierResources() = default;

uint64_t TierResources::memory_used_bytes() const { return impl_->cache->GetUsage(); }
uint64_t TierResources::write_buffer_used_bytes() const {
  return impl_->write_buffers->memory_usage();
}

absl::Status TierResources::SetMemoryBytes(uint64_t bytes) {
  MNEMO_RETURN_IF_ERROR(ValidateMemory(bytes));
  impl_->cache->SetCapacity(bytes);
  return absl::OkStatus();
}

}  // namespace mnemo

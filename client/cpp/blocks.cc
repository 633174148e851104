// The block service, waiting for each answer.
#include <algorithm>
#include <chrono>
#include <utility>

#include "client/cpp/core.h"
#include "client/cpp/watch.h"
#include "mnemo/client.h"

namespace mnemo::client {

absl::StatusOr<OfferResult> Blocks::Offer(const OfferRequest& request, const CallOptions& options) {
  if (auto answer = core_.lane().Offer(request, options)) return *std::move(answer);
  return AsFuture<OfferResult>(
             [&](auto done) { AsyncBlocks(core_).Offer(request, std::move(done), options); })
      .get();
}

absl::StatusOr<PutResult> Blocks::Put(const PutRequest& request, const CallOptions& options) {
  if (auto answer = core_.lane().Put(request, options)) return *std::move(answer);
  return AsFuture<PutResult>(
             [&](auto done) { AsyncBlocks(core_).Put(request, std::move(done), options); })
      .get();
}

absl::StatusOr<MatchResult> Blocks::Match(const MatchRequest& request, const CallOptions& options) {
  if (auto answer = core_.lane().Match(request, options)) {
    if (answer->ok()) {
      (*answer)->fetch_time = core_.lane_meter((*answer)->plane).Estimate(SharesOf(**answer));
    }
    return *std::move(answer);
  }
  return AsFuture<MatchResult>(
             [&](auto done) { AsyncBlocks(core_).Match(request, std::move(done), options); })
      .get();
}

absl::StatusOr<GetResult> Blocks::Get(const GetRequest& request, const CallOptions& options) {
  const auto began = std::chrono::steady_clock::now();
  if (auto answer = core_.lane().Get(request, options)) {
    if (answer->ok()) {
      core_.lane_meter((*answer)->plane)
          .Record(SharesOf(**answer, std::max<size_t>(1, request.parts.size())),
                  std::chrono::steady_clock::now() - began);
    }
    return *std::move(answer);
  }
  return AsFuture<GetResult>(
             [&](auto done) { AsyncBlocks(core_).Get(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint64_t> Blocks::Delete(const DeleteRequest& request, const CallOptions& options) {
  return AsFuture<uint64_t>(
             [&](auto done) { AsyncBlocks(core_).Delete(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint32_t> Blocks::Touch(const KeysRequest& request, const CallOptions& options) {
  if (auto answer = core_.lane().Touch(request, options)) return *std::move(answer);
  return AsFuture<uint32_t>(
             [&](auto done) { AsyncBlocks(core_).Touch(request, std::move(done), options); })
      .get();
}

absl::StatusOr<PrefetchResult> Blocks::Prefetch(const PrefetchRequest& request,
                                                const CallOptions& options) {
  if (auto answer = core_.lane().Prefetch(request, options)) return *std::move(answer);
  return AsFuture<PrefetchResult>(
             [&](auto done) { AsyncBlocks(core_).Prefetch(request, std::move(done), options); })
      .get();
}

absl::StatusOr<PinResult> Blocks::Pin(const KeysRequest& request, const CallOptions& options) {
  return AsFuture<PinResult>(
             [&](auto done) { AsyncBlocks(core_).Pin(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint64_t> Blocks::Unpin(const KeysRequest& request, const CallOptions& options) {
  return AsFuture<uint64_t>(
             [&](auto done) { AsyncBlocks(core_).Unpin(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint32_t> Blocks::Renew(uint64_t lease, uint32_t lease_ms,
                                       const CallOptions& options) {
  return AsFuture<uint32_t>([&](auto done) {
           AsyncBlocks(core_).Renew(lease, lease_ms, std::move(done), options);
         })
      .get();
}

absl::Status Blocks::Release(uint64_t lease, const CallOptions& options) {
  return Renew(lease, 0, options).status();
}

absl::StatusOr<std::vector<PartInfo>> Blocks::Describe(const KeysRequest& request,
                                                       const CallOptions& options) {
  return AsFuture<std::vector<PartInfo>>(
             [&](auto done) { AsyncBlocks(core_).Describe(request, std::move(done), options); })
      .get();
}

absl::StatusOr<BlockPage> Blocks::List(const ListBlocksRequest& request,
                                       const CallOptions& options) {
  return AsFuture<BlockPage>(
             [&](auto done) { AsyncBlocks(core_).List(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint64_t> Blocks::Flush(const std::optional<SpaceRef>& space,
                                       const CallOptions& options) {
  return AsFuture<uint64_t>(
             [&](auto done) { AsyncBlocks(core_).Flush(space, std::move(done), options); })
      .get();
}

absl::StatusOr<std::unique_ptr<Watch>> Blocks::Watch(const SpaceRef& space,
                                                     uint64_t from_sequence) {
  return std::make_unique<client::Watch>(
      std::make_unique<client::Watch::Impl>(core_, space, from_sequence));
}

}  // namespace mnemo::client

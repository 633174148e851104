// The block service, waiting for each answer.
#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "client/cpp/core.h"
#include "client/cpp/watch.h"
#include "mnemo/client.h"

namespace mnemo::client {
namespace {

// One deadline for a call, whichever ways it goes one after the other.
class TimeLeft {
 public:
  TimeLeft(const CallOptions& options, Millis standard)
      : options_(options),
        deadline_(std::chrono::steady_clock::now() +
                  (options.timeout > Millis(0) ? options.timeout : standard)) {}

  // The options with what is left; where nothing is, with the least that there is.
  CallOptions Options() const {
    CallOptions left = options_;
    left.timeout = std::max(std::chrono::ceil<Millis>(deadline_ - std::chrono::steady_clock::now()),
                            Millis(1));
    return left;
  }

 private:
  const CallOptions options_;
  const std::chrono::steady_clock::time_point deadline_;
};

// By a lane, or by gRPC where it does not go by one.
template <typename Result, typename ByLane, typename ByGrpc>
absl::StatusOr<Result> ByEither(const TimeLeft& time, ByLane by_lane, ByGrpc by_grpc) {
  if (std::optional<absl::StatusOr<Result>> answer = by_lane(time.Options())) {
    return *std::move(answer);
  }
  return AsFuture<Result>([&](auto done) { by_grpc(std::move(done), time.Options()); }).get();
}

}  // namespace

absl::StatusOr<OfferResult> Blocks::Offer(const OfferRequest& request, const CallOptions& options) {
  return ByEither<OfferResult>(
      TimeLeft(options, core_.options().timeout),
      [&](const CallOptions& left) { return core_.lane().Offer(request, left); },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Offer(request, std::move(done), left);
      });
}

absl::StatusOr<PutResult> Blocks::Put(const PutRequest& request, const CallOptions& options) {
  return ByEither<PutResult>(
      TimeLeft(options, core_.options().transfer_timeout),
      [&](const CallOptions& left) { return core_.lane().Put(request, left); },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Put(request, std::move(done), left);
      });
}

absl::StatusOr<MatchResult> Blocks::Match(const MatchRequest& request, const CallOptions& options) {
  return ByEither<MatchResult>(
      TimeLeft(options, core_.options().timeout),
      [&](const CallOptions& left) {
        auto answer = core_.lane().Match(request, left);
        if (answer && answer->ok()) {
          (*answer)->fetch_time = core_.lane_meter((*answer)->plane).Estimate(SharesOf(**answer));
        }
        return answer;
      },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Match(request, std::move(done), left);
      });
}

absl::StatusOr<GetResult> Blocks::Get(const GetRequest& request, const CallOptions& options) {
  const auto began = std::chrono::steady_clock::now();
  return ByEither<GetResult>(
      TimeLeft(options, core_.options().transfer_timeout),
      [&](const CallOptions& left) {
        auto answer = core_.lane().Get(request, left);
        if (answer && answer->ok()) {
          core_.lane_meter((*answer)->plane)
              .Record(SharesOf(**answer, std::max<size_t>(1, request.parts.size())),
                      std::chrono::steady_clock::now() - began);
        }
        return answer;
      },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Get(request, std::move(done), left);
      });
}

absl::StatusOr<uint64_t> Blocks::Delete(const DeleteRequest& request, const CallOptions& options) {
  return AsFuture<uint64_t>(
             [&](auto done) { AsyncBlocks(core_).Delete(request, std::move(done), options); })
      .get();
}

absl::StatusOr<uint32_t> Blocks::Touch(const KeysRequest& request, const CallOptions& options) {
  return ByEither<uint32_t>(
      TimeLeft(options, core_.options().timeout),
      [&](const CallOptions& left) { return core_.lane().Touch(request, left); },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Touch(request, std::move(done), left);
      });
}

absl::StatusOr<PrefetchResult> Blocks::Prefetch(const PrefetchRequest& request,
                                                const CallOptions& options) {
  return ByEither<PrefetchResult>(
      TimeLeft(options, core_.options().timeout),
      [&](const CallOptions& left) { return core_.lane().Prefetch(request, left); },
      [&](auto done, const CallOptions& left) {
        AsyncBlocks(core_).Prefetch(request, std::move(done), left);
      });
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

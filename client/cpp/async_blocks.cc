// The block service without waiting.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "client/cpp/call.h"
#include "client/cpp/convert.h"
#include "client/cpp/fetch_meter.h"
#include "client/cpp/get_call.h"
#include "client/cpp/put_call.h"
#include "mnemo/client.h"

namespace mnemo::client {
namespace {

using Stub = v1::BlockService::StubInterface::async_interface;

// Starts a call and delivers what `convert` makes of its answer.
template <typename Request, typename Response, typename Result, typename Convert>
void Unary(Core& core, const CallSettings& settings,
           UnaryMethod<v1::BlockService, Request, Response> method, Request request,
           Done<Result> done, Convert convert) {
  Call::Start(std::make_unique<UnaryCall<v1::BlockService, Request, Response>>(
      core, settings, method, std::move(request),
      [done = std::move(done), convert](const absl::Status& status, Response& response) {
        if (!status.ok()) {
          done(status);
        } else {
          done(convert(response));
        }
      }));
}

absl::Status CheckDestinations(const GetRequest& request) {
  const size_t parts = std::max<size_t>(1, request.parts.size());
  if (request.destinations.size() == request.keys.size() * parts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("destinations has {} entries, needed are {}, one for each key and part",
                  request.destinations.size(), request.keys.size() * parts));
}

}  // namespace

void AsyncBlocks::Offer(const OfferRequest& request, Done<OfferResult> done,
                        const CallOptions& options) {
  // Not repeatable: a second Offer would find the parts reserved by the first.
  Unary<v1::OfferRequest, v1::OfferResponse>(
      core_, ControlCall(core_, options, Repeat::kUnsafe), &Stub::Offer, ToMessage(request),
      std::move(done), [](const v1::OfferResponse& r) { return FromMessage(r); });
}

void AsyncBlocks::Put(const PutRequest& request, Done<PutResult> done, const CallOptions& options) {
  Call::Start(
      std::make_unique<PutCall>(core_, TransferCall(core_, options), request, std::move(done)));
}

void AsyncBlocks::Match(const MatchRequest& request, Done<MatchResult> done,
                        const CallOptions& options) {
  Unary<v1::MatchRequest, v1::MatchResponse>(
      core_, ControlCall(core_, options), &Stub::Match, ToMessage(request), std::move(done),
      [keys = request.keys.size(), &meter = core_.meter()](const v1::MatchResponse& r) {
        MatchResult result = FromMessage(r, keys);
        result.fetch_time = meter.Estimate(SharesOf(result));
        return result;
      });
}

void AsyncBlocks::Get(const GetRequest& request, Done<GetResult> done, const CallOptions& options) {
  if (absl::Status status = CheckDestinations(request); !status.ok()) {
    done(status);
    return;
  }
  const auto measured = [&meter = core_.meter(), began = std::chrono::steady_clock::now(),
                         width = std::max<size_t>(1, request.parts.size()),
                         done = std::move(done)](absl::StatusOr<GetResult> result) {
    if (result.ok()) {
      meter.Record(SharesOf(*result, width), std::chrono::steady_clock::now() - began);
    }
    done(std::move(result));
  };
  Call::Start(std::make_unique<GetCall>(core_, TransferCall(core_, options), request, measured));
}

void AsyncBlocks::Delete(const DeleteRequest& request, Done<uint64_t> done,
                         const CallOptions& options) {
  Unary<v1::DeleteRequest, v1::DeleteResponse>(
      core_, ControlCall(core_, options), &Stub::Delete, ToMessage(request), std::move(done),
      [](const v1::DeleteResponse& r) { return r.parts_deleted(); });
}

void AsyncBlocks::Touch(const KeysRequest& request, Done<uint32_t> done,
                        const CallOptions& options) {
  Unary<v1::TouchRequest, v1::TouchResponse>(
      core_, ControlCall(core_, options), &Stub::Touch, ToKeysMessage<v1::TouchRequest>(request),
      std::move(done), [](const v1::TouchResponse& r) { return r.found(); });
}

void AsyncBlocks::Prefetch(const PrefetchRequest& request, Done<PrefetchResult> done,
                           const CallOptions& options) {
  // A second one, if the first was lost on its way back, finds less to do.
  Unary<v1::PrefetchRequest, v1::PrefetchResponse>(
      core_, ControlCall(core_, options), &Stub::Prefetch, ToMessage(request), std::move(done),
      [](const v1::PrefetchResponse& r) {
        return PrefetchResult{.prefetch = r.prefetch(),
                              .queued = r.queued(),
                              .in_ram = r.in_ram(),
                              .absent = r.absent(),
                              .dropped = r.dropped()};
      });
}

void AsyncBlocks::Pin(const KeysRequest& request, Done<PinResult> done,
                      const CallOptions& options) {
  Unary<v1::PinRequest, v1::PinResponse>(
      core_, TransferCall(core_, options), &Stub::Pin, ToKeysMessage<v1::PinRequest>(request),
      std::move(done), [](const v1::PinResponse& r) {
        return PinResult{.parts_pinned = r.parts_pinned(),
                         .missing = {r.missing().begin(), r.missing().end()}};
      });
}

void AsyncBlocks::Unpin(const KeysRequest& request, Done<uint64_t> done,
                        const CallOptions& options) {
  Unary<v1::UnpinRequest, v1::UnpinResponse>(
      core_, ControlCall(core_, options), &Stub::Unpin, ToKeysMessage<v1::UnpinRequest>(request),
      std::move(done), [](const v1::UnpinResponse& r) { return r.parts_unpinned(); });
}

void AsyncBlocks::Renew(uint64_t lease, uint32_t lease_ms, Done<uint32_t> done,
                        const CallOptions& options) {
  v1::RenewRequest request;
  request.set_lease(lease);
  request.set_lease_ms(lease_ms);
  Unary<v1::RenewRequest, v1::RenewResponse>(
      core_, ControlCall(core_, options), &Stub::Renew, std::move(request), std::move(done),
      [](const v1::RenewResponse& r) { return r.lease_ms(); });
}

void AsyncBlocks::Describe(const KeysRequest& request, Done<std::vector<PartInfo>> done,
                           const CallOptions& options) {
  Unary<v1::DescribeRequest, v1::DescribeResponse>(
      core_, ControlCall(core_, options), &Stub::Describe,
      ToKeysMessage<v1::DescribeRequest>(request), std::move(done),
      [](const v1::DescribeResponse& r) { return FromMessages<PartInfo>(r.parts()); });
}

void AsyncBlocks::List(const ListBlocksRequest& request, Done<BlockPage> done,
                       const CallOptions& options) {
  Unary<v1::ListBlocksRequest, v1::ListBlocksResponse>(
      core_, ControlCall(core_, options), &Stub::List, ToMessage(request), std::move(done),
      [](const v1::ListBlocksResponse& r) {
        return BlockPage{.parts = FromMessages<PartInfo>(r.parts()),
                         .next_page_token = r.next_page_token()};
      });
}

void AsyncBlocks::Flush(const std::optional<SpaceRef>& space, Done<uint64_t> done,
                        const CallOptions& options) {
  v1::FlushRequest request;
  if (space) *request.mutable_space() = ToMessage(*space);
  Unary<v1::FlushRequest, v1::FlushResponse>(
      core_, TransferCall(core_, options), &Stub::Flush, std::move(request), std::move(done),
      [](const v1::FlushResponse& r) { return r.parts_written(); });
}

}  // namespace mnemo::client

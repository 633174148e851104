#include "server/engine/block_engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/engine/get_session.h"
#include "server/engine/match.h"
#include "server/engine/put_session.h"
#include "server/engine/request_keys.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kDefaultReservationMs = 5000;
constexpr uint32_t kMaxMs = 60000;  // of a reservation or a lease
constexpr uint32_t kDefaultPage = 1000;
constexpr uint32_t kMaxPage = 10000;
constexpr size_t kMaxKeysPerDescribe = 4096;
constexpr size_t kMaxPartsPerDescribe = 16384;  // fit an answer, and memory
// Keys handled at once where a call may name 65,536 of them.
constexpr size_t kKeysPerStep = 1024;

absl::Status CheckMax(std::string_view field, uint64_t value, uint64_t high) {
  if (value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {}; it must be at most {}", field, value, high));
}

absl::Status CheckCount(std::string_view field, size_t count, size_t high) {
  if (count >= 1 && count <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} holds {}; it must hold 1 to {}", field, count, high));
}

// Calls `visit(first key, parts)` for `parts` of the keys, some keys at a time,
// until the call has ended or a visit fails.
template <typename Visit>
absl::Status ForEachStep(const CallContext& call, const Clock& clock, const CallScope& scope,
                         const KeysView& keys, const std::vector<PartId>& parts,
                         const Visit& visit) {
  MNEMO_RETURN_IF_ERROR(CheckKeys(scope, keys, kMaxKeysPerCall));
  const size_t step = std::max<size_t>(1, kKeysPerStep / parts.size());
  for (size_t begin = 0; begin < keys.keys.size(); begin += step) {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call, clock));
    const size_t end = std::min(keys.keys.size(), begin + step);
    MNEMO_RETURN_IF_ERROR(visit(begin, PartKeysOf(scope, keys, begin, end, parts), parts.size()));
  }
  return absl::OkStatus();
}

// The same for all parts of the space.
template <typename Visit>
absl::Status ForEachStep(const CallContext& call, const Clock& clock, const CallScope& scope,
                         const KeysView& keys, const Visit& visit) {
  return ForEachStep(call, clock, scope, keys, AllParts(scope.spec()), visit);
}

}  // namespace

BlockEngine::BlockEngine(const SpaceEngine& spaces, BlockStore& store, EventHub& events,
                         Clock& clock, EngineObserver& observer, const PrefetchOptions& prefetch)
    : spaces_(spaces),
      store_(store),
      events_(events),
      clock_(clock),
      observer_(observer),
      reservations_(clock),
      // An id of an earlier run must not name a prefetch of this one.
      prefetches_(prefetch, static_cast<uint64_t>(clock.Wall().nanos)),
      follower_(store, prefetches_) {}

absl::StatusOr<OfferAnswer> BlockEngine::Offer(const CallContext& call, const SpaceRef& space,
                                               std::string_view salt,
                                               std::span<const PartOffer> parts,
                                               uint32_t reservation_ms) {
  MNEMO_RETURN_IF_ERROR(CheckCount("parts", parts.size(), kMaxPartsPerOffer));
  MNEMO_RETURN_IF_ERROR(CheckMax("reservation_ms", reservation_ms, kMaxMs));
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope, ResolveScope(spaces_, call, space, salt));
  OfferAnswer answer;
  std::vector<std::string> wanted;
  std::vector<size_t> wanted_index;
  for (size_t i = 0; i < parts.size(); ++i) {
    const absl::StatusOr<WriteSpec> spec = SpecOf(scope, parts[i]);
    if (!spec.ok()) {
      answer.verdicts.push_back({.verdict = Verdict::kRefused, .reason = spec.status()});
      continue;
    }
    const PartKey key = PartKeyOf(scope, parts[i].key, parts[i].stretch, parts[i].part);
    answer.verdicts.push_back(Judge(key, store_, reservations_, 0));
    if (answer.verdicts.back().verdict != Verdict::kWant) continue;
    wanted.push_back(key.Stored().bytes());
    wanted_index.push_back(i);
  }
  if (wanted.empty()) return answer;
  const uint32_t ms = reservation_ms == 0 ? kDefaultReservationMs : reservation_ms;
  std::vector<bool> taken;
  MNEMO_ASSIGN_OR_RETURN(
      answer.reservation,
      reservations_.Take(call.identity.tenant, wanted, std::chrono::milliseconds(ms), taken));
  for (size_t i = 0; i < wanted.size(); ++i) {
    // Lost to another offer since it was judged.
    if (!taken[i]) answer.verdicts[wanted_index[i]].verdict = Verdict::kPending;
  }
  return answer;
}

absl::StatusOr<std::unique_ptr<PutSession>> BlockEngine::Put(const CallContext& call,
                                                             const PutRequest& request) {
  MNEMO_RETURN_IF_ERROR(CheckCount("parts", request.parts.size(), kMaxPartsPerPut));
  MNEMO_RETURN_IF_ERROR(ValidatePolicy({.time_to_live_seconds = request.time_to_live_seconds}));
  uint64_t bytes = 0;
  for (const PartOffer& offer : request.parts) bytes += std::min(offer.size, kMaxBytesPerPut);
  MNEMO_RETURN_IF_ERROR(CheckMax("the sum of parts.size", bytes, kMaxBytesPerPut));
  MNEMO_ASSIGN_OR_RETURN(CallScope scope, ResolveScope(spaces_, call, request.space, request.salt));
  return PutSessionImpl::Create(call, std::move(scope), request, store_, reservations_, clock_);
}

absl::StatusOr<MatchAnswer> BlockEngine::Match(const CallContext& call,
                                               const MatchRequest& request) {
  MNEMO_RETURN_IF_ERROR(CheckMax("lease_ms", request.lease_ms, kMaxMs));
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  MNEMO_RETURN_IF_ERROR(CheckKeys(scope, request.keys, kMaxKeysPerCall));
  MatchOperation operation(scope, request, store_, reservations_);
  absl::StatusOr<MatchAnswer> answer = operation.Run();
  if (answer.ok() && !request.peek) {
    observer_.OnMatch(request.keys.keys.size() * uint64_t{scope.spec().tokens_per_block},
                      operation.hit_tokens());
  }
  return answer;
}

absl::StatusOr<std::unique_ptr<GetSession>> BlockEngine::Get(const CallContext& call,
                                                             const GetRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(CallScope scope, ResolveScope(spaces_, call, request.space, request.salt));
  return GetSessionImpl::Create(call, std::move(scope), request, store_, clock_, observer_,
                                follower_);
}

absl::StatusOr<uint64_t> BlockEngine::Delete(const CallContext& call,
                                             const DeleteRequest& request) {
  if (request.what == DeleteRequest::What::kAllOfSpace) {
    MNEMO_ASSIGN_OR_RETURN(const auto space, spaces_.Resolve(call, request.space));
    MNEMO_ASSIGN_OR_RETURN(const uint64_t deleted, store_.EraseScope(space->scope, std::nullopt));
    events_.PublishCleared(space->scope);
    return deleted;
  }
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  if (request.what == DeleteRequest::What::kAllOfSalt) {
    return store_.EraseScope(scope.space->scope, scope.salt);
  }
  uint64_t deleted = 0;
  MNEMO_RETURN_IF_ERROR(
      ForEachStep(call, clock_, scope, request.keys,
                  [&](size_t, const std::vector<PartKey>& keys, size_t) -> absl::Status {
                    MNEMO_ASSIGN_OR_RETURN(const uint64_t erased, store_.Erase(keys));
                    deleted += erased;
                    return absl::OkStatus();
                  }));
  return deleted;
}

absl::StatusOr<uint32_t> BlockEngine::Touch(const CallContext& call, const KeysRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  uint32_t found = 0;
  MNEMO_RETURN_IF_ERROR(ForEachStep(
      call, clock_, scope, request.keys,
      [&](size_t, const std::vector<PartKey>& keys, size_t parts) -> absl::Status {
        const std::vector<Lookup> lookups = store_.Find(keys);
        for (size_t i = 0; i < lookups.size(); i += parts) {
          found += std::any_of(lookups.begin() + static_cast<ptrdiff_t>(i),
                               lookups.begin() + static_cast<ptrdiff_t>(i + parts),
                               [](const Lookup& l) { return l.presence == Presence::kPresent; });
        }
        store_.Touch(keys);
        return absl::OkStatus();
      }));
  return found;
}

absl::StatusOr<PrefetchAnswer> BlockEngine::Prefetch(const CallContext& call,
                                                     const PrefetchRequest& request) {
  const uint64_t tenant = call.identity.tenant;
  if (request.cancel != 0) {
    prefetches_.Cancel(tenant, request.cancel);
    if (request.keys.keys.empty()) return PrefetchAnswer();
  }
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  MNEMO_RETURN_IF_ERROR(CheckMax("the number of parts", request.parts.size(), kMaxPartsPerKey));
  for (const PartId& part : request.parts) {
    MNEMO_RETURN_IF_ERROR(GeometryOf(scope.spec(), part).status());
  }
  PrefetchAnswer answer;
  std::vector<PrefetchQueue::Part> wanted;
  uint64_t beyond = 0;
  const size_t room = prefetches_.Room(tenant);
  MNEMO_RETURN_IF_ERROR(
      ForEachStep(call, clock_, scope, request.keys,
                  request.parts.empty() ? AllParts(scope.spec()) : request.parts,
                  [&](size_t, const std::vector<PartKey>& keys, size_t) {
                    const std::vector<Lookup> lookups = store_.Find(keys);
                    for (size_t i = 0; i < keys.size(); ++i) {
                      if (lookups[i].presence != Presence::kPresent) {
                        ++answer.absent;
                      } else if (lookups[i].level == Level::kL1 || lookups[i].level == Level::kL2) {
                        ++answer.in_ram;
                      } else if (wanted.size() < room) {
                        wanted.push_back({.key = keys[i], .bytes = lookups[i].payload_bytes});
                      } else {
                        ++beyond;
                      }
                    }
                    return absl::OkStatus();
                  }));
  prefetches_.CountDropped(PrefetchOrigin::kAsked, beyond);
  const PrefetchQueue::Added added = prefetches_.Add(wanted, PrefetchOrigin::kAsked);
  answer.prefetch = added.id;
  answer.queued = static_cast<uint32_t>(added.taken);
  answer.dropped = static_cast<uint32_t>(beyond + wanted.size() - added.taken);
  return answer;
}

absl::StatusOr<PinAnswer> BlockEngine::Pin(const CallContext& call, const KeysRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  PinAnswer answer;
  MNEMO_RETURN_IF_ERROR(ForEachStep(
      call, clock_, scope, request.keys,
      [&](size_t first, const std::vector<PartKey>& keys, size_t parts) -> absl::Status {
        const std::vector<Lookup> lookups = store_.Find(keys);
        std::vector<PartKey> present;
        for (size_t i = 0; i < lookups.size(); i += parts) {
          const size_t before = present.size();
          for (size_t part = i; part < i + parts; ++part) {
            if (lookups[part].presence == Presence::kPresent) present.push_back(keys[part]);
          }
          if (present.size() == before) {
            answer.missing.push_back(static_cast<uint32_t>(first + i / parts));
          }
        }
        MNEMO_RETURN_IF_ERROR(store_.SetPinned(present, true).status());
        answer.parts += present.size();
        return absl::OkStatus();
      }));
  return answer;
}

absl::StatusOr<uint64_t> BlockEngine::Unpin(const CallContext& call, const KeysRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  uint64_t unpinned = 0;
  MNEMO_RETURN_IF_ERROR(
      ForEachStep(call, clock_, scope, request.keys,
                  [&](size_t, const std::vector<PartKey>& keys, size_t) -> absl::Status {
                    MNEMO_ASSIGN_OR_RETURN(const uint64_t changed, store_.SetPinned(keys, false));
                    unpinned += changed;
                    return absl::OkStatus();
                  }));
  return unpinned;
}

absl::StatusOr<uint32_t> BlockEngine::Renew(const CallContext& call, uint64_t lease,
                                            uint32_t lease_ms) {
  MNEMO_RETURN_IF_ERROR(CheckMax("lease_ms", lease_ms, kMaxMs));
  MNEMO_RETURN_IF_ERROR(
      store_.RenewLease(lease, call.identity.tenant, std::chrono::milliseconds(lease_ms)));
  return lease_ms;
}

absl::StatusOr<std::vector<PartState>> BlockEngine::Describe(const CallContext& call,
                                                             const KeysRequest& request) const {
  MNEMO_ASSIGN_OR_RETURN(const CallScope scope,
                         ResolveScope(spaces_, call, request.space, request.salt));
  MNEMO_RETURN_IF_ERROR(CheckCount("keys", request.keys.keys.size(), kMaxKeysPerDescribe));
  MNEMO_RETURN_IF_ERROR(CheckMax("keys times the parts of a block",
                                 request.keys.keys.size() * AllParts(scope.spec()).size(),
                                 kMaxPartsPerDescribe));
  std::vector<PartState> states;
  MNEMO_RETURN_IF_ERROR(
      ForEachStep(call, clock_, scope, request.keys,
                  [&](size_t, const std::vector<PartKey>& keys, size_t) -> absl::Status {
                    for (const PartKey& key : keys) {
                      if (std::optional<PartState> state = store_.Describe(key)) {
                        states.push_back(*std::move(state));
                      }
                    }
                    return absl::OkStatus();
                  }));
  return states;
}

absl::StatusOr<std::vector<PartState>> BlockEngine::List(const CallContext& call,
                                                         const ListRequest& request,
                                                         std::string& next) const {
  MNEMO_RETURN_IF_ERROR(CheckMax("page_size", request.page_size, kMaxPage));
  MNEMO_RETURN_IF_ERROR(
      CheckMax("the length of key_prefix", request.key_prefix.size(), BlockKey::kMaxSize));
  MNEMO_ASSIGN_OR_RETURN(const auto space, spaces_.Resolve(call, request.space));
  std::optional<SaltDigest> salt;
  if (request.salt) {
    MNEMO_ASSIGN_OR_RETURN(salt, DigestOfSalt(*request.salt));
  }
  const std::string after(request.page_token);
  const StoredKey position = StoredKey::FromBytes(after);
  // A token is a stored key; one of another space would list from a place that
  // the caller must not learn about.
  if (!after.empty() && (!position.valid() || position.scope() != space->scope)) {
    return absl::InvalidArgumentError("page_token is not one that List of this space answered");
  }
  std::vector<PartState> parts;
  MNEMO_RETURN_IF_ERROR(store_.List(space->scope, salt, request.key_prefix, after,
                                    request.page_size == 0 ? kDefaultPage : request.page_size,
                                    parts, next));
  return parts;
}

absl::StatusOr<uint64_t> BlockEngine::Flush(const CallContext& call,
                                            const std::optional<SpaceRef>& space) {
  KeyScope scope{.tenant = call.identity.tenant, .space = 0};
  if (space) {
    MNEMO_ASSIGN_OR_RETURN(const auto resolved, spaces_.Resolve(call, *space));
    scope = resolved->scope;
  }
  return store_.Flush(scope);
}

absl::StatusOr<std::unique_ptr<EventSubscription>> BlockEngine::Watch(const CallContext& call,
                                                                      const SpaceRef& space,
                                                                      uint64_t from_sequence,
                                                                      std::function<void()> wake) {
  MNEMO_ASSIGN_OR_RETURN(const auto resolved, spaces_.Resolve(call, space));
  const KeyScope scope = resolved->scope;
  auto list = [this, scope](const std::string& after, size_t limit, std::vector<PartState>& parts,
                            std::string& next) {
    return store_.List(scope, std::nullopt, "", after, limit, parts, next);
  };
  return events_.Subscribe(scope, from_sequence, std::move(list), std::move(wake));
}

}  // namespace mnemo

#include "client/cpp/lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "client/cpp/part_decoder.h"
#include "client/cpp/tcp_connect.h"
#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using stream::FrameType;

// How long a daemon is not asked again for a stream that it did not give, at first and at
// most, or that it does not have.
constexpr std::chrono::seconds kPause(1);
constexpr std::chrono::seconds kMaxPause(30);
constexpr std::chrono::seconds kLongPause(60);
// How long a stream may take to open where the call can go another way.
constexpr std::chrono::seconds kOpenTime(2);

stream::Scope ScopeOf(const SpaceRef& space, std::string_view salt) {
  stream::Scope scope{.salt = salt};
  if (const auto* id = std::get_if<uint64_t>(&space.ref)) {
    scope.space = *id;
  } else {
    scope.space_name = std::get<std::string>(space.ref);
  }
  return scope;
}

stream::KeyRefs KeysOf(Keys keys, Keys stretches) {
  return {.keys = {keys.begin(), keys.end()}, .stretches = {stretches.begin(), stretches.end()}};
}

// What does not fit is no part of any space, and has a number that says so.
stream::PartRef PartOf(const PartId& part) {
  return {.group = static_cast<uint8_t>(std::min<uint32_t>(part.group, UINT8_MAX)),
          .tp_rank = static_cast<uint16_t>(std::min<uint32_t>(part.tp_rank, UINT16_MAX)),
          .pp_rank = static_cast<uint16_t>(std::min<uint32_t>(part.pp_rank, UINT16_MAX))};
}

Digest128 ToWire(const Digest& digest) { return {.low = digest.low, .high = digest.high}; }
Digest FromWire(const Digest128& digest) { return {.high = digest.high, .low = digest.low}; }

// What a part that came encoded is decoded from: a copy, since it is decoded into the
// place where it lies, and others may write there.
EncodedPart EncodedOf(const stream::GetAnswer::Part& got, MutableBytes place) {
  EncodedPart part{.digest = FromWire(got.digest), .put_digest = FromWire(got.put_digest)};
  part.bytes.assign(place.begin(), place.begin() + static_cast<ptrdiff_t>(got.bytes));
  for (const stream::GetAnswer::Run& run : got.runs) part.runs.push_back({run.first, run.count});
  return part;
}

PartRead ReadOf(const stream::GetAnswer::Part& got, MutableBytes place) {
  PartRead read{.status = got.status,
                .size = got.size,
                .bytes = got.bytes,
                .digest = FromWire(got.digest),
                .level = static_cast<Level>(got.level),
                .depth = got.depth};
  if (got.fidelity) {
    read.fidelity = PartFidelity{.codec = got.fidelity->codec,
                                 .bits_per_value = got.fidelity->bits_per_value,
                                 .error = got.fidelity->error};
  }
  if (read.status.ok() && read.bytes > place.size()) {
    read.status = absl::InternalError("the daemon answers more bytes than there is room for");
  }
  return read;
}

}  // namespace

void OpeningPause::Failed(LaneTime now, const absl::Status& why) {
  failed_ = now;
  // The deadline was that of one call.
  failure_ = absl::IsDeadlineExceeded(why) ? absl::UnavailableError(why.message()) : why;
  if (absl::IsUnimplemented(why) || absl::IsFailedPrecondition(why)) {
    pause_ = patient_pause_ = kLongPause;
    return;
  }
  pause_ = kPause;
  patient_pause_ = next_;
  next_ = std::min(2 * next_, kMaxPause);
}

void OpeningPause::Succeeded() { *this = OpeningPause(); }

absl::Status OpeningPause::Check(LaneTime now, bool must) const {
  return now < failed_ + (must ? pause_ : patient_pause_) ? failure_ : absl::OkStatus();
}

Lane::Lane(const ClientOptions& options, AskForLane ask, const CalibrationCache& calibrations,
           AskForCalibrations ask_for_calibrations)
    : options_(options),
      ask_(std::move(ask)),
      calibrations_(calibrations),
      ask_for_calibrations_(std::move(ask_for_calibrations)),
      bulk_(static_cast<size_t>(std::max(1, options.connections))) {
  memory_.OnRemove([this](uint64_t memory) {
    std::shared_ptr<LaneStream> stream;
    {
      MutexLock lock(mutex_);
      stream = fast_.stream;
    }
    if (stream) stream->Unregister(memory);
  });
}

Lane::Way Lane::FindWay(const CallOptions& options, Millis standard, const Needs& needs) {
  Way way;
  const PlaneChoice choice =
      options.plane == PlaneChoice::kDefault ? options_.plane : options.plane;
  if (choice == PlaneChoice::kInline) return way;
  way.must = choice == PlaneChoice::kFast || choice == PlaneChoice::kBulk;
  const LaneTime now = std::chrono::steady_clock::now();
  way.deadline = now + (options.timeout > Millis(0) ? options.timeout : standard);
  std::vector<Plane> planes;
  if (choice == PlaneChoice::kFast || (!way.must && !memory_.empty())) {
    planes.push_back(Plane::kFast);
  }
  if (choice == PlaneChoice::kBulk || (!way.must && needs.payload)) planes.push_back(Plane::kBulk);
  for (const Plane plane : planes) {
    way.refused = CheckFits(plane, needs);
    if (!way.refused.ok()) continue;
    // A call that can go another way keeps some time for it.
    const LaneTime until =
        way.must ? way.deadline : std::min(now + (way.deadline - now) / 2, now + kOpenTime);
    auto stream = Stream(plane, way.must, until, options.cancel);
    way.refused = stream.status();
    if (!stream.ok() || (!way.must && (*stream)->full())) continue;
    way.plane = plane;
    way.stream = *std::move(stream);
    break;
  }
  if (!way.must) way.refused = absl::OkStatus();
  return way;
}

absl::Status Lane::CheckFits(Plane plane, const Needs& needs) {
  if (plane == Plane::kFast && !(needs.whole && needs.shared)) {
    return absl::FailedPreconditionError(
        "the call cannot go by the fast lane: it takes whole parts in shared memory");
  }
  if (plane == Plane::kBulk && !needs.whole) {
    return absl::FailedPreconditionError(
        "the call cannot go by a stream of TCP: it takes whole parts in block order");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<LaneStream>> Lane::Stream(Plane plane, bool must, LaneTime deadline,
                                                         CancelSource* cancel) {
  Link* link = nullptr;
  {
    MutexLock lock(mutex_);
    link = plane == Plane::kFast ? &fast_ : &bulk_[turn_++ % bulk_.size()];
    if (link->stream && !link->stream->lost()) return link->stream;
  }
  {
    const WakeOnCancel wake(cancel, mutex_, changed_);
    MutexLock lock(mutex_);
    while (link->connecting) {
      if (!must) return absl::UnavailableError("another call opens the stream");
      if (wake.cancelled()) return absl::CancelledError("the call was cancelled");
      const LaneTime now = std::chrono::steady_clock::now();
      if (now >= deadline) return absl::DeadlineExceededError("no stream in time");
      changed_.WaitFor(mutex_, deadline - now);
    }
    if (link->stream && !link->stream->lost()) return link->stream;
    MNEMO_RETURN_IF_ERROR(link->pause.Check(std::chrono::steady_clock::now(), must));
    link->connecting = true;
  }
  absl::StatusOr<std::shared_ptr<LaneStream>> made = Connect(plane, deadline, cancel);
  MutexLock lock(mutex_);
  link->connecting = false;
  changed_.SignalAll();
  if (made.ok()) {
    link->stream = *made;
    link->pause.Succeeded();
  } else if (!absl::IsCancelled(made.status())) {  // who was, knows nothing of the daemon
    link->pause.Failed(std::chrono::steady_clock::now(), made.status());
  }
  return made;
}

absl::StatusOr<std::shared_ptr<LaneStream>> Lane::Connect(Plane plane, LaneTime deadline,
                                                          CancelSource* cancel) {
  LaneAddress address{.path = options_.stream_socket};
  if (plane == Plane::kBulk || address.path.empty()) {
    MNEMO_ASSIGN_OR_RETURN(address, ask_(plane, deadline, cancel));
  }
  std::unique_ptr<stream::StreamSocket> socket;
  if (plane == Plane::kBulk) {
    // A daemon that does not know of planes answers with its UNIX socket.
    if (address.tcp_address.empty()) {
      return absl::FailedPreconditionError("this node serves no streams over TCP");
    }
    // Whoever answers for the daemon must not talk a client out of its TLS.
    if (options_.tls && !address.tls) {
      return absl::FailedPreconditionError(
          "the daemon's streams over TCP are plain, and this client is to use TLS");
    }
    const StreamHost to = HostOfStream(options_.target, address.tcp_address);
    std::optional<TlsOptions> tls;
    if (address.tls) tls = options_.tls.value_or(TlsOptions());
    MNEMO_ASSIGN_OR_RETURN(socket, ConnectTcp(to.address, to.host, tls, deadline));
  } else {
    MNEMO_ASSIGN_OR_RETURN(Descriptor local, ConnectLocal(address.path));
    socket = stream::StreamSocket::MakePlain(std::move(local));
  }
  MNEMO_ASSIGN_OR_RETURN(
      std::unique_ptr<LaneStream> made,
      LaneStream::Open(std::move(socket), {.ticket = address.ticket, .client = options_.user_agent},
                       options_.busy_poll, deadline, cancel));
  return std::shared_ptr<LaneStream>(std::move(made));
}

template <typename Answer>
absl::Status Lane::Ask(const Way& way, FrameType type, const std::string& request,
                       CancelSource* cancel, std::string& body, Answer& answer,
                       const LaneStream::Payload& payload) {
  MNEMO_ASSIGN_OR_RETURN(LaneStream::Reply reply,
                         way.stream->Call(type, request, -1, way.deadline, cancel, payload));
  body = std::move(reply.body);
  absl::Status status;
  if (!stream::Decode(AsBytes(body), status, answer)) {
    return absl::InternalError("the daemon's answer is malformed");
  }
  if (absl::IsCancelled(status) && reply.timed_out) {
    return absl::DeadlineExceededError("the deadline has passed");
  }
  return status;
}

absl::StatusOr<std::vector<stream::Place>> Lane::PlacesOf(
    const Way& way, const std::vector<MemoryRegistry::Place>& at, CancelSource* cancel) {
  std::vector<stream::Place> places(at.size());
  for (uint32_t i = 0; i < at.size(); ++i) {
    places[i] = {.region = stream::kInStream, .first = i, .count = 1};
    if (way.plane == Plane::kBulk) continue;
    if (i > 0 && at[i].memory == at[i - 1].memory) {
      places[i].region = places[i - 1].region;
      continue;
    }
    MNEMO_ASSIGN_OR_RETURN(
        places[i].region,
        way.stream->RegionOf(at[i].memory, at[i].descriptor, at[i].bytes, way.deadline, cancel));
  }
  return places;
}

Lane::Outcome<MatchResult> Lane::Match(const MatchRequest& request, const CallOptions& options) {
  const Way way = FindWay(options, options_.timeout, Needs());
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  std::string body;
  stream::MatchAnswer answer;
  const absl::Status status =
      Ask(way, FrameType::kMatch,
          stream::Encode(stream::MatchRequest{.scope = ScopeOf(request.space, request.salt),
                                              .keys = KeysOf(request.keys, request.stretches),
                                              .groups = request.groups,
                                              .tp_ranks = request.tp_ranks,
                                              .pp_ranks = request.pp_ranks,
                                              .lease_ms = request.lease_ms,
                                              .want_bitmap = request.want_bitmap,
                                              .peek = request.peek}),
          options.cancel, body, answer);
  if (absl::IsUnavailable(status) && !way.must) return std::nullopt;
  if (!status.ok()) return status;
  MatchResult result{.blocks = answer.blocks,
                     .tokens = answer.tokens,
                     .pending = std::move(answer.pending),
                     .lease = answer.lease,
                     .lease_ms = answer.lease_ms,
                     .fetch_bytes = answer.fetch_bytes,
                     .plane = way.plane};
  for (const auto& run : answer.runs) {
    result.runs.push_back({run.first, run.count, static_cast<Level>(run.level)});
  }
  for (const auto& group : answer.groups) result.groups.push_back({group.group, group.blocks});
  if (request.want_bitmap) {
    for (size_t i = 0; i < request.keys.size(); ++i) {
      const bool there = i / 8 < answer.present.size() &&
                         (static_cast<uint8_t>(answer.present[i / 8]) >> (i % 8) & 1) != 0;
      result.present.push_back(there);
    }
  }
  return result;
}

Lane::Outcome<OfferResult> Lane::Offer(const OfferRequest& request, const CallOptions& options) {
  const Way way = FindWay(options, options_.timeout, Needs());
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  stream::OfferRequest message{.scope = ScopeOf(request.space, request.salt),
                               .reservation_ms = request.reservation_ms};
  for (const PartOffer& part : request.parts) {
    message.parts.push_back({.key = part.key,
                             .part = PartOf(part.part),
                             .size = part.size,
                             .depth = part.depth,
                             .parent = part.parent,
                             .stretch = part.stretch});
    if (part.digest) message.parts.back().digest = ToWire(*part.digest);
  }
  std::string body;
  stream::OfferAnswer answer;
  // Not repeated: a second Offer would find the parts reserved by the first.
  MNEMO_RETURN_IF_ERROR(
      Ask(way, FrameType::kOffer, stream::Encode(message), options.cancel, body, answer));
  OfferResult result{.reservation = answer.reservation, .plane = way.plane};
  for (const auto& verdict : answer.verdicts) {
    result.verdicts.push_back({.verdict = static_cast<Verdict>(verdict.verdict),
                               .reason = verdict.reason,
                               .digest = FromWire(verdict.digest)});
  }
  return result;
}

Lane::Outcome<uint32_t> Lane::Touch(const KeysRequest& request, const CallOptions& options) {
  const Way way = FindWay(options, options_.timeout, Needs());
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  std::string body;
  stream::TouchAnswer answer;
  const absl::Status status =
      Ask(way, FrameType::kTouch,
          stream::Encode(stream::TouchRequest{.scope = ScopeOf(request.space, request.salt),
                                              .keys = KeysOf(request.keys, request.stretches)}),
          options.cancel, body, answer);
  if (absl::IsUnavailable(status) && !way.must) return std::nullopt;
  if (!status.ok()) return status;
  return answer.found;
}

Lane::Outcome<PrefetchResult> Lane::Prefetch(const PrefetchRequest& request,
                                             const CallOptions& options) {
  const Way way = FindWay(options, options_.timeout, Needs());
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  stream::PrefetchRequest message{.scope = ScopeOf(request.space, request.salt),
                                  .cancel = request.cancel,
                                  .keys = KeysOf(request.keys, request.stretches)};
  for (const PartId& part : request.parts) message.parts.push_back(PartOf(part));
  std::string body;
  stream::PrefetchAnswer answer;
  const absl::Status status =
      Ask(way, FrameType::kPrefetch, stream::Encode(message), options.cancel, body, answer);
  if (absl::IsUnavailable(status) && !way.must) return std::nullopt;
  if (!status.ok()) return status;
  return PrefetchResult{.prefetch = answer.prefetch,
                        .queued = answer.queued,
                        .in_ram = answer.in_ram,
                        .absent = answer.absent,
                        .dropped = answer.dropped};
}

Lane::Outcome<GetResult> Lane::Get(const GetRequest& request, const CallOptions& options) {
  std::vector<MemoryRegistry::Place> at;
  Needs needs{.payload = true};
  needs.whole = request.first_layer == 0 && request.layer_count == 0 &&
                request.order != ReadOrder::kLayerMajor &&
                request.destinations.size() ==
                    request.keys.size() * std::max<size_t>(1, request.parts.size());
  for (const Destination& to : request.destinations) {
    needs.whole = needs.whole && to.part_offset == 0 && !to.memory.empty();
    const auto place = memory_.Find(to.memory);
    needs.shared = needs.shared && place;
    at.push_back(place.value_or(MemoryRegistry::Place()));
  }
  const Way way = FindWay(options, options_.transfer_timeout, needs);
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  stream::GetRequest message{.scope = ScopeOf(request.space, request.salt),
                             .keys = KeysOf(request.keys, request.stretches),
                             .lease = request.lease,
                             .takes = request.decode_at_client ? kAllCodecs : 0};
  for (const PartId& part : request.parts) message.parts.push_back(PartOf(part));
  const bool bulk = way.plane == Plane::kBulk;
  LaneStream::Payload payload;
  for (size_t i = 0; i < at.size(); ++i) {
    const MutableBytes memory = request.destinations[i].memory;
    message.slices.push_back({.offset = bulk ? 0 : at[i].offset, .length = memory.size()});
    if (bulk) payload.into.push_back(memory);
  }
  std::vector<StreamingDigest128> digests(bulk && request.verify ? at.size() : 0);
  if (!digests.empty()) payload.digests = &digests;
  std::vector<uint64_t> came;
  if (bulk) payload.came = &came;
  stream::GetAnswer answer;
  std::string body;
  absl::StatusOr<std::vector<stream::Place>> places = PlacesOf(way, at, options.cancel);
  absl::Status status = places.status();
  if (status.ok()) {
    message.places = *std::move(places);
    status =
        Ask(way, FrameType::kGet, stream::Encode(message), options.cancel, body, answer, payload);
  }
  if (absl::IsUnavailable(status) && !way.must) return std::nullopt;
  if (!status.ok()) return status;
  if (answer.parts.size() != at.size()) {
    return absl::InternalError("the daemon's answer is of other parts");
  }
  for (size_t i = 0; i < came.size(); ++i) {
    stream::GetAnswer::Part& part = answer.parts[i];
    if (part.status.ok() && part.bytes != came[i]) {
      part.status = absl::InternalError("other bytes came than the daemon's answer says");
    }
  }
  return ResultOf(request, way, answer, digests, options.cancel);
}

GetResult Lane::ResultOf(const GetRequest& request, const Way& way, const stream::GetAnswer& answer,
                         const std::vector<StreamingDigest128>& digests, CancelSource* cancel) {
  GetResult result{.plane = way.plane};
  std::map<size_t, EncodedPart> encoded;
  for (size_t i = 0; i < answer.parts.size(); ++i) {
    const stream::GetAnswer::Part& got = answer.parts[i];
    const MutableBytes place = request.destinations[i].memory;
    PartRead read = ReadOf(got, place);
    if (read.status.ok() && got.encoded) {
      if (request.decode_at_client) {
        encoded.emplace(i, EncodedOf(got, place));
      } else {
        read.status = absl::InternalError("the daemon's answer is encoded, unasked");
      }
    } else if (read.status.ok()) {
      if (request.on_data) request.on_data(i, 0, read.bytes);
      // What has a fidelity and was not read as a whole has no digest.
      const bool has_digest = !read.fidelity || read.bytes == read.size;
      const auto digest = [&] {
        return digests.empty() ? DigestOf(place.first(read.bytes)) : FromWire(digests[i].Digest());
      };
      if (request.verify && has_digest && digest() != read.digest) {
        read.status = absl::DataLossError("the bytes have another digest than the part");
      }
    }
    result.parts.push_back(std::move(read));
  }
  if (encoded.empty()) return result;
  PartDecoder decoder(calibrations_, request);
  const auto decode = [&](const CalibrationFailures& failures) {
    std::set<uint32_t> missing;
    for (auto part = encoded.begin(); part != encoded.end();) {
      std::set<uint32_t> more =
          decoder.Decode(part->first, part->second, failures, result.parts[part->first]);
      part = more.empty() ? encoded.erase(part) : std::next(part);
      missing.merge(more);
    }
    return missing;
  };
  if (const std::set<uint32_t> missing = decode({}); !missing.empty()) {
    decode(ask_for_calibrations_(request.space, missing, way.deadline, cancel));
  }
  return result;
}

Lane::Outcome<PutResult> Lane::Put(const PutRequest& request, const CallOptions& options) {
  std::vector<MemoryRegistry::Place> at;
  Needs needs{.payload = true};
  for (const PartPut& part : request.parts) {
    needs.whole = needs.whole && !part.data.empty();
    const auto place = memory_.Find(part.data);
    needs.shared = needs.shared && place;
    at.push_back(place.value_or(MemoryRegistry::Place()));
  }
  const Way way = FindWay(options, options_.transfer_timeout, needs);
  if (!way.refused.ok()) return way.refused;
  if (!way.stream) return std::nullopt;
  stream::PutRequest message{.scope = ScopeOf(request.space, request.salt),
                             .reservation = request.reservation,
                             .durability = static_cast<uint8_t>(request.durability),
                             .time_to_live_seconds = request.time_to_live_seconds};
  const bool bulk = way.plane == Plane::kBulk;
  LaneStream::Payload payload;
  for (size_t i = 0; i < at.size(); ++i) {
    const PartPut& part = request.parts[i];
    message.parts.push_back({.key = part.key,
                             .part = PartOf(part.part),
                             .size = part.data.size(),
                             .depth = part.depth,
                             .parent = part.parent,
                             .stretch = part.stretch});
    if (request.send_digests) message.parts.back().digest = ToWire(DigestOf(part.data));
    message.slices.push_back({.offset = bulk ? 0 : at[i].offset, .length = part.data.size()});
    if (bulk) payload.from.push_back(part.data);
  }
  stream::PutAnswer answer;
  std::string body;
  absl::StatusOr<std::vector<stream::Place>> places = PlacesOf(way, at, options.cancel);
  absl::Status status = places.status();
  if (status.ok()) {
    message.places = *std::move(places);
    status =
        Ask(way, FrameType::kPut, stream::Encode(message), options.cancel, body, answer, payload);
  }
  if (absl::IsUnavailable(status) && !way.must) return std::nullopt;
  if (!status.ok()) return status;
  if (answer.parts.size() != at.size()) {
    return absl::InternalError("the daemon's answer is of other parts");
  }
  PutResult result{.plane = way.plane};
  for (const stream::PutAnswer::Part& part : answer.parts) {
    PartStored stored{.outcome = static_cast<PutOutcome>(part.outcome),
                      .digest = FromWire(part.digest),
                      .status = part.status};
    // As a Put of gRPC tells a part that somebody else is writing.
    if (absl::IsAborted(part.status)) stored = {.outcome = PutOutcome::kPending};
    result.parts.push_back(std::move(stored));
  }
  return result;
}

}  // namespace mnemo::client

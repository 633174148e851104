#include "server/transfer/block_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// What the loop's thread does itself, before others wait for it: docs/decisions/0115.
constexpr size_t kKeysOnLoop = 1024;
constexpr uint64_t kBytesOnLoop = 512 * kKiB;

PartId PartOf(const stream::PartRef& part) {
  return {.group = part.group, .tp_rank = part.tp_rank, .pp_rank = part.pp_rank};
}

KeysView KeysOf(const stream::KeyRefs& keys) { return {keys.keys, keys.stretches}; }

std::vector<PartOffer> OffersOf(const std::vector<stream::OfferedPart>& parts) {
  std::vector<PartOffer> offers;
  offers.reserve(parts.size());
  for (const stream::OfferedPart& part : parts) {
    offers.push_back({.key = part.key,
                      .part = PartOf(part.part),
                      .size = part.size,
                      .depth = part.depth,
                      .parent = part.parent,
                      .stretch = part.stretch,
                      .digest = part.digest});
  }
  return offers;
}

// On the wire levels count from 1.
uint8_t LevelOf(Level level) { return static_cast<uint8_t>(static_cast<int>(level) + 1); }

}  // namespace

SpaceRef SpaceOf(const stream::Scope& scope) {
  if (scope.space != 0) return scope.space;
  return std::string(scope.space_name);
}

GetRequest GetOf(const stream::GetRequest& request) {
  GetRequest get{.space = SpaceOf(request.scope),
                 .salt = request.scope.salt,
                 .keys = KeysOf(request.keys),
                 .first_layer = request.first_layer,
                 .layer_count = request.layer_count,
                 .lease = request.lease,
                 .takes = request.takes};
  for (const stream::PartRef& part : request.parts) get.parts.push_back(PartOf(part));
  return get;
}

PutRequest PutOf(const stream::PutRequest& request) {
  PutRequest put{.space = SpaceOf(request.scope),
                 .salt = request.scope.salt,
                 .parts = OffersOf(request.parts),
                 .reservation = request.reservation,
                 .time_to_live_seconds = request.time_to_live_seconds};
  if (request.durability != 0) put.durability = static_cast<Durability>(request.durability);
  return put;
}

size_t PartsOf(const stream::GetRequest& request) {
  return request.keys.keys.size() * std::max<size_t>(1, request.parts.size());
}

absl::Status CheckPlaces(size_t places, size_t parts) {
  if (places == parts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("places holds {}; it must hold {}, one for each part", places, parts));
}

// The size of a part and of its place, which must agree or be enough.
absl::Status PlaceHolds(size_t index, uint64_t held, uint64_t bytes) {
  return absl::InvalidArgumentError(
      fmt::format("places[{}].slices hold {} bytes; the part has {}", index, held, bytes));
}

void DescribePart(const ReadStep& header, stream::GetAnswer::Part& part) {
  part.status = header.error;
  part.size = header.size;
  part.digest = header.digest;
  part.level = LevelOf(header.level);
  part.depth = header.depth;
  // The part may come anew, in another form.
  part.fidelity.reset();
  part.runs.clear();
  if (header.fidelity) {
    part.fidelity = stream::GetAnswer::Fidelity{.codec = header.fidelity->codec,
                                                .bits_per_value = header.fidelity->bits_per_value,
                                                .error = header.fidelity->error};
  }
  part.encoded = header.encoded;
  part.put_digest = header.put_digest;
  for (const SectionRun& run : header.runs) part.runs.push_back({run.first, run.count});
}

void AddResults(const std::vector<PutResult>& results, stream::PutAnswer& answer) {
  for (const PutResult& result : results) {
    stream::PutAnswer::Part& part = answer.parts[result.index];
    part.status = result.outcome.status();
    if (!part.status.ok()) continue;
    part.outcome = static_cast<uint8_t>(*result.outcome);
    part.digest = result.digest;
  }
}

std::vector<PartPlace> FindPlaces(const RegionTable& regions,
                                  const std::vector<stream::Place>& places,
                                  const std::vector<stream::Slice>& slices) {
  std::vector<PartPlace> found(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    PartPlace& out = found[i];
    // Neighbours mostly lie in one region.
    const bool same = i > 0 && places[i].region == places[i - 1].region && found[i - 1].region;
    if (same) {
      out.region = found[i - 1].region;
    } else if (auto region = regions.Find(places[i].region); region.ok()) {
      out.region = *std::move(region);
    } else {
      out.status = region.status();
      continue;
    }
    std::vector<RegionSlice> list;
    list.reserve(places[i].count);
    for (const stream::Slice& slice : SlicesOf(slices, places[i])) {
      list.push_back({.offset = slice.offset,
                      .length = slice.length,
                      .stride = slice.stride,
                      .count = slice.count});
    }
    absl::StatusOr<SliceList> checked =
        SliceList::Create(std::move(list), out.region->size(), fmt::format("places[{}].slices", i));
    if (checked.ok()) {
      out.slices = *std::move(checked);
    } else {
      out.status = checked.status();
    }
  }
  return found;
}

const MethodRule& MatchStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Match");
  return rule;
}
bool MatchStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress MatchStreamRequest::Begin() {
  return request_.keys.keys.size() <= kKeysOnLoop ? Run() : Progress::kElsewhere;
}

StreamRequest::Progress MatchStreamRequest::Run() {
  absl::StatusOr<MatchAnswer> answer =
      rooms_.blocks.Match(call_, {.space = SpaceOf(request_.scope),
                                  .salt = request_.scope.salt,
                                  .keys = KeysOf(request_.keys),
                                  .groups = request_.groups,
                                  .tp_ranks = request_.tp_ranks,
                                  .pp_ranks = request_.pp_ranks,
                                  .lease_ms = request_.lease_ms,
                                  .want_bitmap = request_.want_bitmap,
                                  .peek = request_.peek});
  if (answer.ok()) answer_ = *std::move(answer);
  return Done(answer.status());
}

std::string MatchStreamRequest::Answer() const {
  stream::MatchAnswer answer{.blocks = answer_.blocks,
                             .tokens = answer_.tokens,
                             .lease = answer_.lease,
                             .lease_ms = answer_.lease_ms,
                             .fetch_bytes = answer_.fetch_bytes,
                             .pending = answer_.pending,
                             .present = answer_.present};
  for (const MatchAnswer::Run& run : answer_.runs) {
    answer.runs.push_back({run.first, run.count, LevelOf(run.level)});
  }
  for (const MatchAnswer::GroupReach& group : answer_.groups) {
    answer.groups.push_back({group.group, group.blocks});
  }
  return stream::Encode(answer);
}

const MethodRule& OfferStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Offer");
  return rule;
}
bool OfferStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress OfferStreamRequest::Run() {
  absl::StatusOr<OfferAnswer> answer =
      rooms_.blocks.Offer(call_, SpaceOf(request_.scope), request_.scope.salt,
                          OffersOf(request_.parts), request_.reservation_ms);
  if (answer.ok()) answer_ = *std::move(answer);
  return Done(answer.status());
}

std::string OfferStreamRequest::Answer() const {
  stream::OfferAnswer answer{.reservation = answer_.reservation};
  for (const OfferVerdict& verdict : answer_.verdicts) {
    answer.verdicts.push_back({.verdict = static_cast<uint8_t>(verdict.verdict),
                               .digest = verdict.digest.value_or(Digest128{}),
                               .reason = verdict.reason});
  }
  return stream::Encode(answer);
}

const MethodRule& TouchStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Touch");
  return rule;
}
bool TouchStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress TouchStreamRequest::Run() {
  const absl::StatusOr<uint32_t> found =
      rooms_.blocks.Touch(call_, {.space = SpaceOf(request_.scope),
                                  .salt = request_.scope.salt,
                                  .keys = KeysOf(request_.keys)});
  if (found.ok()) found_ = *found;
  return Done(found.status());
}

std::string TouchStreamRequest::Answer() const {
  return stream::Encode(stream::TouchAnswer{.found = found_});
}

const MethodRule& PrefetchStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Prefetch");
  return rule;
}
bool PrefetchStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress PrefetchStreamRequest::Begin() {
  const size_t parts = std::max<size_t>(1, request_.parts.size());
  return request_.keys.keys.size() <= kKeysOnLoop / parts ? Run() : Progress::kElsewhere;
}

StreamRequest::Progress PrefetchStreamRequest::Run() {
  PrefetchRequest asked{.space = SpaceOf(request_.scope),
                        .salt = request_.scope.salt,
                        .keys = KeysOf(request_.keys),
                        .cancel = request_.cancel};
  for (const stream::PartRef& part : request_.parts) asked.parts.push_back(PartOf(part));
  const absl::StatusOr<PrefetchAnswer> answer = rooms_.blocks.Prefetch(call_, asked);
  if (answer.ok()) answer_ = *answer;
  return Done(answer.status());
}

std::string PrefetchStreamRequest::Answer() const {
  return stream::Encode(stream::PrefetchAnswer{.prefetch = answer_.prefetch,
                                               .queued = answer_.queued,
                                               .in_ram = answer_.in_ram,
                                               .absent = answer_.absent,
                                               .dropped = answer_.dropped});
}

const MethodRule& GetStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Get");
  return rule;
}
bool GetStreamRequest::Parse() { return stream::Decode(body(), request_); }

absl::Status GetStreamRequest::Open() {
  const size_t parts = PartsOf(request_);
  MNEMO_RETURN_IF_ERROR(CheckPlaces(request_.places.size(), parts));
  MNEMO_ASSIGN_OR_RETURN(session_, rooms_.blocks.Get(call_, GetOf(request_)));
  places_ = FindPlaces(rooms_.regions, request_.places, request_.slices);
  answer_.parts.resize(parts);
  return absl::OkStatus();
}

StreamRequest::Progress GetStreamRequest::Begin() {
  if (absl::Status status = Open(); !status.ok()) return Done(status);
  return Read(/*on_loop=*/true);
}

StreamRequest::Progress GetStreamRequest::Run() { return Read(/*on_loop=*/false); }

StreamRequest::Progress GetStreamRequest::Read(bool on_loop) {
  for (;;) {
    const uint64_t bytes = session_->NextBytes();
    if (bytes > 0 && on_loop) {
      if (read_on_loop_ + bytes > kBytesOnLoop || !session_->NextIsInRam()) {
        return Progress::kElsewhere;
      }
      read_on_loop_ += bytes;
    } else if (bytes > 0 && !std::exchange(granted_, false)) {
      granted_ = true;  // when it goes on, if it has to wait
      switch (Claim(bytes)) {
        case ByteBudget::Claim::Outcome::kQueued:
          return Progress::kWaits;
        case ByteBudget::Claim::Outcome::kWithdrawn:
          return Done(absl::CancelledError("the request was cancelled"));
        case ByteBudget::Claim::Outcome::kGranted:
          granted_ = false;
      }
    }
    const absl::StatusOr<bool> more = session_->NextInto(*this);
    if (!more.ok() || !*more) {
      session_.reset();  // releases its lease before the client can learn of it
      return Done(more.status());
    }
  }
}

absl::Status GetStreamRequest::Begin(const ReadStep& header) {
  const PartPlace& place = places_[header.index];
  stream::GetAnswer::Part& part = answer_.parts[header.index];
  DescribePart(header, part);
  part.bytes = header.bytes_following;
  MNEMO_RETURN_IF_ERROR(place.status);
  if (place.slices.bytes() >= header.bytes_following) return absl::OkStatus();
  return PlaceHolds(header.index, place.slices.bytes(), header.bytes_following);
}

absl::Status GetStreamRequest::Take(uint32_t index, uint64_t position, const PinnedBytes& bytes) {
  const PartPlace& place = places_[index];
  return place.region->CopyOut(bytes.pieces(), place.slices, position);
}

void GetStreamRequest::End(uint32_t index, const absl::Status& status) {
  answer_.parts[index].status = status;
}

std::string GetStreamRequest::Answer() const { return stream::Encode(answer_); }

const MethodRule& PutStreamRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Put");
  return rule;
}
bool PutStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress PutStreamRequest::Run() {
  absl::Status status = CheckPlaces(request_.places.size(), request_.parts.size());
  if (!status.ok()) return Done(status);
  absl::StatusOr<std::unique_ptr<PutSession>> session = rooms_.blocks.Put(call_, PutOf(request_));
  if (!session.ok()) return Done(session.status());
  answer_.parts.resize(request_.parts.size());
  status = Fill(**session);
  session->reset();  // what it reserved is free before the client can learn of it
  return Done(status);
}

absl::Status PutStreamRequest::Fill(PutSession& session) {
  const std::vector<PartPlace> places =
      FindPlaces(rooms_.regions, request_.places, request_.slices);
  AddResults(session.TakeImmediateResults(), answer_);
  for (uint32_t i = 0; i < places.size(); ++i) {
    if (session.verdicts()[i].verdict != Verdict::kWant) continue;
    const PartPlace& place = places[i];
    const uint64_t size = request_.parts[i].size;
    std::vector<PutResult> results;
    MNEMO_RETURN_IF_ERROR(session.Fill(
        i,
        [&](uint64_t offset, std::span<const MutableByteView> to) -> absl::Status {
          MNEMO_RETURN_IF_ERROR(place.status);
          if (place.slices.bytes() != size) return PlaceHolds(i, place.slices.bytes(), size);
          return place.region->CopyIn(place.slices, offset, to);
        },
        results));
    AddResults(results, answer_);
  }
  return absl::OkStatus();
}

std::string PutStreamRequest::Answer() const { return stream::Encode(answer_); }

}  // namespace mnemo

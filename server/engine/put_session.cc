#include "server/engine/put_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr size_t kMaxPieceBytes = kMiB;
// Copied at once, then checked while it is still in the processor's cache.
constexpr uint64_t kFillBytes = 256 * kKiB;

absl::Status CheckLength(std::string_view field, size_t length, size_t low) {
  if (length >= low && length <= BlockKey::kMaxSize) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} is {} bytes long; it must be {} to {}", field,
                                                length, low, BlockKey::kMaxSize));
}

// Of a part whose bytes say nothing of layers: checked piece by piece, each while it is
// in the cache, and by several threads.
constexpr uint64_t kSectionBytes = 256 * kKiB;

// The layout is made when the part begins: a thousand of them would be large.
SectionLayout SectionsOf(PartGeometry geometry, uint64_t payload_bytes) {
  if (geometry.bytes == 0) {
    geometry.sections.sizes.clear();
    for (uint64_t at = 0; at < payload_bytes; at += kSectionBytes) {
      geometry.sections.sizes.push_back(std::min(kSectionBytes, payload_bytes - at));
    }
  }
  return std::move(geometry.sections);
}

PutResult ResultOf(uint32_t index, const PartOffer& offer, const OfferVerdict& verdict) {
  PutResult result{.index = index};
  switch (verdict.verdict) {
    case Verdict::kPresent:
      result.digest = verdict.digest.value_or(Digest128{});
      result.outcome = offer.digest && *offer.digest != result.digest ? PutOutcome::kConflict
                                                                      : PutOutcome::kAlreadyPresent;
      break;
    case Verdict::kPending:
      result.outcome = absl::AbortedError("somebody else is writing this part");
      break;
    default:
      result.outcome = verdict.reason;
  }
  return result;
}

}  // namespace

absl::StatusOr<WriteSpec> SpecOf(const CallScope& scope, const PartOffer& offer) {
  MNEMO_RETURN_IF_ERROR(CheckLength("key", offer.key.size(), 1));
  MNEMO_RETURN_IF_ERROR(CheckLength("parent", offer.parent.size(), 0));
  const bool affinity = scope.spec().chain_affinity;
  if (affinity || !offer.stretch.empty()) {
    if (!affinity) {
      return absl::InvalidArgumentError("stretch is set, but the space has no chain affinity");
    }
    MNEMO_RETURN_IF_ERROR(CheckLength("stretch", offer.stretch.size(), 1));
  }
  MNEMO_ASSIGN_OR_RETURN(const PartGeometry geometry, GeometryOf(scope.spec(), offer.part));
  if (geometry.bytes == 0) {
    if (offer.size < 1 || offer.size > kMaxPartBytes) {
      return absl::InvalidArgumentError(
          fmt::format("size is {}; it must be 1 to {}", offer.size, kMaxPartBytes));
    }
  } else if (offer.size != geometry.bytes) {
    return absl::InvalidArgumentError(
        fmt::format("size is {}; a part of group {} in space '{}' is {} bytes", offer.size,
                    offer.part.group, scope.spec().name, geometry.bytes));
  }
  WriteSpec spec{.payload_bytes = offer.size,
                 .depth = offer.depth,
                 .tokens = static_cast<uint16_t>(scope.spec().tokens_per_block),
                 .digest = offer.digest};
  if (!offer.parent.empty()) spec.parent = *BlockKey::From(offer.parent);
  return spec;
}

OfferVerdict Judge(const PartKey& key, const BlockStore& store, const Reservations& reservations,
                   uint64_t own) {
  const std::optional<PartState> state = store.Describe(key);
  if (state && !state->pending && !state->below_floor) {
    return {.verdict = Verdict::kPresent, .digest = state->digest};
  }
  if ((state && state->pending) || reservations.HeldByOther(key.Stored().bytes(), own)) {
    return {.verdict = Verdict::kPending};
  }
  return {.verdict = Verdict::kWant};
}

absl::StatusOr<std::unique_ptr<PutSession>> PutSessionImpl::Create(
    const CallContext& call, CallScope scope, const PutRequest& request, BlockStore& store,
    Reservations& reservations, Clock& clock) {
  std::unique_ptr<PutSessionImpl> session(
      new PutSessionImpl(call, std::move(scope), store, reservations, clock));
  const SpacePolicy& policy = session->scope_.spec().policy;
  const uint64_t ttl = request.time_to_live_seconds != 0 ? request.time_to_live_seconds
                                                         : policy.time_to_live_seconds;
  const WallTime expires = ttl == 0 ? WallTime{} : clock.Wall() + std::chrono::seconds(ttl);
  if (reservations.Owns(request.reservation, call.identity.tenant)) {
    session->reservation_ = request.reservation;
  }
  for (uint32_t i = 0; i < request.parts.size(); ++i) {
    const PartOffer& offer = request.parts[i];
    OfferVerdict verdict;
    absl::StatusOr<WriteSpec> spec = SpecOf(session->scope_, offer);
    if (spec.ok()) {
      PartKey key = PartKeyOf(session->scope_, offer.key, offer.stretch, offer.part);
      verdict = Judge(key, store, reservations, session->reservation_);
      if (verdict.verdict == Verdict::kWant) {
        spec->expires = expires;
        spec->durability = request.durability.value_or(policy.durability);
        session->bytes_wanted_ += spec->payload_bytes;
        session->wanted_.push_back({.index = i, .key = std::move(key), .spec = *std::move(spec)});
      }
    } else {
      verdict.reason = spec.status();
    }
    if (verdict.verdict != Verdict::kWant) {
      session->immediate_.push_back(ResultOf(i, offer, verdict));
    }
    session->verdicts_.push_back(std::move(verdict));
  }
  return session;
}

PutSessionImpl::~PutSessionImpl() {
  for (; current_ < wanted_.size(); ++current_) ReleaseReserved(wanted_[current_]);
}

void PutSessionImpl::ReleaseReserved(const Wanted& part) {
  if (reservation_ != 0) reservations_.Release(reservation_, part.key.Stored().bytes());
}

absl::Status PutSessionImpl::CheckOrder(uint32_t index, uint64_t offset, ByteView data) const {
  if (data.empty() || data.size() > kMaxPieceBytes) {
    return absl::InvalidArgumentError(
        fmt::format("data is {} bytes long; it must be 1 to {}", data.size(), kMaxPieceBytes));
  }
  if (current_ == wanted_.size()) {
    return absl::InvalidArgumentError(
        fmt::format("data of part {} came after the last wanted part", index));
  }
  const Wanted& part = wanted_[current_];
  if (index != part.index || offset != current_received_) {
    return absl::InvalidArgumentError(
        fmt::format("data is of part {} at offset {}; part {} at offset {} comes next", index,
                    offset, part.index, current_received_));
  }
  if (data.size() > part.spec.payload_bytes - offset) {
    return absl::InvalidArgumentError(
        fmt::format("data of part {} ends at {}; the part was announced with {} bytes", index,
                    offset + data.size(), part.spec.payload_bytes));
  }
  return absl::OkStatus();
}

void PutSessionImpl::BeginPart() {
  Wanted& part = wanted_[current_];
  failure_ = absl::OkStatus();
  absl::StatusOr<PartGeometry> geometry = GeometryOf(scope_.spec(), part.key.part);
  if (geometry.ok()) part.spec.layout = SectionsOf(*std::move(geometry), part.spec.payload_bytes);
  absl::StatusOr<std::unique_ptr<PartWriter>> writer = store_.BeginWrite(part.key, part.spec);
  if (writer.ok()) {
    writer_ = *std::move(writer);
  } else {
    failure_ = writer.status();
  }
}

absl::Status PutSessionImpl::Data(uint32_t index, uint64_t offset, ByteView data,
                                  std::vector<PutResult>& results) {
  MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
  MNEMO_RETURN_IF_ERROR(CheckOrder(index, offset, data));
  if (offset == 0) BeginPart();
  if (writer_) {
    if (absl::Status status = writer_->Append(data); !status.ok()) {
      writer_.reset();
      failure_ = std::move(status);
    }
  }
  current_received_ += data.size();
  bytes_received_ += data.size();
  if (current_received_ == wanted_[current_].spec.payload_bytes) EndPart(results);
  return absl::OkStatus();
}

absl::Status PutSessionImpl::FillPart(uint64_t bytes, const CopyIn& copy) {
  for (uint64_t offset = 0; offset < bytes; offset += kFillBytes) {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
    const uint64_t size = std::min(kFillBytes, bytes - offset);
    const auto bring = [&](std::span<const MutableByteView> to) -> absl::StatusOr<uint64_t> {
      MNEMO_RETURN_IF_ERROR(copy(offset, to));
      return size;
    };
    MNEMO_RETURN_IF_ERROR(writer_->Fill(size, bring).status());
  }
  return absl::OkStatus();
}

std::optional<uint32_t> PutSessionImpl::BeginNext() {
  if (current_ == wanted_.size()) return std::nullopt;
  BeginPart();
  return wanted_[current_].index;
}

absl::StatusOr<uint64_t> PutSessionImpl::FillSome(uint64_t most, const PartWriter::Bring& bring) {
  MNEMO_CHECK(current_ < wanted_.size() &&
              most <= wanted_[current_].spec.payload_bytes - current_received_);
  absl::StatusOr<uint64_t> brought;
  if (writer_) {
    brought = writer_->Fill(std::min(most, kFillBytes), bring);
  } else {
    dropped_.resize(kFillBytes);
    const MutableByteView room(dropped_.data(), std::min(most, kFillBytes));
    brought = bring({&room, 1});
  }
  MNEMO_RETURN_IF_ERROR(brought.status());
  current_received_ += *brought;
  bytes_received_ += *brought;
  return brought;
}

absl::Status PutSessionImpl::Fill(uint32_t index, const CopyIn& copy,
                                  std::vector<PutResult>& results) {
  MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
  if (current_ == wanted_.size() || current_received_ != 0 || index != wanted_[current_].index) {
    return absl::InvalidArgumentError(fmt::format("part {} does not come next", index));
  }
  const uint64_t bytes = wanted_[current_].spec.payload_bytes;
  BeginPart();
  if (writer_) {
    if (absl::Status status = FillPart(bytes, copy); !status.ok()) {
      writer_.reset();
      failure_ = std::move(status);
    }
  }
  bytes_received_ += bytes;
  EndPart(results);
  return absl::OkStatus();
}

void PutSessionImpl::EndPart(std::vector<PutResult>& results) {
  const Wanted& part = wanted_[current_];
  PutResult result{.index = part.index};
  if (writer_) {
    absl::StatusOr<Digest128> digest = writer_->Commit();
    if (digest.ok()) {
      result.outcome = PutOutcome::kStored;
      result.digest = *digest;
    } else {
      failure_ = digest.status();
    }
    writer_.reset();
  }
  if (absl::IsAlreadyExists(failure_)) {
    // Somebody stored it between the verdict and the first byte.
    if (const std::optional<PartState> state = store_.Describe(part.key)) {
      result.digest = state->digest;
      result.outcome = part.spec.digest && *part.spec.digest != state->digest
                           ? PutOutcome::kConflict
                           : PutOutcome::kAlreadyPresent;
      failure_ = absl::OkStatus();
    }
  }
  if (!failure_.ok()) result.outcome = failure_;
  results.push_back(std::move(result));
  ReleaseReserved(part);
  ++current_;
  current_received_ = 0;
}

void PutSessionImpl::Finish(std::vector<PutResult>& results) {
  writer_.reset();
  for (; current_ < wanted_.size(); ++current_) {
    ReleaseReserved(wanted_[current_]);
    results.push_back({.index = wanted_[current_].index,
                       .outcome = absl::InvalidArgumentError(
                           fmt::format("the stream ended after {} of {} bytes of the part",
                                       current_received_, wanted_[current_].spec.payload_bytes))});
    current_received_ = 0;
  }
}

}  // namespace mnemo

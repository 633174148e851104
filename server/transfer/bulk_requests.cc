#include "server/transfer/bulk_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/transfer/block_requests.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// How far a grant runs ahead of what has come.
constexpr uint64_t kWindow = 8 * kMiB;
constexpr uint64_t kDropBytes = 64 * kKiB;

// How many bytes a place of this stream says there are.
absl::StatusOr<uint64_t> BytesInStream(size_t index, const stream::Place& place,
                                       const std::vector<stream::Slice>& slices) {
  const auto wrong = [&](std::string_view field, std::string_view must) {
    return absl::InvalidArgumentError(fmt::format(
        "places[{}].{} must be {}: payload travels in this stream", index, field, must));
  };
  if (place.region != stream::kInStream) return wrong("region", "0");
  if (place.count != 1) return wrong("slices", "one");
  const stream::Slice& slice = slices[place.first];
  if (slice.offset != 0 || slice.count != 1) return wrong("slices", "one run from offset 0 on");
  return slice.length;
}

}  // namespace

const MethodRule& BulkGetRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Get");
  return rule;
}
bool BulkGetRequest::Parse() { return stream::Decode(body(), request_); }
std::string BulkGetRequest::Answer() const { return stream::Encode(answer_); }

absl::Status BulkGetRequest::Open() {
  const size_t parts = PartsOf(request_);
  MNEMO_RETURN_IF_ERROR(CheckPlaces(request_.places.size(), parts));
  MNEMO_ASSIGN_OR_RETURN(session_, rooms_.blocks.Get(call_, GetOf(request_)));
  room_.reserve(parts);
  for (size_t i = 0; i < parts; ++i) {
    room_.push_back(BytesInStream(i, request_.places[i], request_.slices));
  }
  answer_.parts.resize(parts);
  return absl::OkStatus();
}

StreamRequest::Progress BulkGetRequest::End(const absl::Status& status) {
  session_.reset();  // releases its lease before the client can learn of it
  ended_ = true;
  Fail(status);
  if (std::exchange(unsent_, false) && rooms_.payload->AwaitSent(*this)) return Progress::kWaits;
  return Progress::kDone;
}

StreamRequest::Progress BulkGetRequest::Run() {
  if (ended_) return Progress::kDone;
  if (!session_) {
    if (absl::Status status = Open(); !status.ok()) return Done(status);
  }
  for (;;) {
    const uint64_t bytes = session_->NextBytes();
    if (bytes > 0 && !std::exchange(granted_, false)) {
      if (std::exchange(unsent_, false) && rooms_.payload->AwaitSent(*this)) {
        return Progress::kWaits;
      }
      granted_ = true;  // when it goes on, if it has to wait
      switch (Claim(bytes)) {
        case ByteBudget::Claim::Outcome::kQueued:
          return Progress::kWaits;
        case ByteBudget::Claim::Outcome::kWithdrawn:
          return End(absl::CancelledError("the request was cancelled"));
        case ByteBudget::Claim::Outcome::kGranted:
          granted_ = false;
      }
    }
    const absl::StatusOr<bool> more = session_->NextInto(*this);
    if (!more.ok() || !*more) return End(more.status());
  }
}

absl::Status BulkGetRequest::Begin(const ReadStep& header) {
  stream::GetAnswer::Part& part = answer_.parts[header.index];
  if (part.bytes > 0 && header.digest != begun_) {
    return absl::AbortedError("the part was replaced during the read; read it again");
  }
  begun_ = header.digest;
  DescribePart(header, part);
  const absl::StatusOr<uint64_t>& room = room_[header.index];
  MNEMO_RETURN_IF_ERROR(room.status());
  if (*room >= header.bytes_following) return absl::OkStatus();
  return PlaceHolds(header.index, *room, header.bytes_following);
}

absl::Status BulkGetRequest::Take(uint32_t index, uint64_t position, const PinnedBytes& bytes) {
  uint64_t& sent = answer_.parts[index].bytes;
  const uint64_t end = position + bytes.size();
  if (end <= sent) return absl::OkStatus();
  rooms_.payload->SendPayload(header().id, index, sent, bytes.Slice(sent - position, end - sent));
  sent = end;
  unsent_ = true;
  return absl::OkStatus();
}

void BulkGetRequest::End(uint32_t index, const absl::Status& status) {
  answer_.parts[index].status = status;
}

const MethodRule& BulkPutRequest::rule() const {
  static const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Put");
  return rule;
}
bool BulkPutRequest::Parse() { return stream::Decode(body(), request_); }
std::string BulkPutRequest::Answer() const { return stream::Encode(answer_); }

absl::Status BulkPutRequest::Open() {
  MNEMO_RETURN_IF_ERROR(CheckPlaces(request_.places.size(), request_.parts.size()));
  for (size_t i = 0; i < request_.places.size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(const uint64_t bytes,
                           BytesInStream(i, request_.places[i], request_.slices));
    if (bytes != request_.parts[i].size) return PlaceHolds(i, bytes, request_.parts[i].size);
  }
  MNEMO_ASSIGN_OR_RETURN(session_, rooms_.blocks.Put(call_, PutOf(request_)));
  answer_.parts.resize(request_.parts.size());
  AddResults(session_->TakeImmediateResults(), answer_);
  wanted_ = session_->bytes_wanted();
  window_ = std::min(wanted_, kWindow);
  return absl::OkStatus();
}

StreamRequest::Progress BulkPutRequest::Run() {
  if (!session_) {
    if (absl::Status status = Open(); !status.ok()) return Done(status);
  }
  if (wanted_ > 0 && granted_ == 0) {
    if (!std::exchange(claimed_, true)) {
      switch (Claim(window_)) {
        case ByteBudget::Claim::Outcome::kQueued:
          return Progress::kWaits;
        case ByteBudget::Claim::Outcome::kWithdrawn:
          return Done(absl::CancelledError("the request was cancelled"));
        case ByteBudget::Claim::Outcome::kGranted:
          break;
      }
    }
    granted_ = window_;
    credit_ = stream::Credit{.bytes = granted_};
    const std::vector<OfferVerdict>& verdicts = session_->verdicts();
    for (uint32_t i = 0; i < verdicts.size(); ++i) {
      if (verdicts[i].verdict == Verdict::kWant) credit_->wanted.push_back(i);
    }
  }
  if (part_) {
    std::vector<PutResult> results;
    session_->EndPart(results);
    AddResults(results, answer_);
  }
  part_ = session_->BeginNext();
  part_seen_ = 0;
  if (part_) return Progress::kReceives;
  session_.reset();  // what it reserved is free before the client can learn of it
  return Done(absl::OkStatus());
}

StreamRequest::Progress BulkPutRequest::Stop() {
  stopped_ = true;
  session_.reset();
  // What still comes goes through `dropped_`.
  Unclaim();
  return AfterPayload();
}

StreamRequest::Progress BulkPutRequest::AfterPayload() {
  if (stopped_) {
    // Who cancelled sends nothing more of it; who did not has been told that it may.
    return call_.cancelled || seen_ == granted_ ? Progress::kDone : Progress::kReceives;
  }
  return part_seen_ == request_.parts[*part_].size ? Progress::kElsewhere : Progress::kReceives;
}

std::optional<stream::Credit> BulkPutRequest::TakeCredit() {
  return std::exchange(credit_, std::nullopt);
}

stream::CloseReason BulkPutRequest::Judge(const stream::Data& data, uint32_t bytes) const {
  if (bytes > granted_ - seen_) return stream::CloseReason::kOverload;
  if (stopped_) return stream::CloseReason::kNone;
  const bool next = data.index == *part_ && data.offset == part_seen_ &&
                    bytes <= request_.parts[*part_].size - part_seen_;
  return next ? stream::CloseReason::kNone : stream::CloseReason::kOrder;
}

absl::StatusOr<uint64_t> BulkPutRequest::Drop(uint64_t most, const PartWriter::Bring& bring) {
  dropped_.resize(kDropBytes);
  const MutableByteView room(dropped_.data(), std::min(most, kDropBytes));
  MNEMO_ASSIGN_OR_RETURN(const uint64_t taken, bring({&room, 1}));
  seen_ += taken;
  return taken;
}

absl::StatusOr<uint64_t> BulkPutRequest::Take(uint64_t most, const PartWriter::Bring& bring) {
  if (!stopped_) {
    if (absl::Status status = CheckGoesOn(call_, rooms_.gate.clock()); !status.ok()) {
      Fail(status);
      Stop();
    }
  }
  if (stopped_) return Drop(most, bring);
  MNEMO_ASSIGN_OR_RETURN(const uint64_t taken, session_->FillSome(most, bring));
  seen_ += taken;
  part_seen_ += taken;
  GrantMore();
  return taken;
}

void BulkPutRequest::GrantMore() {
  if (granted_ == wanted_ || granted_ - seen_ > window_ / 2) return;
  granted_ = std::min(wanted_, seen_ + window_);
  credit_ = stream::Credit{.bytes = granted_};
}

}  // namespace mnemo

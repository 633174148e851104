#include "client/cpp/part_decoder.h"

#include <fmt/format.h>

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

bool IsSame(const Digest128& a, const Digest& b) { return a.high == b.high && a.low == b.low; }

// Where the bytes of a section go, or nowhere.
absl::StatusOr<MutableBytes> RoomFor(size_t index, const Destination& to,
                                     const EnvelopeExcerpt::Section& section) {
  const uint64_t end = section.exact_offset + section.exact_bytes;
  if (section.exact_offset >= to.part_offset && end - to.part_offset <= to.memory.size()) {
    return to.memory.subspan(section.exact_offset - to.part_offset, section.exact_bytes);
  }
  return absl::OutOfRangeError(
      fmt::format("destinations[{}] holds bytes {} to {} of the part, needed are {} to {}", index,
                  to.part_offset, to.part_offset + to.memory.size(), section.exact_offset, end));
}

}  // namespace

PartDecoder::PartDecoder(const CalibrationCache& cache, const GetRequest& request)
    : cache_(cache),
      space_(request.space),
      destinations_(request.destinations),
      verify_(request.verify),
      on_data_(request.on_data),
      calibrations_(std::make_shared<CalibrationSet>()),
      decoder_(codecs_, calibrations_) {}

std::set<uint32_t> PartDecoder::Decode(size_t index, const EncodedPart& part,
                                       const CalibrationFailures& failures, PartRead& read) {
  const absl::StatusOr<EnvelopeExcerpt> excerpt = Open(part, read);
  if (!excerpt.ok()) {
    read.status = excerpt.status();
    return {};
  }
  std::set<uint32_t> missing;
  for (const uint32_t id : excerpt->Calibrations()) {
    if (calibrations_->Find(id) != nullptr) continue;
    if (auto known = cache_.Find(space_, id)) {
      calibrations_->Add(std::move(known));
    } else if (const auto failure = failures.find(id); failure != failures.end()) {
      read.status = failure->second;
      return {};
    } else {
      missing.insert(id);
    }
  }
  if (!missing.empty()) return missing;
  read.bytes = 0;
  read.bytes_received = part.bytes.size();
  read.status = excerpt->CheckCalibrations(*calibrations_);
  if (read.status.ok()) read.status = DecodeInto(index, *excerpt, read);
  return {};
}

absl::StatusOr<EnvelopeExcerpt> PartDecoder::Open(const EncodedPart& part,
                                                  const PartRead& read) const {
  if (verify_ && DigestOf(part.bytes) != part.digest) {
    return absl::DataLossError("the encoded bytes differ from their digest on arrival");
  }
  MNEMO_ASSIGN_OR_RETURN(EnvelopeExcerpt excerpt, EnvelopeExcerpt::Parse(part.bytes, part.runs));
  if (!IsSame(excerpt.envelope().digest(), part.put_digest) ||
      excerpt.envelope().payload_bytes() != read.size) {
    return absl::DataLossError("the encoded bytes are of another part");
  }
  return excerpt;
}

absl::Status PartDecoder::DecodeInto(size_t index, const EnvelopeExcerpt& excerpt, PartRead& read) {
  const Destination& to = destinations_[index];
  // Before any: what does not fit is not written at all.
  for (const EnvelopeExcerpt::Section& section : excerpt.sections()) {
    MNEMO_RETURN_IF_ERROR(RoomFor(index, to, section).status());
  }
  for (size_t i = 0; i < excerpt.sections().size(); ++i) {
    const EnvelopeExcerpt::Section& section = excerpt.sections()[i];
    MNEMO_ASSIGN_OR_RETURN(const MutableBytes into, RoomFor(index, to, section));
    MNEMO_RETURN_IF_ERROR(excerpt.Decode(i, decoder_, into));
    read.bytes += section.exact_bytes;
    if (on_data_) on_data_(index, section.exact_offset, section.exact_bytes);
  }
  read.digest = Digest();
  if (excerpt.whole()) return EndWhole(index, excerpt, read);
  if (!excerpt.envelope().lossy()) {
    const Digest128& put = excerpt.envelope().digest();
    read.digest = {.high = put.high, .low = put.low};
  }
  return absl::OkStatus();
}

absl::Status PartDecoder::EndWhole(size_t index, const EnvelopeExcerpt& excerpt,
                                   PartRead& read) const {
  const Destination& to = destinations_[index];
  read.digest = DigestOf(to.memory.subspan(0, read.size));
  if (excerpt.envelope().lossy() || IsSame(excerpt.envelope().digest(), read.digest)) {
    return absl::OkStatus();
  }
  return absl::DataLossError("the part decodes to other bytes than were put");
}

}  // namespace mnemo::client

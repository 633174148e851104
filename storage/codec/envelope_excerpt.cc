#include "storage/codec/envelope_excerpt.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "storage/base/status_macros.h"
#include "storage/codec/tensor_codec.h"

namespace mnemo {
namespace {

constexpr size_t kStoredBytesAt = 48;  // in the header; docs/formats/envelope.md
constexpr size_t kLeastHeader = 64;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("excerpt of an envelope: {}", what));
}

// The runs as they stand, or the one that has everything. Errors: kInvalidArgument.
absl::StatusOr<std::vector<SectionRun>> CheckedRuns(const Envelope& envelope,
                                                    std::span<const SectionRun> runs) {
  const uint32_t sections = envelope.section_count();
  if (runs.empty()) return std::vector<SectionRun>{{.first = 0, .count = sections}};
  uint32_t end = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const SectionRun& run = runs[i];
    if (run.first < end || run.first >= sections || run.count == 0 ||
        run.count > sections - run.first) {
      return absl::InvalidArgumentError(
          fmt::format("runs[{}] has {} sections from {} on; the envelope has {}", i, run.count,
                      run.first, sections));
    }
    end = run.first + run.count;
  }
  return std::vector<SectionRun>(runs.begin(), runs.end());
}

}  // namespace

absl::StatusOr<PinnedBytes> ExcerptOf(const Envelope& envelope, const PinnedBytes& value,
                                      std::span<const SectionRun> runs) {
  MNEMO_CHECK(value.size() == envelope.stored_bytes());
  if (runs.empty()) return value;
  MNEMO_ASSIGN_OR_RETURN(const std::vector<SectionRun> checked, CheckedRuns(envelope, runs));
  std::vector<PinnedBytes> slices = {value.Slice(0, envelope.header_bytes())};
  for (const SectionRun& run : checked) {
    const EnvelopeSection& first = envelope.sections()[run.first];
    const EnvelopeSection& last = envelope.sections()[run.first + run.count - 1];
    slices.push_back(value.Slice(first.offset, last.offset + last.stored_bytes - first.offset));
  }
  std::vector<ByteView> pieces;
  for (const PinnedBytes& slice : slices) {
    pieces.insert(pieces.end(), slice.pieces().begin(), slice.pieces().end());
  }
  return PinnedBytes(std::move(pieces), std::make_shared<const PinnedBytes>(value));
}

absl::StatusOr<EnvelopeExcerpt> EnvelopeExcerpt::Parse(ByteView bytes,
                                                       std::span<const SectionRun> runs) {
  if (bytes.size() < kLeastHeader) return Damaged("shorter than its header");
  EnvelopeExcerpt excerpt;
  MNEMO_ASSIGN_OR_RETURN(
      excerpt.envelope_,
      Envelope::ParseHeader(bytes, LoadLittle<uint64_t>(bytes.data() + kStoredBytesAt)));
  const Envelope& envelope = excerpt.envelope_;
  const absl::StatusOr<std::vector<SectionRun>> checked = CheckedRuns(envelope, runs);
  if (!checked.ok()) return Damaged(std::string(checked.status().message()));

  ByteReader reader(bytes.subspan(envelope.header_bytes()));
  for (const SectionRun& run : *checked) {
    for (uint32_t i = run.first; i < run.first + run.count; ++i) {
      const EnvelopeSection& entry = envelope.sections()[i];
      Section section{.number = i,
                      .exact_offset = envelope.ExactOffset(i),
                      .exact_bytes = entry.exact_bytes,
                      .stored = reader.Take(entry.stored_bytes)};
      if (!reader.ok()) return Damaged("cut short");
      // Before anything that it says is believed.
      MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, section.stored));
      if (IsTensorCodec(entry.codec)) {
        MNEMO_ASSIGN_OR_RETURN(section.calibration, CalibrationOfSection(section.stored));
      }
      excerpt.sections_.push_back(section);
    }
  }
  if (reader.remaining() != 0) return Damaged("bytes behind its end");
  return excerpt;
}

std::set<uint32_t> EnvelopeExcerpt::Calibrations() const {
  std::set<uint32_t> named;
  for (const Section& section : sections_) {
    if (section.calibration != 0) named.insert(section.calibration);
  }
  return named;
}

absl::Status EnvelopeExcerpt::CheckCalibrations(const CalibrationSet& calibrations) const {
  for (const Section& section : sections_) {
    if (section.calibration == 0) continue;
    const Calibration* const found = calibrations.Find(section.calibration);
    MNEMO_ASSIGN_OR_RETURN(const TensorShape shape, ShapeOfSection(section.stored));
    if (found == nullptr || !found->Covers(shape).ok()) {
      return absl::NotFoundError(
          fmt::format("calibration {:08x}, which the part takes to be decoded, is {}",
                      section.calibration, found == nullptr ? "not here" : "of another space"));
    }
  }
  return absl::OkStatus();
}

absl::Status EnvelopeExcerpt::Decode(size_t i, SectionDecoder& decoder,
                                     MutableByteView decoded) const {
  const Section& section = sections_[i];
  MNEMO_CHECK(decoded.size() == section.exact_bytes);
  return decoder.Decode(envelope_.sections()[section.number].codec, section.stored, decoded);
}

}  // namespace mnemo

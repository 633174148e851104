// What travels of a part whose reader decodes it himself: the header of its envelope, and
// behind it the stored bytes of the sections that were asked for, in their order. Of all
// of them it is the envelope as it lies.
//
// Who reads one has it from another host, and believes nothing of it.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/pinned_bytes.h"
#include "storage/codec/calibration.h"
#include "storage/codec/codec.h"
#include "storage/codec/envelope.h"
#include "storage/codec/section_decoder.h"

namespace mnemo {

// Sections [first, first + count) of an envelope.
struct SectionRun {
  uint32_t first = 0;
  uint32_t count = 0;
  friend bool operator==(const SectionRun&, const SectionRun&) = default;
};

// Codecs whose sections a reader decodes: bit i is CodecId i. What is raw needs none.
using CodecMask = uint32_t;
constexpr CodecMask MaskOf(CodecId id) { return CodecMask{1} << static_cast<uint32_t>(id); }
// All that SectionDecoder of this build decodes.
inline constexpr CodecMask kAllCodecs = [] {
  CodecMask mask = MaskOf(CodecId::kLossless);
  for (uint8_t id = 0; id < 32; ++id) {
    if (IsTensorCodec(id)) mask |= CodecMask{1} << id;
  }
  return mask;
}();
// `id`: a CodecId, or one that this build does not know.
constexpr bool Takes(CodecMask mask, uint8_t id) {
  return id == static_cast<uint8_t>(CodecId::kRaw) || (id < 32 && (mask >> id & 1) != 0);
}

// The excerpt of `value`, whose header `envelope` is, with the sections of `runs`; none: all
// of them. The sections are not verified. Errors: kInvalidArgument (an empty run, one behind
// the end, one that does not come after the one before it).
absl::StatusOr<PinnedBytes> ExcerptOf(const Envelope& envelope, const PinnedBytes& value,
                                      std::span<const SectionRun> runs);

// An excerpt that came from elsewhere. Not thread-safe.
class EnvelopeExcerpt {
 public:
  // A section that is here.
  struct Section {
    uint32_t number = 0;        // in the envelope
    uint64_t exact_offset = 0;  // in the part as it was put
    uint32_t exact_bytes = 0;
    ByteView stored;
    uint32_t calibration = 0;  // that it names; 0: none
  };

  // Takes `bytes`, which outlive it, apart. `runs` as for ExcerptOf. Errors: kDataLoss (not
  // an envelope, another version, a damaged header or section, other bytes than those of the
  // runs' sections, a tensor section that is malformed).
  static absl::StatusOr<EnvelopeExcerpt> Parse(ByteView bytes, std::span<const SectionRun> runs);

  const Envelope& envelope() const { return envelope_; }
  const std::vector<Section>& sections() const { return sections_; }
  // Whether all sections of the envelope are here.
  bool whole() const { return sections_.size() == envelope_.section_count(); }
  // Ids of all calibrations that its sections name.
  std::set<uint32_t> Calibrations() const;
  // That `calibrations` has all of them, each of the geometry of what names it. Errors:
  // kNotFound.
  absl::Status CheckCalibrations(const CalibrationSet& calibrations) const;

  // Decodes sections()[i] into `decoded`, which has its exact size. Errors: kDataLoss.
  absl::Status Decode(size_t i, SectionDecoder& decoder, MutableByteView decoded) const;

 private:
  Envelope envelope_;
  std::vector<Section> sections_;
};

}  // namespace mnemo

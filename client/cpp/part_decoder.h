// Decodes parts that came encoded into the caller's memory. What came is believed no more
// than any other answer: docs/formats/envelope.md says what is checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "client/cpp/calibrations.h"
#include "mnemo/blocks.h"
#include "storage/codec/codec.h"
#include "storage/codec/envelope_excerpt.h"
#include "storage/codec/section_decoder.h"

namespace mnemo::client {

// A part as it came.
struct EncodedPart {
  std::vector<uint8_t> bytes;  // an EnvelopeExcerpt
  std::vector<SectionRun> runs;
  Digest digest;      // of `bytes`
  Digest put_digest;  // of the bytes that were put
};

// Of the parts of one read. Not thread-safe: it keeps scratch memory.
class PartDecoder {
 public:
  // Both outlive it; of the request, what matters here is copied.
  PartDecoder(const CalibrationCache& cache, const GetRequest& request);

  // Fills the destination of part `index`, and ends `read`, whose size is known: its
  // status, bytes and digest. If calibrations are missing that are not among `failures`,
  // answers which, and has done nothing. `read` fails with kDataLoss (damaged, another version or
  // codec than this build knows, another part), kNotFound (a calibration that its space does
  // not have, or of another space), kOutOfRange (the destination), or what is in `failures`.
  std::set<uint32_t> Decode(size_t index, const EncodedPart& part,
                            const CalibrationFailures& failures, PartRead& read);

 private:
  absl::StatusOr<EnvelopeExcerpt> Open(const EncodedPart& part, const PartRead& read) const;
  absl::Status DecodeInto(size_t index, const EnvelopeExcerpt& excerpt, PartRead& read);
  absl::Status EndWhole(size_t index, const EnvelopeExcerpt& excerpt, PartRead& read) const;

  const CalibrationCache& cache_;
  const SpaceRef space_;
  const std::span<const Destination> destinations_;
  const bool verify_;
  const std::function<void(size_t, uint64_t, uint64_t)> on_data_;
  const CodecSet codecs_;
  const std::shared_ptr<CalibrationSet> calibrations_;  // that parts have named so far
  SectionDecoder decoder_;
};

}  // namespace mnemo::client

// How a part is stored: header, section table and payload, as one value.
// Byte for byte in docs/formats/envelope.md.
//
// Every section has its own checksum, seeded with that of the stored key, so a
// slice is verified without the rest, and bytes that belong to another key are
// damage, not a hit. The header's size follows from the number of sections
// alone: a receiver reserves it, lets the payload stream in behind it, and
// writes it last.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/checksum.h"
#include "storage/base/pinned_bytes.h"
#include "storage/codec/codec.h"
#include "storage/codec/section_decoder.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo {

// One entry of the table.
struct EnvelopeSection {
  uint64_t offset = 0;  // of the stored bytes, from the start of the envelope
  uint32_t stored_bytes = 0;
  uint32_t exact_bytes = 0;
  uint64_t checksum = 0;      // of the stored bytes, seeded with the key's checksum
  uint8_t codec = 0;          // CodecId
  uint8_t element_bytes = 1;  // width of a value: 1, 2 or 4
  // Of a tensor codec: bits of a code, and |x' - x| / |x| as it was measured when the
  // section was encoded. 0 of all others.
  uint8_t bits = 0;
  float error = 0;
  friend bool operator==(const EnvelopeSection&, const EnvelopeSection&) = default;
};

inline constexpr uint32_t kMaxEnvelopeSections = 8192;
inline constexpr uint64_t kMaxEnvelopePayload = uint64_t{1} << 30;

constexpr uint64_t EnvelopeHeaderSize(uint32_t sections) { return 64 + uint64_t{32} * sections; }

// A parsed and verified header; immutable.
class Envelope {
 public:
  Envelope() = default;

  // Reads the header at the front of `value`. Looks at no payload byte.
  // Errors: kDataLoss (not an envelope, another version, a damaged header, a
  // table that does not add up to the size of `value`).
  static absl::StatusOr<Envelope> Parse(const PinnedBytes& value);
  static absl::StatusOr<Envelope> Parse(ByteView value);
  // For a reader who has the front of the value alone: `front` holds the whole
  // header, the value has `value_size` bytes.
  static absl::StatusOr<Envelope> ParseHeader(ByteView front, uint64_t value_size);

  // `key`: the bytes of a stored key. False: these are the bytes of another one, and no
  // answer for it.
  bool Matches(std::string_view key) const;

  const Digest128& digest() const { return digest_; }        // of the payload as it was put
  uint64_t payload_bytes() const { return payload_bytes_; }  // exact
  uint64_t header_bytes() const { return EnvelopeHeaderSize(section_count()); }
  uint64_t stored_bytes() const { return stored_bytes_; }  // the whole value
  uint32_t section_count() const { return static_cast<uint32_t>(sections_.size()); }
  const std::vector<EnvelopeSection>& sections() const { return sections_; }
  // Where section `i` begins in the exact payload; i == section_count(): its end.
  uint64_t ExactOffset(uint32_t i) const { return exact_offsets_[i]; }
  // Whether every section is stored as it is, so that a slice of the value is a
  // slice of the payload.
  bool raw() const { return raw_; }
  // Whether some section gives back other bytes than were put: then digest() names
  // the part, and is not the digest of what decoding gives.
  bool lossy() const { return lossy_; }
  // |x' - x| / |x| over all encoded values of the part; 0 unless lossy().
  float error() const { return error_; }
  // Of the codes of its tensors, the fewest; 0 unless lossy().
  uint32_t lowest_bits() const;
  // All bits that are stored for a value of the payload.
  double bits_per_value() const;

  // Checks the stored bytes of section `i` (< section_count()) in `value`, the
  // value this was parsed from. Errors: kDataLoss, naming the section.
  absl::Status VerifySection(uint32_t i, const PinnedBytes& value) const;
  // The same of `stored`, the stored bytes of the section alone.
  absl::Status VerifySection(uint32_t i, ByteView stored) const;
  // Verifies section `i`, and decodes it into `decoded`, which has its exact size.
  // Errors: kDataLoss.
  absl::Status DecodeSection(uint32_t i, const PinnedBytes& value, SectionDecoder& decoder,
                             MutableByteView decoded) const;
  // Verifies and decodes everything, and checks the digest unless lossy(): what a
  // scrubber does. Errors: kDataLoss.
  absl::Status VerifyAll(const PinnedBytes& value, SectionDecoder& decoder) const;

 private:
  friend class EnvelopeBuilder;

  uint64_t key_checksum_ = 0;
  Digest128 digest_;
  uint64_t payload_bytes_ = 0;
  uint64_t stored_bytes_ = 0;
  bool raw_ = true;
  bool lossy_ = false;
  float error_ = 0;
  std::vector<EnvelopeSection> sections_;
  std::vector<uint64_t> exact_offsets_;
};

// Makes the header of a part that is stored raw, while its payload streams by.
// Not thread-safe.
class EnvelopeBuilder {
 public:
  // `key`: the bytes of the stored key. `section_sizes` in order, each 1 to 2^32 - 1 bytes. Errors:
  // kInvalidArgument (no sections or over kMaxEnvelopeSections, a size, their sum, element_bytes).
  static absl::StatusOr<EnvelopeBuilder> Create(std::string_view key,
                                                std::span<const uint64_t> section_sizes,
                                                uint32_t element_bytes);

  uint64_t header_bytes() const { return EnvelopeHeaderSize(envelope_.section_count()); }
  uint64_t payload_bytes() const { return envelope_.payload_bytes_; }
  uint64_t received() const { return received_; }

  // The next bytes of the exact payload. Errors: kInvalidArgument (more than
  // payload_bytes; none of them is taken).
  absl::Status Update(ByteView bytes);
  // Errors: kInvalidArgument (fewer than payload_bytes so far).
  absl::StatusOr<Digest128> Digest() const;
  // header_bytes() bytes, to stand before the payload. Errors: as Digest.
  absl::StatusOr<std::string> Header() const;

 private:
  EnvelopeBuilder() = default;

  Envelope envelope_;
  StreamingDigest128 digest_;
  StreamingChecksum64 section_checksum_;
  uint64_t received_ = 0;
  uint32_t section_ = 0;           // being received
  uint64_t section_received_ = 0;  // of it
};

// What a part is to be encoded in.
struct EncodingTarget {
  StoredForm form = StoredForm::kLossless;
  // Of a lossy form: one tensor a section, of its size; otherwise empty.
  std::vector<TensorShape> tensors;
  const Calibration* calibration = nullptr;  // may be null; outlives the use
};

// The envelope of the same part in another form: each section of `value` is verified,
// decoded, encoded anew. A section that does not get smaller stays raw, and one that
// a lossy codec refuses (NaN, infinity) is encoded losslessly. `key` is the bytes
// of the value's own stored key. Temporary memory: the answer, and the two forms of one section.
// Errors: kDataLoss (`value` is damaged, or of another key); kFailedPrecondition
// (`value` is lossy: what is lost is not got back, and must not be lost twice);
// kInvalidArgument (tensors that are not those of the sections).
absl::StatusOr<std::string> Transcode(std::string_view key, const PinnedBytes& value,
                                      SectionDecoder& decoder, const EncodingTarget& target);

// The envelope of the same part with no more than `bits` of each code of a progressive
// section: planes are dropped, and nothing is encoded again. Other sections stay as they
// are. The error of a section becomes the root of two squares: of what was lost before, and
// of the difference between what it decoded to before and what it does now, for levels are
// means of what they stand for. `key` as for Transcode. Errors: kDataLoss; kInvalidArgument
// (bits that progressive sections do not have).
absl::StatusOr<std::string> CutEnvelope(std::string_view key, const PinnedBytes& value,
                                        SectionDecoder& decoder, uint32_t bits);

}  // namespace mnemo

// The seam of the codecs: bytes in fewer bits, section by section.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"

namespace mnemo {

// On disk: never renumber.
// kRaw and kLossless take any bytes; the others are those of tensor_codec.h.
enum class CodecId : uint8_t {
  kRaw = 0,
  kLossless = 1,
  kKivi = 2,
  kRotated = 3,
  kProgressive = 4,
  kTransform = 5,
};
// Those of tensor_codec.h, which may lose something.
constexpr bool IsTensorCodec(uint8_t id) {
  return id >= static_cast<uint8_t>(CodecId::kKivi) &&
         id <= static_cast<uint8_t>(CodecId::kTransform);
}
// "raw", "lossless", "kivi" ...; "unknown" for what this build does not know.
std::string_view CodecName(uint8_t id);

// How a part lies at a level: the codec of its sections, and the bits of a code.
// On disk: never renumber. Below 16: that is what fits the directory's entry.
enum class StoredForm : uint8_t {
  kRaw = 0,
  kLossless = 1,
  kKivi2 = 2,
  kKivi4 = 3,
  kKivi8 = 4,
  kRotated2 = 5,
  kRotated3 = 6,
  kRotated4 = 7,
  kRotated5 = 8,
  kProgressive2 = 9,
  kProgressive3 = 10,
  kProgressive4 = 11,
  kProgressive5 = 12,
  kProgressive8 = 13,
  kTransform2 = 14,
  kTransform3 = 15,
};
// None: no form of that codec has so many bits. Exact codecs have 0.
std::optional<StoredForm> FormOf(CodecId codec, uint32_t bits);
CodecId CodecOf(StoredForm form);
// Of a code; 0: exact.
uint32_t BitsOf(StoredForm form);
inline bool IsLossy(StoredForm form) { return BitsOf(form) != 0; }
// The same of a form that this build may not know.
inline bool IsLossyForm(uint8_t form) { return form > static_cast<uint8_t>(StoredForm::kLossless); }
// "raw", "lossless", "rotated4" ...; "unknown" for what this build does not know.
std::string FormName(uint8_t form);

// Thread-safe. Encoded bytes describe themselves but for their exact size,
// which the envelope's section table keeps.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual CodecId id() const = 0;
  // Room that Encode may need for `exact_size` bytes.
  virtual uint64_t MaxEncodedSize(uint64_t exact_size) const = 0;

  // Encodes `exact`, values of `element_bytes` (1, 2 or 4; the last may be cut
  // short), into the front of `into`, which has MaxEncodedSize(exact.size())
  // bytes or more. Returns the encoded size. Deterministic for one version of
  // the library beneath.
  // Errors: kInvalidArgument (element_bytes, too little room).
  virtual absl::StatusOr<uint64_t> Encode(ByteView exact, uint32_t element_bytes,
                                          MutableByteView into) const = 0;

  // Fills `exact`, whose size is the section's exact size. `encoded` may be
  // damaged: nothing outside either is touched, and memory beyond them is
  // bounded by kMaxScratchBytes. Errors: kDataLoss.
  virtual absl::Status Decode(ByteView encoded, MutableByteView exact) const = 0;

  static constexpr uint64_t kMaxScratchBytes = 1 << 20;
};

std::unique_ptr<Codec> MakeRawCodec();
// Byte planes and zstd, exact; docs/formats/envelope.md. Never larger than the
// exact bytes and 8 more.
std::unique_ptr<Codec> MakeLosslessCodec();

// Every codec that this build reads. Thread-safe after construction.
class CodecSet {
 public:
  CodecSet();
  // Errors: kDataLoss (an id that this build does not know).
  absl::StatusOr<const Codec*> Find(uint8_t id) const;
  const Codec& raw() const { return *codecs_[0]; }
  const Codec& lossless() const { return *codecs_[1]; }

 private:
  std::array<std::unique_ptr<Codec>, 2> codecs_;
};

}  // namespace mnemo

// The seam of the codecs: bytes in fewer bits, section by section.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"

namespace mnemo {

// On disk: never renumber. Up to 15 fit the directory's entry.
// kRaw and kLossless take any bytes; the others are those of tensor_codec.h.
enum class CodecId : uint8_t { kRaw = 0, kLossless = 1, kKivi = 2, kRotated = 3, kProgressive = 4 };
// "raw", "lossless", "kivi" ...; "unknown" for what this build does not know.
std::string_view CodecName(uint8_t id);

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

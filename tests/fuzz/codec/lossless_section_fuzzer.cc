// Exact sections: any bytes as packed integers and as lossless sections, and any bytes as
// values, there and back.
#include <algorithm>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/codec.h"
#include "storage/codec/packed_integers.h"

namespace {

using namespace mnemo;

void Decode(const Codec& codec, ByteView bytes, uint32_t element_bytes, size_t size) {
  std::vector<uint8_t> exact(size);
  absl::Status status = codec::UnpackIntegers(bytes, element_bytes, exact);
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  status = codec.Decode(bytes, exact);
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
}

void ThereAndBack(const Codec& codec, ByteView exact, uint32_t element_bytes) {
  std::vector<uint8_t> packed(2 * exact.size() + 16);
  packed.resize(codec::PackIntegers(exact, element_bytes, packed));
  std::vector<uint8_t> back(exact.size());
  if (!packed.empty()) {
    MNEMO_CHECK(codec::UnpackIntegers(packed, element_bytes, back).ok());
    MNEMO_CHECK(std::equal(back.begin(), back.end(), exact.begin(), exact.end()));
    // Less room is too little, or what is written has room there.
    std::vector<uint8_t> tight(packed.size() - 1);
    MNEMO_CHECK(codec::PackIntegers(exact, element_bytes, tight) == 0);
  }
  std::vector<uint8_t> encoded(codec.MaxEncodedSize(exact.size()));
  const auto size = codec.Encode(exact, element_bytes, encoded);
  MNEMO_CHECK(size.ok() && *size <= encoded.size());
  std::fill(back.begin(), back.end(), uint8_t{0xee});
  MNEMO_CHECK(codec.Decode(ByteView(encoded).first(*size), back).ok());
  MNEMO_CHECK(std::equal(back.begin(), back.end(), exact.begin(), exact.end()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CodecSet codecs;
  ByteReader reader(ByteView(data, size));
  const uint32_t element_bytes = 1U << (reader.Little<uint8_t>() % 3);
  const size_t exact_size = reader.Little<uint16_t>();
  const ByteView bytes = reader.Take(reader.remaining());
  if (!reader.ok()) return 0;
  Decode(codecs.lossless(), bytes, element_bytes, exact_size);
  ThereAndBack(codecs.lossless(), bytes, element_bytes);
  return 0;
}

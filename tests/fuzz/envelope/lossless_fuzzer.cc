// The lossless codec: any bytes as encoded ones, and any bytes there and back.
#include <algorithm>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo;
  static const CodecSet codecs;
  if (size < 4) return 0;
  const size_t exact_size = LoadLittle<uint32_t>(data) % (600 << 10);
  const ByteView bytes(data + 4, size - 4);

  std::vector<uint8_t> decoded(exact_size);
  const absl::Status status = codecs.lossless().Decode(bytes, decoded);
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);

  const uint32_t element_bytes = 1u << (data[0] % 3);
  std::vector<uint8_t> encoded(codecs.lossless().MaxEncodedSize(bytes.size()));
  const auto encoded_size = codecs.lossless().Encode(bytes, element_bytes, encoded);
  MNEMO_CHECK(encoded_size.ok());
  std::vector<uint8_t> back(bytes.size());
  MNEMO_CHECK(codecs.lossless().Decode(ByteView(encoded).first(*encoded_size), back).ok());
  MNEMO_CHECK(std::equal(back.begin(), back.end(), bytes.begin(), bytes.end()));
  return 0;
}

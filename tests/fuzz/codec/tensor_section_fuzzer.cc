// Sections of every tensor codec: any bytes as encoded ones, and any bytes as
// tensors, there and back.
#include <algorithm>
#include <cmath>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/tensor_codec.h"

namespace {

using namespace mnemo;

struct Coder {
  CodecId id;
  uint32_t bits;
};
constexpr Coder kCoders[] = {
    {CodecId::kKivi, 2},        {CodecId::kKivi, 4},        {CodecId::kKivi, 8},
    {CodecId::kRotated, 1},     {CodecId::kRotated, 2},     {CodecId::kRotated, 3},
    {CodecId::kRotated, 4},     {CodecId::kRotated, 5},     {CodecId::kProgressive, 2},
    {CodecId::kProgressive, 3}, {CodecId::kProgressive, 4}, {CodecId::kProgressive, 5},
    {CodecId::kProgressive, 8}};

TensorShape SmallShape(ByteReader& reader) {
  TensorShape shape;
  const auto flags = reader.Little<uint8_t>();
  shape.role = (flags & 1) != 0 ? TensorRole::kValues : TensorRole::kKeys;
  shape.token_major = (flags & 2) != 0;
  shape.dtype = static_cast<DType>(1 + (flags >> 2) % 5);
  shape.layers = 1 + reader.Little<uint8_t>() % 3;
  shape.tokens = 1 + reader.Little<uint8_t>() % 80;
  shape.heads = 1 + reader.Little<uint8_t>() % 3;
  shape.dimension = 1 + reader.Little<uint8_t>() % 130;
  shape.tail_bytes = shape.token_major ? 0 : reader.Little<uint8_t>() % 9;
  shape.exact_tokens = std::min<uint32_t>(reader.Little<uint8_t>() % 5, shape.tokens);
  shape.first_position = reader.Little<uint16_t>();
  return shape;
}

bool AllFinite(const TensorShape& shape, ByteView bytes) {
  std::vector<float> row(shape.dimension);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
      for (uint32_t head = 0; head < shape.heads; ++head) {
        codec::ScalarRowKernels().Load(shape.dtype,
                                       bytes.data() + shape.RowOffset(layer, token, head),
                                       shape.dimension, row.data());
        if (!std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); })) {
          return false;
        }
      }
    }
  }
  return true;
}

// `bytes`, repeated to the size of the tensor.
void ThereAndBack(const TensorShape& shape, ByteView bytes, TensorDecoder& decoder) {
  std::vector<uint8_t> exact(shape.bytes());
  for (size_t i = 0; i < exact.size() && !bytes.empty(); ++i) exact[i] = bytes[i % bytes.size()];
  for (const Coder& coder : kCoders) {
    const auto codec = TensorCodec::Create(coder.id, coder.bits).value();
    std::vector<uint8_t> encoded(codec->MaxEncodedSize(shape));
    const auto made = codec->Encode(shape, exact, nullptr, encoded);
    MNEMO_CHECK(made.ok() || made.status().code() == absl::StatusCode::kOutOfRange ||
                made.status().code() == absl::StatusCode::kInvalidArgument);
    if (!made.ok()) continue;
    std::vector<uint8_t> back(shape.bytes());
    const absl::Status decoded =
        decoder.Decode(ByteView(encoded).first(made->bytes), shape, TensorSlice::All(shape), back);
    MNEMO_CHECK(decoded.ok());
    MNEMO_CHECK(AllFinite(shape, back));
  }
}

// What is cut to fewer bits decodes if the whole did, and anything else is refused.
void CutAndDecode(const TensorShape& shape, ByteView section, bool whole_decodes,
                  TensorDecoder& decoder) {
  for (const uint32_t bits : {1u, 2u, 5u, 8u}) {
    std::vector<uint8_t> cut(section.begin(), section.end());
    const auto size = Demote(cut, bits);
    MNEMO_CHECK(size.ok() || size.status().code() == absl::StatusCode::kInvalidArgument ||
                size.status().code() == absl::StatusCode::kDataLoss);
    if (!size.ok()) continue;
    MNEMO_CHECK(*size <= cut.size());
    std::vector<uint8_t> decoded(shape.bytes());
    const absl::Status status =
        decoder.Decode(ByteView(cut).first(*size), shape, TensorSlice::All(shape), decoded);
    MNEMO_CHECK(status.ok() == whole_decodes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CalibrationSet none;
  static TensorDecoder decoder(none);
  ByteReader reader(ByteView(data, size));
  const TensorShape shape = SmallShape(reader);
  const ByteView bytes = reader.Take(reader.remaining());
  if (!reader.ok()) return 0;

  std::vector<uint8_t> decoded(shape.bytes());
  const absl::Status status = decoder.Decode(bytes, shape, TensorSlice::All(shape), decoded);
  if (status.ok()) MNEMO_CHECK(AllFinite(shape, decoded));
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss ||
              status.code() == absl::StatusCode::kFailedPrecondition);
  CutAndDecode(shape, bytes, status.ok(), decoder);
  ThereAndBack(shape, bytes, decoder);
  return 0;
}

// Sections of the transform codec, with a calibration that knows their axes: any bytes as
// streams of codes, and any bytes as tensors, there and back.
#include <algorithm>
#include <cmath>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/tensor_codec.h"

namespace {

using namespace mnemo;

constexpr uint32_t kLayers = 2, kHeads = 2, kWidth = 20;

TensorShape ShapeOfRole(TensorRole role, uint32_t tokens) {
  return {.role = role,
          .dtype = DType::kF32,
          .layers = kLayers,
          .tokens = tokens,
          .heads = kHeads,
          .dimension = kWidth};
}

std::shared_ptr<const Calibration> Calibrate() {
  CalibrationFit fit = CalibrationFit::Create({.layers = kLayers,
                                               .heads = kHeads,
                                               .k_dimension = kWidth,
                                               .v_dimension = kWidth,
                                               .ropes = {{RopeStyle::kHalf, 1e4}, {}}},
                                              CalibrationKind::kAxes)
                           .value();
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    const TensorShape shape = ShapeOfRole(role, 64);
    std::vector<uint8_t> exact(shape.bytes());
    for (size_t i = 0; i < exact.size(); i += 4) {
      const float noise = static_cast<float>((i * 2654435761U >> 9) % 101) - 50.0F;
      StoreLittle(exact.data() + i, noise / static_cast<float>(1 + i / 4 % kWidth));
    }
    MNEMO_CHECK(fit.Add(shape, exact).ok());
  }
  return fit.Finish().value();
}

bool AllFinite(ByteView bytes) {
  for (size_t i = 0; i < bytes.size(); i += 4) {
    if (!std::isfinite(LoadLittle<float>(bytes.data() + i))) return false;
  }
  return true;
}

// `bytes` as the body of a section that is otherwise right: its header comes from one that was
// encoded.
void DecodeBody(const TensorShape& shape, uint32_t bits, ByteView bytes,
                const Calibration& calibration, TensorDecoder& decoder) {
  TensorShape none = shape;
  none.exact_tokens = none.tokens;
  const auto codec = TensorCodec::Create(CodecId::kTransform, bits).value();
  std::vector<uint8_t> section(std::max(codec->MaxEncodedSize(shape), codec->MaxEncodedSize(none)));
  const std::vector<uint8_t> zeros(shape.bytes());
  const uint64_t front = codec->Encode(none, zeros, &calibration, section)->bytes - zeros.size();
  section.resize(codec->Encode(shape, zeros, &calibration, section)->bytes);
  section.resize(front);
  section.insert(section.end(), bytes.begin(), bytes.end());
  std::vector<uint8_t> decoded(shape.bytes());
  const absl::Status status = decoder.Decode(section, shape, TensorSlice::All(shape), decoded);
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  if (status.ok()) MNEMO_CHECK(AllFinite(decoded));
}

// `bytes`, repeated to the size of the tensor.
void ThereAndBack(const TensorShape& shape, uint32_t bits, ByteView bytes,
                  const Calibration& calibration, TensorDecoder& decoder) {
  std::vector<uint8_t> exact(shape.bytes());
  for (size_t i = 0; i < exact.size() && !bytes.empty(); ++i) exact[i] = bytes[i % bytes.size()];
  const auto codec = TensorCodec::Create(CodecId::kTransform, bits).value();
  std::vector<uint8_t> encoded(codec->MaxEncodedSize(shape));
  const auto made = codec->Encode(shape, exact, &calibration, encoded);
  MNEMO_CHECK(made.ok() || made.status().code() == absl::StatusCode::kOutOfRange);
  if (!made.ok()) return;
  std::vector<uint8_t> back(shape.bytes());
  MNEMO_CHECK(
      decoder.Decode(ByteView(encoded).first(made->bytes), shape, TensorSlice::All(shape), back)
          .ok());
  MNEMO_CHECK(AllFinite(back));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto calibration = Calibrate();
  static const CalibrationSet set = [] {
    CalibrationSet made;
    made.Add(calibration);
    return made;
  }();
  static TensorDecoder decoder(set);
  ByteReader reader(ByteView(data, size));
  const auto choice = reader.Little<uint8_t>();
  const TensorShape shape = ShapeOfRole((choice & 1) != 0 ? TensorRole::kValues : TensorRole::kKeys,
                                        1 + reader.Little<uint8_t>() % 40);
  const uint32_t bits = 1 + (choice >> 1) % 5;
  const ByteView bytes = reader.Take(reader.remaining());
  if (!reader.ok()) return 0;
  DecodeBody(shape, bits, bytes, *calibration, decoder);
  ThereAndBack(shape, bits, bytes, *calibration, decoder);
  return 0;
}

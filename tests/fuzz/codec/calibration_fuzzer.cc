// Calibrations: any bytes under a right checksum, and what codecs make of those that
// are taken.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/tensor_codec.h"

namespace {

using namespace mnemo;

// One token of a layer there and back, of values that come from `seed`.
void Use(const Calibration& calibration, const CalibrationSet& set, TensorRole role,
         uint32_t seed) {
  const CalibrationGeometry& geometry = calibration.geometry();
  const TensorShape shape = {.role = role,
                             .dtype = DType::kF32,
                             .tokens = 2,
                             .heads = 1,
                             .dimension = geometry.Dimension(role),
                             .first_layer = seed % geometry.layers,
                             .first_head = seed % geometry.heads,
                             .first_position = seed};
  if (shape.dimension == 0) return;
  std::vector<uint8_t> exact(shape.bytes());
  for (size_t i = 0; i < exact.size(); i += 4) {
    StoreLittle(exact.data() + i, static_cast<float>((seed + i) % 97) - 48.0F);
  }
  TensorDecoder decoder(set);
  for (const auto& [id, bits] :
       {std::pair(CodecId::kKivi, 4U), std::pair(CodecId::kRotated, 3U),
        std::pair(CodecId::kProgressive, 8U), std::pair(CodecId::kTransform, 3U)}) {
    if (id == CodecId::kTransform && !calibration.has_axes()) continue;
    const auto codec = TensorCodec::Create(id, bits).value();
    std::vector<uint8_t> encoded(codec->MaxEncodedSize(shape));
    const auto made = codec->Encode(shape, exact, &calibration, encoded);
    MNEMO_CHECK(made.ok() || made.status().code() == absl::StatusCode::kOutOfRange);
    if (!made.ok()) continue;
    std::vector<float> back(exact.size() / 4);
    const MutableByteView into(reinterpret_cast<uint8_t*>(back.data()), exact.size());
    MNEMO_CHECK(
        decoder.Decode(ByteView(encoded).first(made->bytes), shape, TensorSlice::All(shape), into)
            .ok());
    MNEMO_CHECK(std::all_of(back.begin(), back.end(), [](float x) { return std::isfinite(x); }));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const auto seed = LoadLittle<uint32_t>(data);
  std::string bytes(reinterpret_cast<const char*>(data) + 4, size - 4);
  const uint64_t checksum = Checksum64(AsBytes(bytes));
  AppendLittle(bytes, checksum);
  const auto parsed = Calibration::Parse(AsBytes(bytes));
  MNEMO_CHECK(parsed.ok() || parsed.status().code() == absl::StatusCode::kDataLoss);
  if (!parsed.ok()) return 0;
  MNEMO_CHECK((*parsed)->Serialize() == bytes);
  CalibrationSet set;
  set.Add(*parsed);
  Use(**parsed, set, TensorRole::kKeys, seed);
  Use(**parsed, set, TensorRole::kValues, seed);
  return 0;
}

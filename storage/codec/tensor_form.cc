#include "storage/codec/tensor_form.h"

#include <fmt/format.h>

#include <limits>
#include <string_view>

#include "storage/base/status_macros.h"
#include "storage/codec/quantizer.h"
#include "storage/codec/transform_basis.h"

namespace mnemo::codec {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kDTypeBits = 0x0f;
constexpr uint8_t kValuesFlag = 0x10;
constexpr uint8_t kTokenMajorFlag = 0x20;
constexpr uint8_t kCalibratedFlag = 0x40;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("tensor section: {}", what));
}

// The numbers of a header, in their order.
template <typename Shape, typename Visit>
void ForEachField(Shape& shape, const Visit& visit) {
  visit(shape.layers);
  visit(shape.tokens);
  visit(shape.heads);
  visit(shape.dimension);
  visit(shape.tail_bytes);
  visit(shape.exact_tokens);
  visit(shape.first_layer);
  visit(shape.first_head);
  visit(shape.first_position);
}

}  // namespace

size_t WriteVarint(uint32_t value, uint8_t* into) {
  size_t size = 0;
  for (; value >= 0x80; value >>= 7) into[size++] = static_cast<uint8_t>(value | 0x80);
  into[size++] = static_cast<uint8_t>(value);
  return size;
}

uint32_t ReadVarint(ByteReader& reader) {
  uint64_t value = 0;
  for (uint32_t shift = 0; shift < 35; shift += 7) {
    const auto byte = reader.Little<uint8_t>();
    value |= uint64_t{byte & 0x7fU} << shift;
    if ((byte & 0x80) == 0) break;
    if (shift == 28) return std::numeric_limits<uint32_t>::max();
  }
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(value > kMost ? kMost : value);
}

size_t WriteTensorHeader(const TensorHeader& header, uint8_t* into) {
  const TensorShape& shape = header.shape;
  into[0] = kVersion;
  into[1] = static_cast<uint8_t>(header.codec);
  into[2] = header.bits;
  into[3] = static_cast<uint8_t>(shape.dtype);
  if (shape.role == TensorRole::kValues) into[3] |= kValuesFlag;
  if (shape.token_major) into[3] |= kTokenMajorFlag;
  if (header.calibration_id != 0) into[3] |= kCalibratedFlag;
  size_t size = 4;
  ForEachField(shape, [&](uint32_t field) { size += WriteVarint(field, into + size); });
  if (header.calibration_id != 0) {
    StoreLittle(into + size, header.calibration_id);
    size += sizeof(header.calibration_id);
  }
  return size;
}

absl::StatusOr<TensorHeader> ReadTensorHeader(ByteReader& reader) {
  const auto version = reader.Little<uint8_t>();
  TensorHeader header;
  header.codec = static_cast<CodecId>(reader.Little<uint8_t>());
  header.bits = reader.Little<uint8_t>();
  const auto flags = reader.Little<uint8_t>();
  TensorShape& shape = header.shape;
  ForEachField(shape, [&](uint32_t& field) { field = ReadVarint(reader); });
  if ((flags & kCalibratedFlag) != 0) header.calibration_id = reader.Little<uint32_t>();
  if (!reader.ok()) return Damaged("shorter than its header");
  if (version != kVersion) return Damaged(fmt::format("version {}, not {}", version, kVersion));
  if ((flags & 0x80) != 0) return Damaged("an unknown flag");
  if ((flags & kCalibratedFlag) != 0 && header.calibration_id == 0) {
    return Damaged("calibration 0");
  }
  shape.dtype = static_cast<DType>(flags & kDTypeBits);
  shape.role = (flags & kValuesFlag) != 0 ? TensorRole::kValues : TensorRole::kKeys;
  shape.token_major = (flags & kTokenMajorFlag) != 0;
  if (const absl::Status valid = ValidateTensor(shape); !valid.ok()) {
    return Damaged(std::string(valid.message()));
  }
  return header;
}

void DecodeLayer::Store(uint32_t token, const float* values) const {
  const TensorShape& shape = header.shape;
  uint8_t* const at = out + (token - first_token) * token_stride;
  if (shape.dimension == header.padded()) {
    return kernels.Store(shape.dtype, values, size_t{heads} * shape.dimension, at);
  }
  for (uint32_t head = 0; head < heads; ++head) {
    kernels.Store(shape.dtype, values + head * header.padded(), shape.dimension,
                  at + head * shape.row_bytes());
  }
}

const TensorForm* FindTensorForm(CodecId codec, uint32_t bits) {
  if (codec == CodecId::kKivi && (bits == 2 || bits == 4 || bits == 8)) return &KiviForm();
  if (codec == CodecId::kRotated && bits >= 1 && bits <= 5) return &RotatedForm();
  if (codec == CodecId::kProgressive && IsFidelity(bits)) return &ProgressiveForm();
  if (codec == CodecId::kTransform && bits >= 1 && bits <= kMostTransformBits) {
    return &TransformForm();
  }
  return nullptr;
}

RopeRows* RopeOf(const TensorHeader& header, const Calibration* calibration, uint32_t layer,
                 uint32_t token, const RowKernels& kernels, RopeCache& ropes) {
  const TensorShape& shape = header.shape;
  if (shape.role != TensorRole::kKeys || calibration == nullptr) return nullptr;
  const LayerRope& rope = calibration->geometry().ropes[shape.first_layer + layer];
  if (rope.style == RopeStyle::kNone) return nullptr;
  return &ropes.At(kernels, rope, shape.dimension,
                   shape.first_position + shape.exact_tokens + token);
}

}  // namespace mnemo::codec

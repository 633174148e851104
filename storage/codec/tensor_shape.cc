#include "storage/codec/tensor_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::Status CheckRange(std::string_view field, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("tensor.{} is {}, allowed {} to {}", field, value, least, most));
}

absl::Status CheckBox(std::string_view field, uint32_t first, uint32_t count, uint32_t of) {
  if (count != 0 && first < of && count <= of - first) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("slice.{} is {} from {}, allowed 1 or more within {}", field, count, first, of));
}

}  // namespace

absl::Status ValidateTensor(const TensorShape& shape) {
  MNEMO_RETURN_IF_ERROR(CheckRange("role", static_cast<uint8_t>(shape.role), 0, 1));
  if (!IsFloat(shape.dtype)) {
    return absl::InvalidArgumentError(fmt::format("tensor.dtype is {}, allowed are floats (1 to 5)",
                                                  static_cast<int>(shape.dtype)));
  }
  MNEMO_RETURN_IF_ERROR(CheckRange("layers", shape.layers, 1, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange("tokens", shape.tokens, 1, 65535));
  MNEMO_RETURN_IF_ERROR(CheckRange("heads", shape.heads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange("dimension", shape.dimension, 1, 16384));
  MNEMO_RETURN_IF_ERROR(
      CheckRange("tail_bytes", shape.tail_bytes, 0, shape.token_major ? 0 : 16 << 20));
  MNEMO_RETURN_IF_ERROR(CheckRange("exact_tokens", shape.exact_tokens, 0, shape.tokens));
  MNEMO_RETURN_IF_ERROR(CheckRange("first_layer", shape.first_layer, 0, 1023));
  MNEMO_RETURN_IF_ERROR(CheckRange("first_head", shape.first_head, 0, 1023));
  // No product above overflows 64 bits.
  return CheckRange("bytes", shape.bytes(), 1, kMaxTensorBytes);
}

absl::Status ValidateSlice(const TensorShape& shape, const TensorSlice& slice) {
  MNEMO_RETURN_IF_ERROR(CheckBox("layers", slice.first_layer, slice.layers, shape.layers));
  MNEMO_RETURN_IF_ERROR(CheckBox("tokens", slice.first_token, slice.tokens, shape.tokens));
  return CheckBox("heads", slice.first_head, slice.heads, shape.heads);
}

TensorShape ShapeOf(const TensorShape& shape, const TensorSlice& slice) {
  TensorShape part = shape;
  part.layers = slice.layers;
  part.tokens = slice.tokens;
  part.heads = slice.heads;
  if (slice.tokens != shape.tokens || slice.heads != shape.heads) part.tail_bytes = 0;
  part.exact_tokens = shape.exact_tokens > slice.first_token
                          ? std::min(shape.exact_tokens - slice.first_token, slice.tokens)
                          : 0;
  part.first_layer += slice.first_layer;
  part.first_head += slice.first_head;
  part.first_position += slice.first_token;
  return part;
}

}  // namespace mnemo

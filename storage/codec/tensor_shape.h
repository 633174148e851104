// The tensors of a block as codecs see them: keys or values, [layer, token, KV
// head, dimension], in whatever order the space lays them out.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "storage/base/dtype.h"

namespace mnemo {

enum class TensorRole : uint8_t { kKeys = 0, kValues = 1 };

// What one section of a part holds, and where that lies in its group and chain.
struct TensorShape {
  TensorRole role = TensorRole::kKeys;
  DType dtype = DType::kBF16;  // a floating-point one
  uint32_t layers = 1;         // 1 to 1,024
  uint32_t tokens = 0;         // 1 to 65,535
  uint32_t heads = 0;          // of this rank; 1 to 1,024
  uint32_t dimension = 0;      // 1 to 16,384
  // Bytes are [layer, token, head, dimension], or [token, layer, head, dimension].
  bool token_major = false;
  // Scales of the engine behind the values of each layer; kept exactly. 0 if
  // token_major.
  uint32_t tail_bytes = 0;
  // So many tokens, from the first, are kept exactly; at most `tokens`.
  uint32_t exact_tokens = 0;

  // Of the group: which of its layers and heads come first here.
  uint32_t first_layer = 0;
  uint32_t first_head = 0;
  // Of the chain: the position of the first token.
  uint32_t first_position = 0;

  uint64_t row_bytes() const { return uint64_t{dimension} * (BitsOf(dtype) / 8); }
  uint64_t rows() const { return uint64_t{layers} * tokens * heads; }
  uint64_t bytes() const { return rows() * row_bytes() + uint64_t{layers} * tail_bytes; }
  // Where the row of a layer, token and head begins.
  uint64_t RowOffset(uint32_t layer, uint32_t token, uint32_t head) const {
    if (token_major) return ((uint64_t{token} * layers + layer) * heads + head) * row_bytes();
    return ((uint64_t{layer} * tokens + token) * heads + head) * row_bytes() +
           uint64_t{layer} * tail_bytes;
  }
  // Where the tail of a layer begins.
  uint64_t TailOffset(uint32_t layer) const { return RowOffset(layer, tokens, 0); }
  friend bool operator==(const TensorShape&, const TensorShape&) = default;
};

inline constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 30;

// Errors: kInvalidArgument, naming the field and its range.
absl::Status ValidateTensor(const TensorShape& shape);

// A box of rows. Decoded, its rows lie densely in the order of the tensor; a
// layer's tail follows them where the box has all tokens and heads.
struct TensorSlice {
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  uint32_t first_head = 0;
  uint32_t heads = 0;

  static TensorSlice All(const TensorShape& shape) {
    return {.layers = shape.layers, .tokens = shape.tokens, .heads = shape.heads};
  }
};

// The shape of what decoding `slice` gives. Errors: kInvalidArgument (an empty
// slice, one that reaches beyond the tensor).
absl::Status ValidateSlice(const TensorShape& shape, const TensorSlice& slice);
TensorShape ShapeOf(const TensorShape& shape, const TensorSlice& slice);

// The first tokens of a chain, or of a context, which attention falls back on whatever
// they say: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR
// 2024, keep four. They are unlike all others, and stay exact in every codec.
inline constexpr uint32_t kSinkTokens = 4;
// How many of them lie in the block at `depth` of its chain.
constexpr uint32_t ExactTokens(uint64_t depth, uint32_t tokens_per_block) {
  const uint64_t before = depth > kSinkTokens ? kSinkTokens : depth * tokens_per_block;
  if (before >= kSinkTokens) return 0;
  const auto left = static_cast<uint32_t>(kSinkTokens - before);
  return left < tokens_per_block ? left : tokens_per_block;
}

}  // namespace mnemo

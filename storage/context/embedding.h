// Rows of embeddings from one element type to another. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/element_type.h"

namespace mnemo {

// The largest magnitude of a value: what fp16 can hold.
inline constexpr float kMaxEmbeddingValue = 65504.0F;

// The index of the first element that is not finite or whose magnitude is over
// kMaxEmbeddingValue; none if all are well. `type` is fp32, fp16 or bf16;
// `bytes` are whole elements.
std::optional<size_t> FindBadElement(ElementType type, ByteView bytes);

// `count` rows of `from` to `out` as rows of `to` (fp16, int8, rotated codes, or
// `from`). Rounds to nearest. int8: the scale is the row's largest magnitude / 127, 0
// for a row of zeros.
void ConvertRows(ElementType from, const uint8_t* rows, size_t count, size_t dimension,
                 ElementType to, uint8_t* out);
// The same, appended to `out`.
void EncodeRows(ElementType from, ByteView rows, size_t count, size_t dimension, ElementType to,
                std::string& out);

// Inner product of two rows, summed in the same order on every machine.
float Dot(const float* a, const float* b, size_t dimension);

// to_sum += sum; to_min and to_max take what is smaller in `min` and larger in
// `max`, element by element. The three that are read may be one and the same.
void Accumulate(size_t dimension, const float* sum, const float* min, const float* max,
                float* to_sum, float* to_min, float* to_max);

// `count` rows of any type to fp32, [count, dimension].
void DecodeRows(ElementType type, const uint8_t* rows, size_t count, size_t dimension, float* out);

}  // namespace mnemo

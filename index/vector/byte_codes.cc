#include "index/vector/byte_codes.h"

#include <algorithm>
#include <cmath>

namespace mnemo {
namespace {

constexpr float kLargestCode = 127;
// Keeps sums of squares within fp32; what is beyond is only found as large.
constexpr float kLargestValue = 1e15F;

float LargestMagnitude(const float* values, size_t count) {
  float largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

}  // namespace

ByteCodes::ByteCodes(const VectorShape& shape, uint32_t nodes, uint64_t seed,
                     std::vector<float> centre, const Kernels& kernels)
    : shape_(shape),
      nodes_(nodes),
      kernels_(kernels),
      rotation_(shape.dimension, seed),
      centre_(std::move(centre)) {
  padded_ = rotation_.padded();
  largest_query_ = std::min(32767.0F, std::floor(2147483647.0F / (kLargestCode * padded_)) - 1);
  rotated_centre_.resize(padded_);
  rotation_.Apply(kernels_, centre_.data(), rotated_centre_.data());
  codes_ = AlignedArray<int8_t>(size_t{nodes} * padded_);
  factors_ = AlignedArray<RowFactors>(nodes);
}

void ByteCodes::Encode(uint32_t node, float* x, float* scratch) {
  if (shape_.metric == Metric::kCosine) {
    double norm = 0;
    for (uint32_t i = 0; i < shape_.dimension; ++i) norm += double{x[i]} * x[i];
    const auto scale = static_cast<float>(norm > 0 ? 1 / std::sqrt(norm) : 0);
    for (uint32_t i = 0; i < shape_.dimension; ++i) x[i] *= scale;
  }
  for (uint32_t i = 0; i < shape_.dimension; ++i) {
    x[i] = std::clamp(x[i] - centre_[i], -kLargestValue, kLargestValue);
  }
  rotation_.Apply(kernels_, x, scratch);

  const float scale = LargestMagnitude(scratch, padded_) / kLargestCode;
  const float inverse = scale > 0 ? 1 / scale : 0;
  int8_t* const code = codes_.data() + size_t{node} * padded_;
  double norm = 0;
  double with_centre = 0;
  double centre_norm = 0;
  for (uint32_t i = 0; i < padded_; ++i) {
    // Infinite where the scale is subnormal; clamped as well.
    const float step = std::clamp(std::nearbyint(scratch[i] * inverse), -127.0F, 127.0F);
    code[i] = static_cast<int8_t>(step);
    norm += double{step} * step;
    with_centre += double{step} * rotated_centre_[i];
    centre_norm += double{rotated_centre_[i]} * rotated_centre_[i];
  }
  factors_[node].scale = scale;
  factors_[node].offset = static_cast<float>(
      shape_.metric == Metric::kL2 ? norm * scale * scale : -(centre_norm + with_centre * scale));
}

void ByteCodes::Quantize(const float* rotated, CodeQuery& out) const {
  const float step = LargestMagnitude(rotated, padded_) / largest_query_;
  const float inverse = step > 0 ? 1 / step : 0;
  out.values.resize(padded_);
  float squares = 0;
  for (uint32_t i = 0; i < padded_; ++i) {
    squares += rotated[i] * rotated[i];
    const float value = std::clamp(rotated[i] * inverse, -largest_query_, largest_query_);
    out.values[i] = static_cast<int16_t>(std::lrint(value));
  }
  const float weight = shape_.metric == Metric::kL2 ? 2 : 1;
  out.factor = weight * step;
  // A code's error is even over one step, in each coordinate by itself.
  out.error = weight * std::sqrt(squares / 12);
}

void ByteCodes::MakeQuery(const Query& query, CodeQuery& out) const {
  std::vector<float> values(query.values(), query.values() + shape_.dimension);
  for (uint32_t i = 0; i < shape_.dimension; ++i) {
    if (shape_.metric == Metric::kL2) values[i] -= centre_[i];
    values[i] = std::clamp(values[i], -kLargestValue, kLargestValue);
  }
  std::vector<float> rotated(padded_);
  rotation_.Apply(kernels_, values.data(), rotated.data());
  Quantize(rotated.data(), out);
}

void ByteCodes::MakeNodeQuery(uint32_t node, CodeQuery& out) const {
  const int8_t* const code = Code(node);
  const float scale = factors_[node].scale;
  if (shape_.metric == Metric::kL2) {
    out.values.assign(code, code + padded_);
    out.factor = 2 * scale;
    return;
  }
  std::vector<float> decoded(padded_);
  for (uint32_t i = 0; i < padded_; ++i) decoded[i] = rotated_centre_[i] + scale * code[i];
  Quantize(decoded.data(), out);
}

void ByteCodes::Distances(const CodeQuery& query, std::span<const uint32_t> nodes, Batch& batch,
                          float* out) const {
  for (size_t i = 0; i < nodes.size(); ++i) batch.rows[i] = Code(nodes[i]);
  kernels_.dot_rows(query.values.data(), batch.rows, nodes.size(), padded_, batch.dots);
  const bool is_l2 = shape_.metric == Metric::kL2;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const RowFactors& row = factors_[nodes[i]];
    const float product = query.factor * row.scale * static_cast<float>(batch.dots[i]);
    out[i] = (is_l2 ? row.offset : 0) - product;
  }
}

}  // namespace mnemo

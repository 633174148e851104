#include "index/vector/bit_codes.h"

#include <algorithm>
#include <cmath>

namespace mnemo {

BitCodes::BitCodes(const VectorShape& shape, uint64_t seed, std::span<const uint32_t> list_sizes,
                   const Kernels& kernels)
    : shape_(shape),
      kernels_(kernels),
      rotation_(shape.dimension, seed),
      padded_(rotation_.padded()),
      tables_(padded_ / 4) {
  list_begin_.push_back(0);
  for (const uint32_t size : list_sizes) {
    list_begin_.push_back(list_begin_.back() + (size + kBlockCodes - 1) / kBlockCodes);
  }
  codes_ = AlignedArray<uint8_t>(blocks() * BlockBytes(shape.dimension));
  factors_ = AlignedArray<BitFactors>(blocks() * kBlockCodes);
}

void BitCodes::Encode(uint32_t list, uint32_t entry, const float* x, const float* centre,
                      float* scratch) {
  float* const residual = scratch;
  float* const rotated_centre = scratch + padded_;
  rotation_.Apply(kernels_, centre, rotated_centre);
  rotation_.Apply(kernels_, x, residual);

  const size_t block = list_begin_[list] + entry / kBlockCodes;
  const size_t at = entry % kBlockCodes;
  uint8_t* const code = codes_.data() + block * tables_ * 16 + at % 16;
  double squares = 0;
  double magnitudes = 0;
  double with_centre = 0;
  double exact = 0;
  for (uint32_t i = 0; i < padded_; ++i) {
    const float value = residual[i] - rotated_centre[i];
    squares += double{value} * value;
    magnitudes += std::abs(value);
    with_centre += value < 0 ? -rotated_centre[i] : rotated_centre[i];
    exact += double{value} * rotated_centre[i];
    if (value >= 0) {
      code[size_t{i / 4} * 16] |= static_cast<uint8_t>(1U << (i % 4 + (at < 16 ? 0 : 4)));
    }
  }
  BitFactors& factors = factors_[block * kBlockCodes + at];
  const double root = std::sqrt(static_cast<double>(padded_));
  const double norm = std::sqrt(squares);
  const double a = norm > 0 ? magnitudes / (root * norm) : 1;
  const double weight = shape_.metric == Metric::kL2 ? 2 : 1;
  factors.scale = static_cast<float>(weight * norm / (a * root));
  // <x, q> = <c, q> + <r, Rc> + <r, v - Rc>, and |x - q|^2 likewise. Of the last
  // product the part with Rc is estimated as that with v is, so that both errors
  // cancel for a query near c; the product before it is known.
  const double estimated = norm / (a * root) * with_centre;
  factors.offset = static_cast<float>(shape_.metric == Metric::kL2 ? squares + 2 * estimated
                                                                   : estimated - exact);
  factors.error = static_cast<float>(weight * norm * std::sqrt(std::max(0.0, 1 - a * a)) /
                                     (a * std::sqrt(padded_ - 1.0)));
}

void BitCodes::MakeQuery(const Query& query, BitQuery& out) const {
  out.rotated.resize(padded_);
  rotation_.Apply(kernels_, query.values(), out.rotated.data());
  if (out.lut.size() != tables_ * 16) out.lut = AlignedArray<uint8_t>(tables_ * 16);
  // An entry is the sum of four signed values, raised by the sum of their
  // magnitudes: 0 to twice that sum.
  float largest = 0;
  float raised = 0;
  for (size_t table = 0; table < tables_; ++table) {
    float magnitude = 0;
    for (size_t i = 0; i < 4; ++i) magnitude += std::abs(out.rotated[table * 4 + i]);
    largest = std::max(largest, 2 * magnitude);
    raised += magnitude;
  }
  const auto most = static_cast<float>(std::min<size_t>(255, 65535 / tables_));
  out.lut_step = largest / most;
  out.lut_base = -raised;
  const float inverse = largest > 0 ? most / largest : 0;
  for (size_t table = 0; table < tables_; ++table) {
    const float* const v = out.rotated.data() + table * 4;
    for (uint32_t code = 0; code < 16; ++code) {
      float sum = 0;
      for (uint32_t i = 0; i < 4; ++i) {
        sum += std::abs(v[i]) + ((code >> i) & 1 ? v[i] : -v[i]);
      }
      out.lut[table * 16 + code] = static_cast<uint8_t>(std::min(most, sum * inverse + 0.5F));
    }
  }
}

void BitCodes::Estimate(const BitQuery& query, size_t block, float* out) const {
  uint16_t sums[kBlockCodes];
  kernels_.sum_codes(codes_.data() + block * tables_ * 16, 1, tables_, query.lut.data(), sums);
  const BitFactors* const factors = &factors_[block * kBlockCodes];
  for (size_t i = 0; i < kBlockCodes; ++i) {
    const float product = query.lut_step * static_cast<float>(sums[i]) + query.lut_base;
    out[i] = factors[i].scale * product - factors[i].offset;
  }
}

}  // namespace mnemo

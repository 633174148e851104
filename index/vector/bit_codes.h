// Vectors as the signs of their rotated residuals, in lists: RaBitQ (Gao and
// Long, SIGMOD 2024), laid out for table look-ups.
//
// A vector x of a list with centre c has the residual r = R(x - c), the code
// sign(r), and a = <sign(r) / sqrt(D), r / |r|>. Its product with a rotated
// vector w is estimated by |r| / (a sqrt(D)) * <sign(r), w>, with a standard
// deviation of at most |r| |w| sqrt((1 - a^2) / a^2) / sqrt(D - 1). Here w is
// R(q - c) for a query q.
#pragma once

#include <span>
#include <vector>

#include "index/vector/aligned_array.h"
#include "index/vector/query.h"
#include "index/vector/rotation.h"

namespace mnemo {

// Score of a row = the list's base + scale * <sign, Rq> - offset, give or take
// error * |q - c|. The base is -|q - c|^2 for kL2, otherwise <q, c>.
struct BitFactors {
  float scale = 0;
  float offset = 0;
  float error = 0;  // one standard deviation
};

// A query, ready for any list.
struct BitQuery {
  AlignedArray<uint8_t> lut;  // [tables x 16]
  float lut_step = 0;         // <sign, Rq> = lut_step * sum + lut_base
  float lut_base = 0;
  std::vector<float> rotated;  // [padded]
};

// Codes of all lists, one behind the other, each filled up to whole blocks.
// Filled once, immutable and thread-safe then.
class BitCodes {
 public:
  // `list_sizes`: rows of each list.
  BitCodes(const VectorShape& shape, uint64_t seed, std::span<const uint32_t> list_sizes,
           const Kernels& kernels);

  // Encodes `x` [dimension], of norm 1 if the metric is cosine, as entry `entry`
  // of `list`. `scratch` holds 2 * padded() values.
  void Encode(uint32_t list, uint32_t entry, const float* x, const float* centre, float* scratch);

  void MakeQuery(const Query& query, BitQuery& out) const;

  // Estimated scores, less the list's base, of the kBlockCodes entries of a
  // block; those behind the list's end mean nothing.
  void Estimate(const BitQuery& query, size_t block, float* out) const;

  // Where list `list` begins, in blocks; list_begin(lists) is their number.
  size_t list_begin(uint32_t list) const { return list_begin_[list]; }
  size_t blocks() const { return list_begin_.back(); }
  uint32_t padded() const { return padded_; }
  const BitFactors& Factors(size_t block, size_t entry) const {
    return factors_[block * kBlockCodes + entry];
  }
  size_t memory_bytes() const {
    return codes_.bytes() + factors_.bytes() + list_begin_.size() * sizeof(size_t);
  }

  // The parts, for the file.
  AlignedArray<uint8_t>& codes() { return codes_; }
  const AlignedArray<uint8_t>& codes() const { return codes_; }
  AlignedArray<BitFactors>& factors() { return factors_; }
  const AlignedArray<BitFactors>& factors() const { return factors_; }

  // Bytes of the codes of one block.
  static size_t BlockBytes(uint32_t dimension) {
    return size_t{Rotation::Padded(dimension)} / 4 * 16;
  }

 private:
  VectorShape shape_;
  const Kernels& kernels_;
  Rotation rotation_;
  uint32_t padded_;
  size_t tables_;  // of four dimensions each
  std::vector<size_t> list_begin_;
  AlignedArray<uint8_t> codes_;
  AlignedArray<BitFactors> factors_;
};

}  // namespace mnemo

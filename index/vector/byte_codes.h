// Vectors as rotated bytes: what a graph is walked on.
//
// A stored vector x, of norm 1 if the metric is cosine, becomes
//   x = centre + rotation^-1 (scale * code),  code in [-127, 127]^padded,
// with one scale a row, so that a row of great norm costs no other row anything.
// The distances of a walk are those to the decoded vector, and need an integer
// dot product and two numbers a row. They are smaller for nearer rows, and say
// nothing by themselves: only their order counts.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "index/vector/aligned_array.h"
#include "index/vector/query.h"
#include "index/vector/rotation.h"
#include "index/vector/vector_types.h"

namespace mnemo {

struct RowFactors {
  float scale = 0;  // of the row's code
  // kL2: the squared norm of scale * code. Otherwise: minus the inner product
  // of the decoded vector with the centre.
  float offset = 0;
};

// A query, or a row in the role of one, as integers.
struct CodeQuery {
  std::vector<int16_t> values;  // [padded]
  float factor = 0;             // a dot product times it and the row's scale is a score
  float error = 0;              // standard deviation of a distance, times the row's scale
};

// Filled once, immutable then, thread-safe once filled.
class ByteCodes {
 public:
  // `centre` [dimension] is subtracted from every vector.
  ByteCodes(const VectorShape& shape, uint32_t nodes, uint64_t seed, std::vector<float> centre,
            const Kernels& kernels);

  // Encodes `x` [dimension] as node `node`. `x` is overwritten, `scratch` holds
  // padded() values.
  void Encode(uint32_t node, float* x, float* scratch);

  // `query` as integers. Reuses what `out` holds.
  void MakeQuery(const Query& query, CodeQuery& out) const;
  // Node `node` in the role of a query.
  void MakeNodeQuery(uint32_t node, CodeQuery& out) const;

  // Distances of `query` to `nodes`, at most kMaxBatch. `rows` and `dots` are
  // the caller's scratch.
  static constexpr size_t kMaxBatch = 256;
  struct Batch {
    const int8_t* rows[kMaxBatch];
    int32_t dots[kMaxBatch];
  };
  void Distances(const CodeQuery& query, std::span<const uint32_t> nodes, Batch& batch,
                 float* out) const;

  // What a distance from node `node` lacks of being symmetric: Distances of
  // MakeNodeQuery(a) to b, plus Offset(a), is that of b to a plus Offset(b).
  float Offset(uint32_t node) const { return factors_[node].offset; }

  // Standard deviation of the distance from `query` to `node` about the true one.
  float Error(const CodeQuery& query, uint32_t node) const {
    return query.error * factors_[node].scale;
  }

  const int8_t* Code(uint32_t node) const { return codes_.data() + size_t{node} * padded_; }
  // Asks for the first cache lines of a node that Distances will want.
  void Prefetch(uint32_t node) const {
    const int8_t* const code = Code(node);
    __builtin_prefetch(&factors_[node]);
    for (uint32_t at = 0; at < std::min(padded_, kPrefetched); at += 64) {
      __builtin_prefetch(code + at);
    }
  }

  uint32_t nodes() const { return nodes_; }
  uint32_t padded() const { return padded_; }
  size_t memory_bytes() const {
    return codes_.bytes() + factors_.bytes() + sizeof(float) * (centre_.size() + padded_);
  }

  // The parts, for the file.
  std::span<const float> centre() const { return centre_; }
  AlignedArray<int8_t>& codes() { return codes_; }
  const AlignedArray<int8_t>& codes() const { return codes_; }
  AlignedArray<RowFactors>& factors() { return factors_; }
  const AlignedArray<RowFactors>& factors() const { return factors_; }

 private:
  // The processor's own prefetcher follows from there on.
  static constexpr uint32_t kPrefetched = 256;

  void Quantize(const float* rotated, CodeQuery& out) const;

  VectorShape shape_;
  uint32_t nodes_;
  uint32_t padded_;
  float largest_query_;  // int16 values that keep dot products below 2^31
  const Kernels& kernels_;
  Rotation rotation_;
  std::vector<float> centre_;          // [dimension]
  std::vector<float> rotated_centre_;  // [padded]
  AlignedArray<int8_t> codes_;         // [nodes x padded]
  AlignedArray<RowFactors> factors_;   // [nodes]
};

}  // namespace mnemo

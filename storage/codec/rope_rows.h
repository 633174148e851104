// Takes rotary position embeddings off rows of keys, and puts them on again, token
// by token; private to this room.
//
// k' = k cos(p f_i) + partner(k) sin(p f_i), f_i = theta^(-2i / dimension)
// (Su et al. 2021). Without positions a channel's keys have a mean and a scale;
// with them, most channels only have a radius.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "storage/codec/calibration.h"
#include "storage/codec/row_kernels.h"

namespace mnemo::codec {

// Stands at one position. Not thread-safe.
//
// Angles are turned on from token to token in fp32, and taken anew in fp64 at every
// position that is a multiple of kAnchor: off by 5e-5 at most, and the same
// wherever one began. Where one began is kept, since the layers of a block begin at
// the same position.
class RopeRows {
 public:
  // Of a style, an even `dimension`.
  RopeRows(const LayerRope& rope, size_t dimension);

  bool Is(const LayerRope& rope, size_t dimension) const {
    return rope_ == rope && cosine_.size() == dimension;
  }
  void MoveTo(const RowKernels& kernels, uint32_t position);
  void Advance(const RowKernels& kernels);

  // Rows [dimension], `stride` apart, in place.
  void TakeOff(const RowKernels& kernels, float* values, size_t rows, size_t stride) const {
    Turn(kernels, values, rows, stride, -1);
  }
  void PutOn(const RowKernels& kernels, float* values, size_t rows, size_t stride) const {
    Turn(kernels, values, rows, stride, 1);
  }

  static constexpr uint32_t kAnchor = 256;

 private:
  void Anchor(uint32_t position);
  void Turn(const RowKernels& kernels, float* values, size_t rows, size_t stride,
            float sign) const {
    kernels.turn(values, cosine_.data(), sine_.data(), sign, rope_.style == RopeStyle::kInterleaved,
                 rows, cosine_.size(), stride);
  }

  LayerRope rope_;
  uint32_t position_ = 0;
  std::vector<double> frequency_;  // one a channel
  std::vector<float> sign_;        // -1 for the first of a pair
  // One a channel, sines with their channel's sign.
  std::vector<float> cosine_, sine_;
  std::vector<float> step_cosine_, step_sine_;
  // As they were where one last began; empty before that.
  uint32_t mark_ = 0;
  std::vector<float> mark_cosine_, mark_sine_;
};

// One for each theta of a group, as they are asked for.
class RopeCache {
 public:
  // At `position`; valid until the next call.
  RopeRows& At(const RowKernels& kernels, const LayerRope& rope, size_t dimension,
               uint32_t position);

 private:
  static constexpr size_t kMost = 8;
  std::vector<RopeRows> rows_;
};

}  // namespace mnemo::codec

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

namespace mnemo::codec {

// Stands at one position. Not thread-safe.
//
// Angles are turned on from token to token in fp32, and taken anew in fp64 every
// kAnchor tokens: off by 1e-5 at most.
class RopeRows {
 public:
  // Of a style, an even `dimension`; of RopeStyle::kNone nothing is turned.
  RopeRows(const LayerRope& rope, size_t dimension, uint32_t position);

  void Advance();
  // Rows [dimension], in place.
  void TakeOff(float* row) const { Turn(row, -1); }
  void PutOn(float* row) const { Turn(row, 1); }

  static constexpr uint32_t kAnchor = 256;

 private:
  void Anchor();
  void Turn(float* row, float sign) const;

  RopeStyle style_;
  uint32_t position_;
  uint32_t since_anchor_ = 0;
  // One a pair.
  std::vector<double> frequency_;
  std::vector<float> cos_, sin_;
  std::vector<float> step_cos_, step_sin_;
};

}  // namespace mnemo::codec

#include "storage/codec/rope_rows.h"

#include <cmath>

namespace mnemo::codec {

RopeRows::RopeRows(const LayerRope& rope, size_t dimension, uint32_t position)
    : style_(rope.style), position_(position) {
  if (style_ == RopeStyle::kNone) return;
  const size_t pairs = dimension / 2;
  for (size_t i = 0; i < pairs; ++i) {
    frequency_.push_back(
        std::pow(rope.theta, -2 * static_cast<double>(i) / static_cast<double>(dimension)));
    step_cos_.push_back(static_cast<float>(std::cos(frequency_[i])));
    step_sin_.push_back(static_cast<float>(std::sin(frequency_[i])));
  }
  cos_.resize(pairs);
  sin_.resize(pairs);
  Anchor();
}

void RopeRows::Anchor() {
  for (size_t i = 0; i < frequency_.size(); ++i) {
    const double angle = position_ * frequency_[i];
    cos_[i] = static_cast<float>(std::cos(angle));
    sin_[i] = static_cast<float>(std::sin(angle));
  }
  since_anchor_ = 0;
}

void RopeRows::Advance() {
  ++position_;
  if (++since_anchor_ == kAnchor) return Anchor();
  for (size_t i = 0; i < cos_.size(); ++i) {
    const float cosine = cos_[i] * step_cos_[i] - sin_[i] * step_sin_[i];
    sin_[i] = sin_[i] * step_cos_[i] + cos_[i] * step_sin_[i];
    cos_[i] = cosine;
  }
}

void RopeRows::Turn(float* row, float sign) const {
  const size_t pairs = cos_.size();
  const bool half = style_ == RopeStyle::kHalf;
  for (size_t i = 0; i < pairs; ++i) {
    float& x = half ? row[i] : row[2 * i];
    float& y = half ? row[i + pairs] : row[2 * i + 1];
    const float was = x;
    x = was * cos_[i] - sign * y * sin_[i];
    y = y * cos_[i] + sign * was * sin_[i];
  }
}

}  // namespace mnemo::codec

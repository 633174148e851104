#include "storage/codec/rope_rows.h"

#include <cmath>

namespace mnemo::codec {

RopeRows::RopeRows(const LayerRope& rope, size_t dimension)
    : rope_(rope), cosine_(dimension), sine_(dimension) {
  const size_t pairs = dimension / 2;
  for (size_t i = 0; i < dimension; ++i) {
    const bool interleaved = rope.style == RopeStyle::kInterleaved;
    const size_t pair = interleaved ? i / 2 : i % pairs;
    const bool first = interleaved ? i % 2 == 0 : i < pairs;
    const double frequency =
        std::pow(rope.theta, -2 * static_cast<double>(pair) / static_cast<double>(dimension));
    frequency_.push_back(frequency);
    sign_.push_back(first ? -1.0F : 1.0F);
    step_cosine_.push_back(static_cast<float>(std::cos(frequency)));
    step_sine_.push_back(sign_[i] * static_cast<float>(std::sin(frequency)));
  }
}

void RopeRows::Anchor(uint32_t position) {
  for (size_t i = 0; i < frequency_.size(); ++i) {
    const double angle = position * frequency_[i];
    cosine_[i] = static_cast<float>(std::cos(angle));
    sine_[i] = sign_[i] * static_cast<float>(std::sin(angle));
  }
  position_ = position;
}

void RopeRows::Advance(const RowKernels& kernels) {
  if ((position_ + 1) % kAnchor == 0) return Anchor(position_ + 1);
  ++position_;
  kernels.advance(cosine_.data(), sine_.data(), step_cosine_.data(), step_sine_.data(),
                  cosine_.size());
}

void RopeRows::MoveTo(const RowKernels& kernels, uint32_t position) {
  if (mark_cosine_.empty() || position != mark_) {
    Anchor(position / kAnchor * kAnchor);
    while (position_ != position) Advance(kernels);
    mark_cosine_ = cosine_;
    mark_sine_ = sine_;
    mark_ = position;
    return;
  }
  cosine_ = mark_cosine_;
  sine_ = mark_sine_;
  position_ = position;
}

RopeRows& RopeCache::At(const RowKernels& kernels, const LayerRope& rope, size_t dimension,
                        uint32_t position) {
  for (RopeRows& rows : rows_) {
    if (!rows.Is(rope, dimension)) continue;
    rows.MoveTo(kernels, position);
    return rows;
  }
  if (rows_.size() >= kMost) rows_.clear();
  rows_.emplace_back(rope, dimension);
  rows_.back().MoveTo(kernels, position);
  return rows_.back();
}

}  // namespace mnemo::codec

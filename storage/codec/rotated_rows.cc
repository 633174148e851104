#include "storage/codec/rotated_rows.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/element_type.h"
#include "storage/base/half.h"
#include "storage/codec/quantizer.h"
#include "storage/codec/row_kernels.h"

namespace mnemo {
namespace {

// Part of the format: the rotation's signs come from it.
constexpr uint64_t kRotationSeed = 0x6d6e656d6f656d62;
constexpr uint32_t kBits = 4;
constexpr double kLargestGain = 65504;  // of fp16

}  // namespace

RotatedRows::RotatedRows(uint32_t dimension)
    : dimension_(dimension),
      rotation_(dimension, static_cast<uint32_t>(codec::PaddedDimension(dimension)),
                kRotationSeed) {}

const RotatedRows& RotatedRows::Of(uint32_t dimension) {
  thread_local std::unique_ptr<const RotatedRows> last;
  if (last == nullptr || last->dimension_ != dimension) {
    last = std::make_unique<const RotatedRows>(dimension);
  }
  return *last;
}

size_t RotatedRows::row_bytes() const { return RowBytes(ElementType::kRotated4, dimension_); }

void RotatedRows::Encode(std::span<const float> row, float scale, std::span<float> work,
                         uint8_t* out) const {
  rotation_.Apply(codec::BestRowKernels().hadamard, row.data(), work.data());
  double squares = 0;
  for (const float value : work) squares += double{value} * value;
  const double deviation = std::sqrt(squares / static_cast<double>(work.size()));
  std::vector<uint8_t> codes(work.size());
  double product = 0;
  double level_squares = 0;
  const codec::LevelTable& levels = codec::LloydMaxLevels(kBits);
  for (size_t i = 0; i < work.size() && deviation > 0; ++i) {
    codes[i] = codec::LloydMaxThresholds(kBits).CodeOf(static_cast<float>(work[i] / deviation));
    product += double{levels.values[codes[i]]} * work[i];
    level_squares += double{levels.values[codes[i]]} * levels.values[codes[i]];
  }
  // The gain of least squared error for these codes.
  const double gain = level_squares > 0 ? product / level_squares : 0;
  StoreLittle(out, FloatToHalf(static_cast<float>(std::min(gain / scale, kLargestGain))));
  codec::PackRow(codes.data(), codes.size(), kBits, out + sizeof(uint16_t));
}

bool RotatedRows::HasGain(const uint8_t* in) {
  return std::isfinite(HalfToFloat(LoadLittle<uint16_t>(in)));
}

bool RotatedRows::Decode(const uint8_t* in, float scale, std::span<float> work,
                         std::span<float> row) const {
  const codec::RowKernels& kernels = codec::BestRowKernels();
  const float gain = HalfToFloat(LoadLittle<uint16_t>(in)) * scale;
  if (!std::isfinite(gain)) return false;
  std::vector<uint8_t> codes(work.size());
  const codec::CodePlane plane{in + sizeof(uint16_t), kBits};
  kernels.unpack(&plane, 1, 1, work.size(), codes.data());
  kernels.look_up(codes.data(), codec::LloydMaxLevels(kBits), work.size(), work.data());
  rotation_.InvertUpToSigns(kernels.hadamard, work.data());
  for (size_t i = 0; i < row.size(); ++i) row[i] = work[i] * (gain * rotation_.signs()[i]);
  return true;
}

}  // namespace mnemo

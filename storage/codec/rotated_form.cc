// Rotated scalar quantisation (TurboQuant, Zandieh et al. 2025; QuaRot, Ashkboos et
// al. 2024), and its progressive form.
//
// A row becomes: positions taken off (keys), less the space's mean, times the
// channels' weights, rotated. Its coordinates are then distributed nearly as N(0,
// s^2), s being a share of the row's norm, so one table of levels fits all rows,
// and a row pays for one number in fp16.
//
// The progressive form has 8-bit codes in planes of 2, 1, 1, 1 and 3 bits, one
// behind the other: what is left when planes are dropped from the end is a section
// of fewer bits.
#include <algorithm>
#include <array>
#include <cmath>

#include "storage/base/half.h"
#include "storage/base/rotation.h"
#include "storage/codec/quantizer.h"
#include "storage/codec/tensor_form.h"

namespace mnemo::codec {
namespace {

constexpr float kLargestHalf = 65504.0F;
// Part of the format: the rotation's signs come from it.
constexpr uint64_t kSeed = 0x6d6e656d6f726f74;

std::span<const uint32_t> RotatedPlanes(uint32_t bits) {
  static constexpr std::array<uint32_t, 1> kOne = {1};
  static constexpr std::array<uint32_t, 1> kTwo = {2};
  static constexpr std::array<uint32_t, 2> kThree = {2, 1};
  static constexpr std::array<uint32_t, 1> kFour = {4};
  static constexpr std::array<uint32_t, 2> kFive = {4, 1};
  switch (bits) {
    case 1:
      return kOne;
    case 2:
      return kTwo;
    case 3:
      return kThree;
    case 4:
      return kFour;
    default:
      return kFive;
  }
}

// The first so many widths that have `bits` together.
std::span<const uint32_t> ProgressivePlanes(uint32_t bits) {
  static constexpr std::array<uint32_t, kMaxCodePlanes> kAll = {2, 1, 1, 1, 2, 1};
  return std::span(kAll).first(bits == 8 ? 6 : bits - 1);
}

float FiniteHalf(uint16_t half) { return (half & 0x7c00) == 0x7c00 ? 0.0F : HalfToFloat(half); }

class Rotated final : public TensorForm {
 public:
  explicit Rotated(bool progressive) : progressive_(progressive) {}

  absl::Status Accepts(const TensorShape& /*shape*/) const override { return absl::OkStatus(); }
  bool WantsCalibration(const TensorShape& /*shape*/) const override { return true; }
  uint64_t MaxBodyBytes(const TensorHeader& header) const override {
    return header.rows() * (sizeof(uint16_t) + header.padded() / 8 * header.bits);
  }
  absl::Status Encode(const TensorHeader& header, const Calibration* calibration, uint32_t layer,
                      std::span<float> values, MutableByteView body) const override;
  void Decode(const DecodeLayer& job) const override;

 private:
  std::span<const uint32_t> Planes(uint32_t bits) const {
    return progressive_ ? ProgressivePlanes(bits) : RotatedPlanes(bits);
  }
  // Where the rows of a plane begin; planes follow the gains of all rows.
  static uint64_t PlaneAt(const TensorHeader& header, std::span<const uint32_t> before) {
    uint64_t at = header.rows() * sizeof(uint16_t);
    for (const uint32_t width : before) at += header.rows() * PlaneRowBytes(header.padded(), width);
    return at;
  }
  uint16_t EncodeRow(const TensorHeader& header, const float* rotated, uint8_t* codes) const;
  static const RandomRotation& RotationOf(DecodeScratch& scratch, uint32_t dimension);
  static void Prepare(const DecodeLayer& job, const RandomRotation& rotation);

  bool progressive_;
};

// Codes of a rotated row; returns its gain, what levels are multiplied by.
uint16_t Rotated::EncodeRow(const TensorHeader& header, const float* rotated,
                            uint8_t* codes) const {
  const size_t padded = header.padded();
  double squares = 0;
  for (size_t i = 0; i < padded; ++i) squares += double{rotated[i]} * rotated[i];
  const auto deviation = static_cast<float>(std::sqrt(squares / static_cast<double>(padded)));
  std::fill(codes, codes + padded, uint8_t{0});
  if (!(deviation > 0)) return 0;
  const Thresholds& thresholds =
      progressive_ ? ProgressiveThresholds() : LloydMaxThresholds(header.bits);
  for (size_t i = 0; i < padded; ++i) codes[i] = thresholds.CodeOf(rotated[i] / deviation);
  if (progressive_) return FloatToHalf(deviation);

  // The gain of least squared error for these codes.
  const LevelTable& levels = LloydMaxLevels(header.bits);
  double product = 0;
  double level_squares = 0;
  for (size_t i = 0; i < padded; ++i) {
    const double level = levels.values[codes[i]];
    product += level * rotated[i];
    level_squares += level * level;
  }
  return FloatToHalf(static_cast<float>(product / level_squares));
}

absl::Status Rotated::Encode(const TensorHeader& header, const Calibration* calibration,
                             uint32_t layer, std::span<float> values, MutableByteView body) const {
  const TensorShape& shape = header.shape;
  const RowKernels& kernels = BestRowKernels();
  const size_t padded = header.padded();
  const RandomRotation rotation(shape.dimension, static_cast<uint32_t>(padded), kSeed);
  const std::span<const uint32_t> planes = Planes(header.bits);
  std::vector<float> rotated(padded);
  std::vector<uint8_t> codes(padded), bits(padded);
  RopeCache ropes;
  RopeRows* const rope = RopeOf(header, calibration, layer, 0, kernels, ropes);
  float* row = values.data();
  for (uint32_t token = 0; token < header.tokens(); ++token) {
    if (rope != nullptr) {
      if (token != 0) rope->Advance(kernels);
      rope->TakeOff(kernels, row, shape.heads, padded);
    }
    for (uint32_t head = 0; head < shape.heads; ++head, row += padded) {
      if (calibration != nullptr) {
        const ChannelStatistics& channels = calibration->of(shape.role);
        const size_t at = calibration->IndexOf(shape, layer, head);
        for (size_t i = 0; i < shape.dimension; ++i) {
          row[i] = (row[i] - channels.mean[at + i]) * channels.weight[at + i];
        }
      }
      rotation.Apply(kernels.hadamard, row, rotated.data());
      const uint64_t number = header.Row(layer, token, head);
      const uint16_t gain = EncodeRow(header, rotated.data(), codes.data());
      if (!(HalfToFloat(gain) <= kLargestHalf)) {
        return absl::OutOfRangeError("a row too large for a gain in fp16");
      }
      StoreLittle(body.data() + number * sizeof(uint16_t), gain);
      // The highest bits are in the first plane.
      uint32_t below = progressive_ ? 8 : header.bits;
      for (size_t p = 0; p < planes.size(); ++p) {
        below -= planes[p];
        for (size_t i = 0; i < padded; ++i) {
          bits[i] = static_cast<uint8_t>((codes[i] >> below) & ((1U << planes[p]) - 1));
        }
        PackRow(bits.data(), padded, planes[p],
                body.data() + PlaneAt(header, planes.first(p)) +
                    number * PlaneRowBytes(padded, planes[p]));
      }
    }
  }
  return absl::OkStatus();
}

// Fills scale and offset [heads x padded] with what undoes the rotation's signs,
// weights and mean.
void Rotated::Prepare(const DecodeLayer& job, const RandomRotation& rotation) {
  const TensorShape& shape = job.header.shape;
  const size_t padded = job.header.padded();
  job.scratch.scale.resize(job.heads * padded);
  job.scratch.offset.assign(job.heads * padded, 0);
  for (uint32_t head = 0; head < job.heads; ++head) {
    float* const scale = job.scratch.scale.data() + head * padded;
    std::copy_n(rotation.signs(), padded, scale);
    if (job.calibration == nullptr) continue;
    const ChannelStatistics& channels = job.calibration->of(shape.role);
    const size_t at = job.calibration->IndexOf(shape, job.layer, job.first_head + head);
    for (size_t i = 0; i < shape.dimension; ++i) scale[i] *= channels.inverse_weight[at + i];
    std::copy_n(channels.mean.data() + at, shape.dimension,
                job.scratch.offset.data() + head * padded);
  }
}

const RandomRotation& Rotated::RotationOf(DecodeScratch& scratch, uint32_t dimension) {
  const auto padded = static_cast<uint32_t>(PaddedDimension(dimension));
  if (!scratch.rotation.has_value() || scratch.rotated_dimension != dimension) {
    scratch.rotation.emplace(dimension, padded, kSeed);
    scratch.rotated_dimension = dimension;
  }
  return *scratch.rotation;
}

void Rotated::Decode(const DecodeLayer& job) const {
  const TensorHeader& header = job.header;
  const RowKernels& kernels = job.kernels;
  const size_t padded = header.padded();
  DecodeScratch& scratch = job.scratch;
  const RandomRotation& rotation = RotationOf(scratch, header.shape.dimension);
  scratch.codes.resize(job.heads * padded);
  scratch.values.resize(job.heads * padded);
  scratch.gains.resize(job.heads);
  Prepare(job, rotation);
  const uint32_t bits = job.bits;
  const std::span<const uint32_t> widths = Planes(bits);
  const LevelTable& levels = progressive_ ? ProgressiveLevels(bits) : LloydMaxLevels(bits);
  std::array<CodePlane, kMaxCodePlanes> planes;
  RopeRows* const rope =
      RopeOf(header, job.calibration, job.layer, job.first_token, kernels, scratch.ropes);
  for (uint32_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
    const uint64_t number = header.Row(job.layer, token, job.first_head);
    for (size_t p = 0; p < widths.size(); ++p) {
      planes[p] = {job.body.data() + PlaneAt(header, widths.first(p)) +
                       number * PlaneRowBytes(padded, widths[p]),
                   widths[p]};
    }
    kernels.unpack(planes.data(), widths.size(), job.heads, padded, scratch.codes.data());
    kernels.look_up(scratch.codes.data(), levels, job.heads * padded, scratch.values.data());
    for (uint32_t head = 0; head < job.heads; ++head) {
      rotation.InvertUpToSigns(kernels.hadamard, scratch.values.data() + head * padded);
      scratch.gains[head] =
          FiniteHalf(LoadLittle<uint16_t>(job.body.data() + (number + head) * sizeof(uint16_t)));
    }
    kernels.scale_rows(scratch.values.data(), scratch.gains.data(), scratch.scale.data(),
                       scratch.offset.data(), job.heads, padded);
    if (rope != nullptr) {
      if (token != job.first_token) rope->Advance(kernels);
      rope->PutOn(kernels, scratch.values.data(), job.heads, padded);
    }
    job.Store(token, scratch.values.data());
  }
}

}  // namespace

const TensorForm& RotatedForm() {
  static const Rotated form(false);
  return form;
}

const TensorForm& ProgressiveForm() {
  static const Rotated form(true);
  return form;
}

}  // namespace mnemo::codec

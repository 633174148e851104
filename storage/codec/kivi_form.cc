// KIVI (Liu et al., ICML 2024): uniform steps between the smallest and largest
// value of a group. Keys share them by channel, over 32 tokens, since a channel's
// values are alike; values by token, over 32 channels. At 8 bits it is "int8".
//
// There is no residual window, since an immutable block does not know that it is
// the last one. A block of fewer tokens than a group would pay 32 bits for a few
// keys a channel: with a calibration, its keys take their steps from there.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "storage/base/half.h"
#include "storage/codec/tensor_form.h"

namespace mnemo::codec {
namespace {

constexpr uint32_t kGroup = 32;
constexpr float kLargestHalf = 65504.0F;

uint32_t Groups(uint32_t count) { return (count + kGroup - 1) / kGroup; }

// x = zero + scale * code, both as fp16 holds them.
struct Step {
  uint16_t scale = 0;
  uint16_t zero = 0;
};

Step StepBetween(float low, float high, uint32_t levels) {
  Step step;
  step.zero = FloatToHalf(low);
  step.scale =
      FloatToHalf(std::max(0.0F, (high - HalfToFloat(step.zero)) / static_cast<float>(levels)));
  return step;
}

// What a damaged scale says is taken for nothing.
float FiniteHalf(uint16_t half) { return (half & 0x7c00) == 0x7c00 ? 0.0F : HalfToFloat(half); }

uint8_t CodeOf(float value, const Step& step, uint32_t levels) {
  const float scale = HalfToFloat(step.scale);
  if (!(scale > 0)) return 0;
  const float code = std::nearbyint((value - HalfToFloat(step.zero)) / scale);
  return static_cast<uint8_t>(std::clamp(code, 0.0F, static_cast<float>(levels)));
}

absl::Status TooLarge() {
  return absl::OutOfRangeError("a value beyond 65,504, the largest that a scale in fp16 can hold");
}

class Kivi final : public TensorForm {
 public:
  absl::Status Accepts(const TensorShape& /*shape*/) const override { return absl::OkStatus(); }
  bool WantsCalibration(const TensorShape& shape) const override {
    return shape.role == TensorRole::kKeys && shape.tokens < kGroup;
  }
  uint64_t MaxBodyBytes(const TensorHeader& header) const override {
    return header.shape.layers * StepBytes(header) + header.rows() * RowBytes(header);
  }
  absl::Status Encode(const TensorHeader& header, const Calibration* calibration, uint32_t layer,
                      std::span<float> values, MutableByteView body) const override;
  void Decode(const DecodeLayer& job) const override;

 private:
  static uint32_t Levels(const TensorHeader& header) { return (1U << header.bits) - 1; }
  static uint64_t RowBytes(const TensorHeader& header) {
    return PlaneRowBytes(header.padded(), header.bits);
  }
  // Of the steps of one layer, which all come before the codes.
  static uint64_t StepBytes(const TensorHeader& header) {
    const TensorShape& shape = header.shape;
    if (header.calibration_id != 0) return 0;
    const uint64_t steps = shape.role == TensorRole::kKeys
                               ? uint64_t{Groups(header.tokens())} * shape.heads * shape.dimension
                               : uint64_t{header.tokens()} * shape.heads * Groups(shape.dimension);
    return steps * sizeof(Step);
  }
  // The steps of a group's head of keys, [2 x dimension], scales before zeros.
  static uint64_t KeyStepsAt(const TensorHeader& header, uint32_t layer, uint32_t group,
                             uint32_t head) {
    return layer * StepBytes(header) +
           (uint64_t{group} * header.shape.heads + head) * header.shape.dimension * sizeof(Step);
  }
  // Of a row of values, [2 x groups].
  static uint64_t ValueStepsAt(const TensorHeader& header, uint64_t row) {
    return row * Groups(header.shape.dimension) * sizeof(Step);
  }
  static uint64_t CodesAt(const TensorHeader& header, uint64_t row) {
    return header.shape.layers * StepBytes(header) + row * RowBytes(header);
  }

  static absl::Status EncodeKeys(const TensorHeader& header, const Calibration* calibration,
                                 uint32_t layer, std::span<const float> values,
                                 MutableByteView body);
  static absl::Status EncodeValues(const TensorHeader& header, uint32_t layer,
                                   std::span<const float> values, MutableByteView body);
  static void KeySteps(const DecodeLayer& job, uint32_t group);
  static void ValueSteps(const DecodeLayer& job, uint32_t token);
};

absl::Status Kivi::Encode(const TensorHeader& header, const Calibration* calibration,
                          uint32_t layer, std::span<float> values, MutableByteView body) const {
  for (const float value : values) {
    if (std::fabs(value) > kLargestHalf) return TooLarge();
  }
  if (header.shape.role == TensorRole::kValues) return EncodeValues(header, layer, values, body);
  return EncodeKeys(header, calibration, layer, values, body);
}

absl::Status Kivi::EncodeKeys(const TensorHeader& header, const Calibration* calibration,
                              uint32_t layer, std::span<const float> values, MutableByteView body) {
  const TensorShape& shape = header.shape;
  const size_t padded = header.padded();
  const size_t token_values = shape.heads * padded;
  std::vector<Step> steps(padded);
  std::vector<uint8_t> codes(padded);
  for (uint32_t first = 0; first < header.tokens(); first += kGroup) {
    const uint32_t end = std::min(first + kGroup, header.tokens());
    for (uint32_t head = 0; head < shape.heads; ++head) {
      for (size_t i = 0; i < shape.dimension; ++i) {
        if (calibration != nullptr) {
          const size_t at = calibration->IndexOf(shape, layer, head) + i;
          const ChannelStatistics& keys = calibration->of(TensorRole::kKeys);
          steps[i] = StepBetween(keys.low[at], keys.high[at], Levels(header));
          continue;
        }
        float low = values[first * token_values + head * padded + i];
        float high = low;
        for (uint32_t token = first + 1; token < end; ++token) {
          const float value = values[token * token_values + head * padded + i];
          low = std::min(low, value);
          high = std::max(high, value);
        }
        steps[i] = StepBetween(low, high, Levels(header));
        uint8_t* const at = body.data() + KeyStepsAt(header, layer, first / kGroup, head);
        StoreLittle(at + i * 2, steps[i].scale);
        StoreLittle(at + (shape.dimension + i) * 2, steps[i].zero);
      }
      for (uint32_t token = first; token < end; ++token) {
        for (size_t i = 0; i < shape.dimension; ++i) {
          codes[i] =
              CodeOf(values[token * token_values + head * padded + i], steps[i], Levels(header));
        }
        PackRow(codes.data(), padded, header.bits,
                body.data() + CodesAt(header, header.Row(layer, token, head)));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Kivi::EncodeValues(const TensorHeader& header, uint32_t layer,
                                std::span<const float> values, MutableByteView body) {
  const TensorShape& shape = header.shape;
  const size_t padded = header.padded();
  const uint32_t groups = Groups(shape.dimension);
  std::vector<uint8_t> codes(padded);
  const uint64_t rows = uint64_t{header.tokens()} * shape.heads;
  for (uint64_t r = 0; r < rows; ++r) {
    const float* const row = values.data() + r * padded;
    const uint64_t number = header.Row(layer, 0, 0) + r;
    uint8_t* const at = body.data() + ValueStepsAt(header, number);
    for (uint32_t group = 0; group < groups; ++group) {
      const uint32_t first = group * kGroup;
      const uint32_t end = std::min(first + kGroup, shape.dimension);
      const auto [low, high] = std::minmax_element(row + first, row + end);
      const Step step = StepBetween(*low, *high, Levels(header));
      StoreLittle(at + size_t{group} * 2, step.scale);
      StoreLittle(at + (size_t{groups} + group) * 2, step.zero);
      for (uint32_t i = first; i < end; ++i) codes[i] = CodeOf(row[i], step, Levels(header));
    }
    PackRow(codes.data(), padded, header.bits, body.data() + CodesAt(header, number));
  }
  return absl::OkStatus();
}

// Fills scale and offset [heads x padded] for the tokens of a group of keys.
void Kivi::KeySteps(const DecodeLayer& job, uint32_t group) {
  const TensorShape& shape = job.header.shape;
  for (uint32_t head = 0; head < job.heads; ++head) {
    float* const scale = job.scratch.scale.data() + head * job.header.padded();
    float* const offset = job.scratch.offset.data() + head * job.header.padded();
    if (job.calibration != nullptr) {
      const size_t at = job.calibration->IndexOf(shape, job.layer, job.first_head + head);
      const ChannelStatistics& keys = job.calibration->of(TensorRole::kKeys);
      for (size_t i = 0; i < shape.dimension; ++i) {
        const Step step = StepBetween(keys.low[at + i], keys.high[at + i], Levels(job.header));
        scale[i] = FiniteHalf(step.scale);
        offset[i] = FiniteHalf(step.zero);
      }
      continue;
    }
    const uint8_t* const at =
        job.body.data() + KeyStepsAt(job.header, job.layer, group, job.first_head + head);
    for (size_t i = 0; i < shape.dimension; ++i) {
      scale[i] = FiniteHalf(LoadLittle<uint16_t>(at + i * 2));
      offset[i] = FiniteHalf(LoadLittle<uint16_t>(at + (shape.dimension + i) * 2));
    }
  }
}

// The same for one token of values.
void Kivi::ValueSteps(const DecodeLayer& job, uint32_t token) {
  const uint32_t groups = Groups(job.header.shape.dimension);
  const size_t padded = job.header.padded();
  for (uint32_t head = 0; head < job.heads; ++head) {
    const uint8_t* const at =
        job.body.data() +
        ValueStepsAt(job.header, job.header.Row(job.layer, token, job.first_head + head));
    for (uint32_t group = 0; group < groups; ++group) {
      const size_t first = head * padded + size_t{group} * kGroup;
      const size_t count = std::min<size_t>(kGroup, padded - size_t{group} * kGroup);
      std::fill_n(job.scratch.scale.data() + first, count,
                  FiniteHalf(LoadLittle<uint16_t>(at + size_t{group} * 2)));
      std::fill_n(job.scratch.offset.data() + first, count,
                  FiniteHalf(LoadLittle<uint16_t>(at + (size_t{groups} + group) * 2)));
    }
  }
}

void Kivi::Decode(const DecodeLayer& job) const {
  const TensorHeader& header = job.header;
  const size_t token_values = job.heads * header.padded();
  DecodeScratch& scratch = job.scratch;
  scratch.codes.resize(token_values);
  scratch.values.resize(token_values);
  scratch.scale.assign(token_values, 0);
  scratch.offset.assign(token_values, 0);
  const bool keys = header.shape.role == TensorRole::kKeys;
  for (uint32_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
    if (!keys) {
      ValueSteps(job, token);
    } else if (token == job.first_token || token % kGroup == 0) {
      KeySteps(job, token / kGroup);
    }
    const CodePlane plane = {
        job.body.data() + CodesAt(header, header.Row(job.layer, token, job.first_head)),
        header.bits};
    job.kernels.unpack(&plane, 1, job.heads, header.padded(), scratch.codes.data());
    job.kernels.scale_codes(scratch.codes.data(), scratch.scale.data(), scratch.offset.data(),
                            token_values, scratch.values.data());
    job.Store(token, scratch.values.data());
  }
}

}  // namespace

const TensorForm& KiviForm() {
  static const Kivi form;
  return form;
}

}  // namespace mnemo::codec

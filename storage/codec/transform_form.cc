// The transform codec (KVTC, Staniszewski and Lancucki 2025).
//
// A row becomes: positions taken off (keys), less the space's mean, its coordinates along the
// principal axes of its layer and head, each divided by the head's step and rounded. One step
// for all coordinates is the bit allocation of least squared error, min sum lambda_i 4^-b_i:
// what spreads four times as far has two bits more, and what spreads less than a quarter of a
// step has none, and costs nothing. Codes are written by an entropy coder whose frequencies
// belong to the calibration. Values, whose rows differ much in size, have a gain a row.
//
// Work goes by tiles of 16 tokens: all codes of a head, then one product of the tile's
// coordinates with the axes.
#include <algorithm>
#include <array>
#include <cmath>

#include "storage/base/status_macros.h"
#include "storage/codec/tensor_form.h"
#include "storage/codec/transform_basis.h"
#include "storage/codec/transform_fit.h"

namespace mnemo::codec {
namespace {

// Of a code, at most: the frequency bits of its symbol, and what is below it.
constexpr uint64_t kMostCodeBits = kFrequencyBits + kMostRawBits;

// Which stream a layer has: its number of 16-bit words as a varint, then the words. Empty if
// the body was cut short.
ByteView StreamOf(ByteView body, uint32_t layer) {
  ByteReader reader(body);
  for (uint32_t before = 0; before < layer; ++before) reader.Take(2 * size_t{ReadVarint(reader)});
  return reader.Take(2 * size_t{ReadVarint(reader)});
}

// How the rows of a head are coded.
struct HeadPlan {
  const TransformBasis& basis;
  size_t head;  // of all layers' heads
  int step;     // level

  // Of the coordinates that are coded, the first ones.
  void AddClasses(std::vector<SpreadClass>& classes) const {
    for (size_t c = 0; c < basis.dimension; ++c) {
      const std::optional<SpreadClass> of =
          ClassOf(basis.spreads[head * basis.dimension + c], step);
      if (!of) return;
      classes.push_back(*of);
    }
  }
  SymbolSlot SlotOf(const SpreadClass& of) const {
    return {&basis.tables[of.table].symbols, kLargestSymbol[of.table], of.raw_bits};
  }
  // How much nearer to 0 than a code its point is, in 1/256 of a step.
  int InwardOf(const SpreadClass& of, bool far) const {
    return of.raw_bits == 0 ? basis.tables[of.table].inward[far ? 1 : 0] : 0;
  }
  float StepOf(int gain) const {
    return Levels(step) * HalfOctaves(gain - kNominalGain + basis.units[head]);
  }
};

class Transform final : public TensorForm {
 public:
  absl::Status Accepts(const TensorShape& shape) const override {
    if (shape.dimension <= kMostAxes) return absl::OkStatus();
    return absl::InvalidArgumentError("the transform codec takes dimensions up to 1,024");
  }
  bool WantsCalibration(const TensorShape& /*shape*/) const override { return true; }
  bool NeedsAxes() const override { return true; }
  uint64_t MaxBodyBytes(const TensorHeader& header) const override {
    if (header.tokens() == 0) return 0;
    const uint64_t row_bits = kFrequencyBits + header.shape.dimension * kMostCodeBits;
    // Each state besides, and what rounding a code's cost up may add to it.
    return header.shape.layers * (kMaxVarint + kSymbolLanes * 4 + 2) +
           header.rows() * (row_bits / 8 + header.shape.dimension / 8 + 2);
  }
  uint64_t BodyBytes(const TensorHeader& header, ByteView rest) const override {
    if (header.tokens() == 0) return 0;
    ByteReader reader(rest);
    for (uint32_t layer = 0; layer < header.shape.layers; ++layer) {
      reader.Take(2 * size_t{ReadVarint(reader)});
    }
    return reader.ok() ? rest.size() - reader.remaining() : rest.size() + 1;
  }
  absl::Status Encode(const TensorHeader& header, const Calibration* calibration, uint32_t layer,
                      std::span<float> values, MutableByteView body) const override;
  void Decode(const DecodeLayer& job) const override;

 private:
  static HeadPlan PlanOf(const TensorHeader& header, const Calibration& calibration, uint32_t layer,
                         uint32_t head, uint32_t bits) {
    const TensorShape& shape = header.shape;
    const TransformBasis& basis = *calibration.basis(shape.role);
    const size_t number =
        size_t{shape.first_layer + layer} * calibration.geometry().heads + shape.first_head + head;
    return {basis, number, basis.step(number, bits)};
  }
  static void PlanSlots(const DecodeLayer& job);
  static void MixWide(const DecodeLayer& job, const HeadPlan& plan, const TransformHead& head,
                      std::span<const float> steps, const float* offset, float* rows);
  static void DecodeHead(const DecodeLayer& job, uint32_t head, size_t tokens, bool wanted,
                         SymbolDecoder& symbols);
};

// Takes off what the codec does not code: positions and means.
void Centre(const TensorHeader& header, const Calibration& calibration, uint32_t layer,
            std::span<float> values) {
  const TensorShape& shape = header.shape;
  const RowKernels& kernels = BestRowKernels();
  const ChannelStatistics& channels = calibration.of(shape.role);
  RopeCache ropes;
  RopeRows* const rope = RopeOf(header, &calibration, layer, 0, kernels, ropes);
  float* row = values.data();
  for (uint32_t token = 0; token < header.tokens(); ++token) {
    if (rope != nullptr) {
      if (token != 0) rope->Advance(kernels);
      rope->TakeOff(kernels, row, shape.heads, header.padded());
    }
    for (uint32_t head = 0; head < shape.heads; ++head, row += header.padded()) {
      const size_t at = calibration.IndexOf(shape, layer, head);
      for (size_t i = 0; i < shape.dimension; ++i) row[i] -= channels.mean[at + i];
    }
  }
}

// The codes of a token's coordinates. False if one has no symbol at this step.
bool Quantize(std::span<const SpreadClass> classes, const float* coordinates, float step,
              int16_t* codes) {
  const float inverse = 1 / step;
  for (size_t c = 0; c < classes.size(); ++c) {
    const SpreadClass of = classes[c];
    const float steps = coordinates[c * kTileTokens] * inverse;
    // Also where sums of very large values came to no number.
    if (!(std::abs(steps) < kMostSteps)) return false;
    const int code = CodeOf(steps, IsNarrow(of));
    if (std::abs(code >> of.raw_bits) > kLargestSymbol[of.table]) return false;
    codes[c * kTileTokens] = static_cast<int16_t>(code);
  }
  return true;
}

// The gain with which a row is coded: a row of values its own, one of keys the same, unless
// it is too large for that. Puts the row's codes behind it. None: too large for any.
std::optional<int> QuantizeRow(const HeadPlan& plan, std::span<const SpreadClass> classes,
                               std::span<const float> row, bool value, const float* coordinates,
                               int16_t* codes) {
  int gain = kNominalGain;
  if (value) {
    const std::optional<int> size = HalfOctavesOf(row);
    gain = size ? std::max(0, kNominalGain + *size - plan.basis.units[plan.head]) : 0;
  }
  for (; gain < static_cast<int>(kGainSymbols); ++gain) {
    if (Quantize(classes, coordinates, plan.StepOf(gain), codes)) return gain;
  }
  return std::nullopt;
}

// Puts the codes of one head's rows, `tokens` of a tile, `stride` apart. Errors: kOutOfRange.
absl::Status EncodeHead(const HeadPlan& plan, bool values, const float* rows, size_t stride,
                        size_t tokens, SymbolEncoder& symbols) {
  const uint32_t dimension = plan.basis.dimension;
  std::vector<SpreadClass> classes;
  plan.AddClasses(classes);
  // For all axes, coded or not: a head may have none that is.
  std::vector<float> coordinates(dimension * kTileTokens);
  std::vector<int16_t> codes((1 + classes.size()) * kTileTokens);
  BestRowKernels().project(rows, stride, tokens, plan.basis.axes_of(plan.head), classes.size(),
                           PaddedDimension(dimension), coordinates.data());
  for (size_t t = 0; t < tokens; ++t) {
    const std::optional<int> gain =
        QuantizeRow(plan, classes, {rows + t * stride, dimension}, values, coordinates.data() + t,
                    codes.data() + kTileTokens + t);
    if (!gain) return absl::OutOfRangeError("a row too large for its calibration");
    codes[t] = static_cast<int16_t>(*gain);
  }
  symbols.Put({&*plan.basis.gains, 0, 0}, codes, tokens);
  for (size_t c = 0; c < classes.size(); ++c) {
    symbols.Put(plan.SlotOf(classes[c]), std::span(codes).subspan((1 + c) * kTileTokens), tokens);
  }
  return absl::OkStatus();
}

absl::Status Transform::Encode(const TensorHeader& header, const Calibration* calibration,
                               uint32_t layer, std::span<float> values,
                               MutableByteView body) const {
  const TensorShape& shape = header.shape;
  const size_t padded = header.padded();
  const size_t stride = shape.heads * padded;
  Centre(header, *calibration, layer, values);
  SymbolEncoder symbols;
  for (uint32_t first = 0; first < header.tokens(); first += kTileTokens) {
    const size_t tokens = std::min<size_t>(kTileTokens, header.tokens() - first);
    for (uint32_t head = 0; head < shape.heads; ++head) {
      MNEMO_RETURN_IF_ERROR(EncodeHead(
          PlanOf(header, *calibration, layer, head, header.bits), shape.role == TensorRole::kValues,
          values.data() + first * stride + head * padded, stride, tokens, symbols));
    }
  }
  std::vector<uint16_t> words;
  symbols.Finish(LanesOf(header.tokens()), words);
  // Behind the layers before it.
  TensorHeader before = header;
  before.shape.layers = layer;
  uint8_t* at = body.data() + BodyBytes(before, body);
  at += WriteVarint(static_cast<uint32_t>(words.size()), at);
  for (const uint16_t word : words) {
    StoreLittle(at, word);
    at += sizeof(word);
  }
  return absl::OkStatus();
}

// Points of a tile's codes are whole numbers of 16 bits, and their sums with axes of 32. A unit is
// 2^-8 to 2^-4 of a step, the smallest with which all fit; of a coordinate that spreads over
// hundreds of steps none does.
void PlanPoints(std::span<const SpreadClass> classes, TransformHead& head) {
  constexpr uint32_t kLeastShift = 4;
  constexpr uint32_t kMostShift = 8;
  constexpr double kMostPoint = 32767;
  // The norm of a row's points, times an axis' unit: 2^31, less what rounding the axes may add.
  constexpr double kMostNorm = 127'000;
  double most = 0;
  double squares = 0;
  const auto fit = [](double size, double sum, uint32_t shift) {
    const double units = 1 << shift;
    return size * units <= kMostPoint && sum * units * units <= kMostNorm * kMostNorm;
  };
  head.wide = head.coded;
  while (head.wide > 0) {
    const SpreadClass of = classes[head.wide - 1];
    // Of any code that a stream may have, and half a step outward.
    const double size = ((kLargestSymbol[of.table] + 1) << of.raw_bits) - 0.5;
    if (!fit(std::max(most, size), squares + size * size, kLeastShift)) break;
    most = std::max(most, size);
    squares += size * size;
    --head.wide;
  }
  // Axes are in pairs.
  head.wide = std::min(head.coded, head.wide + head.wide % 2);
  head.shift = kLeastShift;
  while (head.shift < kMostShift && fit(most, squares, head.shift + 1)) ++head.shift;
}

// What the slots of all heads are, and where the points of their codes lie.
void Transform::PlanSlots(const DecodeLayer& job) {
  DecodeScratch& scratch = job.scratch;
  scratch.slots.clear();
  scratch.heads.clear();
  scratch.inward.clear();
  std::vector<SpreadClass> classes;
  for (uint32_t head = 0; head < job.header.shape.heads; ++head) {
    const HeadPlan plan = PlanOf(job.header, *job.calibration, job.layer, head, job.bits);
    classes.clear();
    plan.AddClasses(classes);
    TransformHead made = {.first_slot = scratch.slots.size(),
                          .coded = classes.size(),
                          .inward = scratch.inward.size(),
                          .step = Levels(plan.step) * HalfOctaves(plan.basis.units[plan.head])};
    PlanPoints(classes, made);
    scratch.slots.push_back({&*plan.basis.gains, 0, 0});
    for (const SpreadClass& of : classes) scratch.slots.push_back(plan.SlotOf(of));
    // Of codes +-1 of the whole head, then of those beyond.
    for (const bool far : {false, true}) {
      for (size_t c = made.wide; c < made.coded; ++c) {
        const auto units = static_cast<float>(plan.InwardOf(classes[c], far)) / 256 *
                           static_cast<float>(1 << made.shift);
        scratch.inward.push_back(static_cast<int16_t>(std::lround(units)));
      }
    }
    scratch.heads.push_back(made);
  }
}

// Adds up means and what a head's coordinates that are too wide for whole numbers are, to `rows`.
void Transform::MixWide(const DecodeLayer& job, const HeadPlan& plan, const TransformHead& head,
                        std::span<const float> steps, const float* offset, float* rows) {
  DecodeScratch& scratch = job.scratch;
  std::vector<SpreadClass> classes;
  plan.AddClasses(classes);
  for (size_t i = 0; i < head.wide * kTileTokens; ++i) {
    const int code = scratch.symbols[kTileTokens + i];
    const int inward = plan.InwardOf(classes[i / kTileTokens], std::abs(code) > 1);
    const int towards = code < 0 ? -inward : inward;
    const int point = code == 0 ? 0 : code * 256 - towards;
    scratch.weights[i] = static_cast<float>(point) / 256 * steps[i % kTileTokens];
  }
  const size_t padded = job.header.padded();
  job.kernels.mix(scratch.weights.data(), plan.basis.axes_of(plan.head), offset, head.wide, padded,
                  rows, job.heads * padded);
}

// Takes a head's codes of a tile; if they are wanted, puts its rows into scratch.values.
void Transform::DecodeHead(const DecodeLayer& job, uint32_t head, size_t tokens, bool wanted,
                           SymbolDecoder& symbols) {
  DecodeScratch& scratch = job.scratch;
  const TransformHead& of = scratch.heads[head];
  symbols.Take(std::span(scratch.slots).subspan(of.first_slot, 1 + of.coded), tokens,
               scratch.symbols.data());
  if (!wanted) return;
  const size_t padded = job.header.padded();
  const HeadPlan plan = PlanOf(job.header, *job.calibration, job.layer, head, job.bits);
  std::array<float, kTileTokens> steps = {};
  for (size_t t = 0; t < tokens; ++t) {
    steps[t] = of.step * HalfOctaves(scratch.symbols[t] - kNominalGain);
  }
  float* const rows = scratch.values.data() + (head - job.first_head) * padded;
  const size_t stride = job.heads * padded;
  const float* begin = scratch.offset.data() + (head - job.first_head) * padded;
  size_t begin_stride = 0;
  if (of.wide != 0) {
    MixWide(job, plan, of, steps, begin, rows);
    begin = rows;
    begin_stride = stride;
  }
  const size_t points = of.coded - of.wide;
  job.kernels.place(scratch.symbols.data() + (1 + of.wide) * kTileTokens,
                    scratch.inward.data() + of.inward, of.shift, points, scratch.points.data());
  const float unit = kAxisUnit / static_cast<float>(1 << of.shift);
  for (float& step : steps) step *= unit;
  job.kernels.mix_points(scratch.points.data(),
                         plan.basis.paired_axes_of(plan.head) + of.wide * padded, steps.data(),
                         begin, begin_stride, points + points % 2, padded, rows, stride);
}

void Transform::Decode(const DecodeLayer& job) const {
  const TensorHeader& header = job.header;
  const TensorShape& shape = header.shape;
  const size_t padded = header.padded();
  DecodeScratch& scratch = job.scratch;
  scratch.symbols.assign((1 + shape.dimension) * kTileTokens, 0);
  scratch.weights.resize(shape.dimension * kTileTokens);
  scratch.points.resize((shape.dimension + 1) * kTileTokens);
  scratch.values.resize(kTileTokens * job.heads * padded);
  scratch.offset.assign(job.heads * padded, 0);
  for (uint32_t head = 0; head < job.heads; ++head) {
    std::copy_n(job.calibration->of(shape.role).mean.data() +
                    job.calibration->IndexOf(shape, job.layer, job.first_head + head),
                shape.dimension, scratch.offset.data() + head * padded);
  }
  PlanSlots(job);
  SymbolDecoder symbols(StreamOf(job.body, job.layer), LanesOf(header.tokens()));
  RopeRows* const rope =
      RopeOf(header, job.calibration, job.layer, job.first_token, job.kernels, scratch.ropes);
  const uint32_t end = job.first_token + job.tokens;
  for (uint32_t first = 0; first < end; first += kTileTokens) {
    const size_t tokens = std::min<size_t>(kTileTokens, header.tokens() - first);
    const bool wanted = first + kTileTokens > job.first_token;
    for (uint32_t head = 0; head < shape.heads; ++head) {
      const bool of_job = head >= job.first_head && head < job.first_head + job.heads;
      DecodeHead(job, head, tokens, wanted && of_job, symbols);
    }
    for (uint32_t token = std::max(first, job.first_token);
         token < std::min<uint32_t>(first + kTileTokens, end); ++token) {
      float* const rows = scratch.values.data() + (token - first) * job.heads * padded;
      if (rope != nullptr) {
        if (token != job.first_token) rope->Advance(job.kernels);
        rope->PutOn(job.kernels, rows, job.heads, padded);
      }
      job.Store(token, rows);
    }
  }
}

}  // namespace

const TensorForm& TransformForm() {
  static const Transform form;
  return form;
}

}  // namespace mnemo::codec

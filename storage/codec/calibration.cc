#include "storage/codec/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/codec/rope_rows.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/transform_basis.h"
#include "storage/codec/transform_fit.h"

namespace mnemo {
namespace {

constexpr uint32_t kMagic = 0x434e454d;  // "MENC"
constexpr uint32_t kVersion = 1;
// With axes.
constexpr uint32_t kAxesVersion = 2;
constexpr size_t kHeaderBytes = 24;
constexpr size_t kRopeBytes = 16;
// Of all statistics, so that a damaged geometry asks for no more memory.
constexpr uint64_t kMostChannels = uint64_t{1} << 26;
// Values keep their mean where it takes a tenth off the squared norm of an
// average token; tokens of small norm, on which attention rests, would grow by it.
constexpr double kMeanPays = 0.9;
// Of a channel that never moves, so that nothing is divided by zero.
constexpr float kLeastDeviation = 1e-6F;
// Codecs take no larger values, for their scales are fp16; with it no number that is
// computed from statistics leaves fp32.
constexpr float kLargest = 65504.0F;
constexpr double kLargestTheta = 1e12;

uint64_t Channels(const CalibrationGeometry& geometry, TensorRole role) {
  return uint64_t{geometry.layers} * geometry.heads * geometry.Dimension(role);
}

absl::Status CheckRange(std::string_view field, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("calibration.{} is {}, allowed {} to {}", field, value, least, most));
}

absl::Status Validate(const CalibrationGeometry& geometry) {
  MNEMO_RETURN_IF_ERROR(CheckRange("layers", geometry.layers, 1, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange("heads", geometry.heads, 1, 1024));
  MNEMO_RETURN_IF_ERROR(CheckRange("k_dimension", geometry.k_dimension, 1, 16384));
  MNEMO_RETURN_IF_ERROR(CheckRange("v_dimension", geometry.v_dimension, 0, 16384));
  MNEMO_RETURN_IF_ERROR(
      CheckRange("ropes size", geometry.ropes.size(), geometry.layers, geometry.layers));
  MNEMO_RETURN_IF_ERROR(CheckRange(
      "channels", Channels(geometry, TensorRole::kKeys) + Channels(geometry, TensorRole::kValues),
      1, kMostChannels));
  for (const LayerRope& rope : geometry.ropes) {
    if (rope.style == RopeStyle::kNone) continue;
    MNEMO_RETURN_IF_ERROR(CheckRange("rope.style", static_cast<uint8_t>(rope.style), 0, 2));
    MNEMO_RETURN_IF_ERROR(CheckRange("k_dimension modulo 2", geometry.k_dimension % 2, 0, 0));
    if (!(rope.theta >= 1 && rope.theta <= kLargestTheta)) {
      return absl::InvalidArgumentError(
          fmt::format("calibration.rope.theta is {}, allowed 1 to {}", rope.theta, kLargestTheta));
    }
  }
  return absl::OkStatus();
}

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("calibration: {}", what));
}

bool AllWithin(std::span<const float> values, float least, float most) {
  // NaN is not within anything.
  return std::all_of(values.begin(), values.end(),
                     [=](float value) { return value >= least && value <= most; });
}

bool ReadFloats(ByteReader& reader, uint64_t count, float least, std::vector<float>& into) {
  const ByteView bytes = reader.Take(count * sizeof(float));
  if (!reader.ok()) return false;
  into.resize(count);
  CopyInto(bytes, into.data());
  return AllWithin(into, least, kLargest);
}

bool ReadStatistics(ByteReader& reader, uint64_t channels, ChannelStatistics& into) {
  return ReadFloats(reader, channels, -kLargest, into.mean) &&
         ReadFloats(reader, channels, kLeastDeviation, into.deviation) &&
         ReadFloats(reader, channels, -kLargest, into.low) &&
         ReadFloats(reader, channels, -kLargest, into.high);
}

void AppendFloats(std::string& out, const std::vector<float>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void AppendStatistics(std::string& out, const ChannelStatistics& statistics) {
  AppendFloats(out, statistics.mean);
  AppendFloats(out, statistics.deviation);
  AppendFloats(out, statistics.low);
  AppendFloats(out, statistics.high);
}

// Channels are evened out before they are rotated, but not wholly: in keys, those of
// small deviation matter less to attention. The exponent is from captured keys
// (decision 0101). Weights of a head have the geometric mean 1.
constexpr double kEvening = 0.75;

void DeriveWeights(uint32_t dimension, bool keys, ChannelStatistics& statistics) {
  const size_t channels = statistics.deviation.size();
  statistics.weight.assign(channels, 1);
  statistics.inverse_weight.assign(channels, 1);
  for (size_t first = 0; keys && first < channels; first += dimension) {
    double logs = 0;
    for (size_t i = 0; i < dimension; ++i) logs += std::log(statistics.deviation[first + i]);
    const double mean = logs / dimension;
    for (size_t i = first; i < first + dimension; ++i) {
      const double log = kEvening * (std::log(statistics.deviation[i]) - mean);
      statistics.weight[i] = static_cast<float>(std::exp(-log));
      statistics.inverse_weight[i] = static_cast<float>(std::exp(log));
    }
  }
}

bool ReadBasis(ByteReader& reader, const CalibrationGeometry& geometry, TensorRole role,
               std::shared_ptr<const codec::TransformBasis>& into) {
  const uint32_t dimension = geometry.Dimension(role);
  if (dimension == 0) return true;
  if (dimension > codec::kMostAxes) return false;
  auto read =
      codec::ReadTransformBasis(reader, uint64_t{geometry.layers} * geometry.heads, dimension);
  if (!read) return false;
  into = std::make_shared<const codec::TransformBasis>(*std::move(read));
  return true;
}

uint32_t IdOf(uint64_t checksum) {
  const auto id = static_cast<uint32_t>(checksum);
  return id == 0 ? 1 : id;
}

}  // namespace

std::string Calibration::Serialize() const {
  std::string out;
  AppendLittle(out, kMagic);
  AppendLittle(out, has_axes() ? kAxesVersion : kVersion);
  AppendLittle(out, geometry_.layers);
  AppendLittle(out, geometry_.heads);
  AppendLittle(out, geometry_.k_dimension);
  AppendLittle(out, geometry_.v_dimension);
  for (const LayerRope& rope : geometry_.ropes) {
    AppendLittle(out, rope.theta);
    AppendLittle(out, static_cast<uint64_t>(rope.style));
  }
  AppendStatistics(out, keys_);
  AppendStatistics(out, values_);
  if (key_basis_ != nullptr) key_basis_->Append(out);
  if (value_basis_ != nullptr) value_basis_->Append(out);
  AppendLittle(out, Checksum64(AsBytes(out)));
  return out;
}

absl::StatusOr<std::shared_ptr<const Calibration>> Calibration::Parse(ByteView bytes) {
  if (bytes.size() < kHeaderBytes + sizeof(uint64_t)) return Damaged("shorter than its header");
  const ByteView body = bytes.first(bytes.size() - sizeof(uint64_t));
  const auto checksum = LoadLittle<uint64_t>(body.data() + body.size());
  ByteReader reader(body);
  if (reader.Little<uint32_t>() != kMagic) return Damaged("not one");
  const auto version = reader.Little<uint32_t>();
  if (version != kVersion && version != kAxesVersion) {
    return Damaged(fmt::format("version {}, not {} or {}", version, kVersion, kAxesVersion));
  }
  if (checksum != Checksum64(body)) return Damaged("fails its checksum");
  std::shared_ptr<Calibration> made(new Calibration());
  CalibrationGeometry& geometry = made->geometry_;
  geometry.layers = reader.Little<uint32_t>();
  geometry.heads = reader.Little<uint32_t>();
  geometry.k_dimension = reader.Little<uint32_t>();
  geometry.v_dimension = reader.Little<uint32_t>();
  if (geometry.layers > reader.remaining() / kRopeBytes) return Damaged("cut short");
  for (uint32_t i = 0; i < geometry.layers; ++i) {
    LayerRope rope;
    rope.theta = reader.Little<double>();
    const auto style = reader.Little<uint64_t>();
    rope.style = static_cast<RopeStyle>(std::min<uint64_t>(style, 255));
    geometry.ropes.push_back(rope);
  }
  if (const absl::Status valid = Validate(geometry); !valid.ok()) {
    return Damaged(std::string(valid.message()));
  }
  if (!ReadStatistics(reader, Channels(geometry, TensorRole::kKeys), made->keys_) ||
      !ReadStatistics(reader, Channels(geometry, TensorRole::kValues), made->values_)) {
    return Damaged("statistics that make no sense");
  }
  if (version == kAxesVersion &&
      !(ReadBasis(reader, geometry, TensorRole::kKeys, made->key_basis_) &&
        ReadBasis(reader, geometry, TensorRole::kValues, made->value_basis_))) {
    return Damaged("axes that make no sense");
  }
  if (reader.remaining() != 0) return Damaged("bytes behind its end");
  made->Derive();
  made->id_ = IdOf(checksum);
  return made;
}

void Calibration::Derive() {
  DeriveWeights(geometry_.k_dimension, true, keys_);
  DeriveWeights(geometry_.v_dimension, false, values_);
}

absl::Status Calibration::Covers(const TensorShape& shape) const {
  const uint32_t dimension = geometry_.Dimension(shape.role);
  if (shape.dimension == dimension && shape.first_layer + shape.layers <= geometry_.layers &&
      shape.first_head + shape.heads <= geometry_.heads) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "tensor has layers to {}, heads to {}, dimension {}; calibration {:08x} has {}, {}, {}",
      shape.first_layer + shape.layers, shape.first_head + shape.heads, shape.dimension, id_,
      geometry_.layers, geometry_.heads, dimension));
}

CalibrationFit::CalibrationFit(CalibrationFit&&) noexcept = default;
CalibrationFit& CalibrationFit::operator=(CalibrationFit&&) noexcept = default;
CalibrationFit::~CalibrationFit() = default;

CalibrationFit::CalibrationFit(const CalibrationGeometry& geometry, CalibrationKind kind)
    : geometry_(geometry) {
  const size_t heads = size_t{geometry.layers} * geometry.heads;
  keys_.channels.resize(Channels(geometry, TensorRole::kKeys));
  keys_.heads.resize(heads);
  values_.channels.resize(Channels(geometry, TensorRole::kValues));
  values_.heads.resize(heads);
  if (kind != CalibrationKind::kAxes) return;
  key_axes_ = std::make_unique<codec::TransformFit>(heads, geometry.k_dimension, false);
  if (geometry.v_dimension == 0) return;
  value_axes_ = std::make_unique<codec::TransformFit>(heads, geometry.v_dimension, true);
}

absl::StatusOr<CalibrationFit> CalibrationFit::Create(const CalibrationGeometry& geometry,
                                                      CalibrationKind kind) {
  MNEMO_RETURN_IF_ERROR(Validate(geometry));
  if (kind == CalibrationKind::kAxes) {
    MNEMO_RETURN_IF_ERROR(
        CheckRange("k_dimension with axes", geometry.k_dimension, 1, codec::kMostAxes));
    MNEMO_RETURN_IF_ERROR(
        CheckRange("v_dimension with axes", geometry.v_dimension, 0, codec::kMostAxes));
  }
  return CalibrationFit(geometry, kind);
}

void CalibrationFit::AddRow(Sums& sums, size_t head, std::span<const float> stored,
                            std::span<const float> unturned) {
  double squares = 0;
  for (const float value : unturned) squares += double{value} * value;
  const double inverse = squares > 0 ? 1 / squares : 0;
  Head& of = sums.heads[head];
  Channel* const channels = sums.channels.data() + head * stored.size();
  for (size_t i = 0; i < stored.size(); ++i) {
    Channel& channel = channels[i];
    channel.sum += unturned[i];
    channel.squares += double{unturned[i]} * unturned[i];
    channel.weighted += unturned[i] * inverse;
    channel.low = of.tokens == 0 ? stored[i] : std::min(channel.low, stored[i]);
    channel.high = of.tokens == 0 ? stored[i] : std::max(channel.high, stored[i]);
  }
  ++of.tokens;
  of.inverse_squares += inverse;
  of.rows += squares > 0 ? 1 : 0;
}

absl::Status CalibrationFit::Add(const TensorShape& shape, ByteView exact) {
  MNEMO_RETURN_IF_ERROR(ValidateTensor(shape));
  if (shape.dimension != geometry_.Dimension(shape.role) ||
      shape.first_layer + shape.layers > geometry_.layers ||
      shape.first_head + shape.heads > geometry_.heads) {
    return absl::InvalidArgumentError("a tensor outside of the calibration's geometry");
  }
  if (exact.size() != shape.bytes()) {
    return absl::InvalidArgumentError(
        fmt::format("a tensor of {} bytes, not {}", exact.size(), shape.bytes()));
  }
  const size_t dimension = shape.dimension;
  std::vector<float> rows(shape.rows() * dimension);
  const codec::RowKernels& kernels = codec::ScalarRowKernels();
  float* at = rows.data();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = 0; token < shape.tokens; ++token) {
      for (uint32_t head = 0; head < shape.heads; ++head, at += dimension) {
        kernels.Load(shape.dtype, exact.data() + shape.RowOffset(layer, token, head), dimension,
                     at);
      }
    }
  }
  if (!AllWithin(rows, -kLargest, kLargest)) {
    return absl::OutOfRangeError("a value that is not finite, or beyond 65,504");
  }
  Sums& sums = shape.role == TensorRole::kKeys ? keys_ : values_;
  codec::TransformFit* const axes =
      shape.role == TensorRole::kKeys ? key_axes_.get() : value_axes_.get();
  std::vector<float> unturned(dimension);
  at = rows.data();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    const LayerRope& rope = geometry_.ropes[shape.first_layer + layer];
    const bool turned = shape.role == TensorRole::kKeys && rope.style != RopeStyle::kNone;
    codec::RopeRows turns(rope, turned ? dimension : 0);
    turns.MoveTo(kernels, shape.first_position);
    for (uint32_t token = 0; token < shape.tokens; ++token, turns.Advance(kernels)) {
      for (uint32_t head = 0; head < shape.heads; ++head, at += dimension) {
        if (token < shape.exact_tokens) continue;
        unturned.assign(at, at + dimension);
        if (turned) turns.TakeOff(kernels, unturned.data(), 1, dimension);
        const size_t number =
            size_t{shape.first_layer + layer} * geometry_.heads + shape.first_head + head;
        AddRow(sums, number, {at, dimension}, unturned);
        if (axes != nullptr) axes->Add(number, unturned);
      }
    }
  }
  return absl::OkStatus();
}

ChannelStatistics CalibrationFit::Summarize(const Sums& sums, uint32_t dimension, bool keys) const {
  ChannelStatistics made;
  for (size_t head = 0; head < sums.heads.size() && dimension != 0; ++head) {
    const Head& of = sums.heads[head];
    const auto tokens = static_cast<double>(of.tokens);
    const Channel* const channels = sums.channels.data() + head * dimension;
    // The mean over tokens of |row - mean|^2 / |row|^2.
    double share = 1;
    for (uint32_t i = 0; i < dimension && of.rows != 0; ++i) {
      const double mean = channels[i].sum / tokens;
      share += (mean * mean * of.inverse_squares - 2 * mean * channels[i].weighted) /
               static_cast<double>(of.rows);
    }
    const bool centred = keys || share <= kMeanPays;
    for (uint32_t i = 0; i < dimension; ++i) {
      const Channel& channel = channels[i];
      const double mean = channel.sum / tokens;
      const double variance = std::max(0.0, channel.squares / tokens - mean * mean);
      made.mean.push_back(centred ? static_cast<float>(mean) : 0);
      made.deviation.push_back(std::max(kLeastDeviation, static_cast<float>(std::sqrt(variance))));
      made.low.push_back(channel.low);
      made.high.push_back(channel.high);
    }
  }
  return made;
}

absl::StatusOr<std::shared_ptr<const Calibration>> CalibrationFit::Finish() const {
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    if (geometry_.Dimension(role) == 0) continue;
    const std::vector<Head>& heads = role == TensorRole::kKeys ? keys_.heads : values_.heads;
    for (size_t head = 0; head < heads.size(); ++head) {
      if (heads[head].tokens >= kLeastTokens) continue;
      return absl::FailedPreconditionError(fmt::format(
          "layer {}, head {}: {} tokens seen, {} or more wanted", head / geometry_.heads,
          head % geometry_.heads, heads[head].tokens, kLeastTokens));
    }
  }
  std::shared_ptr<Calibration> made(new Calibration());
  made->geometry_ = geometry_;
  made->keys_ = Summarize(keys_, geometry_.k_dimension, true);
  made->values_ = Summarize(values_, geometry_.v_dimension, false);
  made->Derive();
  if (key_axes_ != nullptr) {
    made->key_basis_ =
        std::make_shared<const codec::TransformBasis>(key_axes_->Finish(made->keys_.mean));
  }
  if (value_axes_ != nullptr) {
    made->value_basis_ =
        std::make_shared<const codec::TransformBasis>(value_axes_->Finish(made->values_.mean));
  }
  const std::string bytes = made->Serialize();
  made->id_ = IdOf(LoadLittle<uint64_t>(bytes.data() + bytes.size() - sizeof(uint64_t)));
  return made;
}

void CalibrationSet::Add(std::shared_ptr<const Calibration> calibration) {
  const uint32_t id = calibration->id();
  by_id_.insert_or_assign(id, std::move(calibration));
}

const Calibration* CalibrationSet::Find(uint32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second.get();
}

}  // namespace mnemo

#include "storage/codec/tensor_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/tensor_form.h"

namespace mnemo {
namespace {

using codec::DecodeLayer;
using codec::TensorForm;
using codec::TensorHeader;

uint64_t ExactBytes(const TensorShape& shape) {
  return uint64_t{shape.layers} * shape.exact_tokens * shape.heads * shape.row_bytes();
}
uint64_t TailBytes(const TensorShape& shape) { return uint64_t{shape.layers} * shape.tail_bytes; }

// Of the rows of heads [first, ...) of an exact token, among the exact bytes.
uint64_t ExactRowAt(const TensorShape& shape, uint32_t layer, uint32_t token, uint32_t head) {
  return ((uint64_t{layer} * shape.exact_tokens + token) * shape.heads + head) * shape.row_bytes();
}

// Rows of the encoded tokens of a layer as floats, [tokens x heads x padded].
// False if one is not finite.
bool LoadLayer(const TensorHeader& header, ByteView exact, uint32_t layer,
               std::vector<float>& values) {
  const TensorShape& shape = header.shape;
  const codec::RowKernels& kernels = codec::BestRowKernels();
  values.assign(uint64_t{header.tokens()} * shape.heads * header.padded(), 0);
  float* row = values.data();
  for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
    for (uint32_t head = 0; head < shape.heads; ++head, row += header.padded()) {
      kernels.Load(shape.dtype, exact.data() + shape.RowOffset(layer, token, head), shape.dimension,
                   row);
    }
  }
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

void CopyExact(const TensorShape& shape, ByteView exact, uint8_t* into) {
  const size_t token_bytes = shape.heads * shape.row_bytes();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = 0; token < shape.exact_tokens; ++token, into += token_bytes) {
      std::memcpy(into, exact.data() + shape.RowOffset(layer, token, 0), token_bytes);
    }
  }
  if (shape.tail_bytes == 0) return;
  for (uint32_t layer = 0; layer < shape.layers; ++layer, into += shape.tail_bytes) {
    CopyInto(exact.subspan(shape.TailOffset(layer), shape.tail_bytes), into);
  }
}

// Adds up how far the layer as decoded is from the exact one.
EncodingError ErrorOf(const TensorHeader& header, ByteView exact, uint32_t layer,
                      const std::vector<uint8_t>& decoded) {
  const TensorShape& shape = header.shape;
  const codec::RowKernels& kernels = codec::BestRowKernels();
  std::vector<float> was(shape.dimension);
  std::vector<float> is(shape.dimension);
  EncodingError error;
  const uint8_t* at = decoded.data();
  for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
    for (uint32_t head = 0; head < shape.heads; ++head, at += shape.row_bytes()) {
      kernels.Load(shape.dtype, exact.data() + shape.RowOffset(layer, token, head), shape.dimension,
                   was.data());
      kernels.Load(shape.dtype, at, shape.dimension, is.data());
      for (uint32_t i = 0; i < shape.dimension; ++i) {
        const double difference = double{is[i]} - double{was[i]};
        error.squares += double{was[i]} * double{was[i]};
        error.squared_errors += difference * difference;
        error.largest = std::max(error.largest, std::fabs(difference));
      }
    }
  }
  error.values = uint64_t{header.tokens()} * shape.heads * shape.dimension;
  return error;
}

absl::Status CheckEncode(const TensorShape& shape, const TensorForm& form, ByteView exact) {
  MNEMO_RETURN_IF_ERROR(ValidateTensor(shape));
  MNEMO_RETURN_IF_ERROR(form.Accepts(shape));
  if (exact.size() == shape.bytes()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("a tensor of {} bytes, not {}", exact.size(), shape.bytes()));
}

}  // namespace

double EncodingError::relative() const {
  return squares > 0 ? std::sqrt(squared_errors / squares) : 0;
}

void EncodingError::Add(const EncodingError& other) {
  values += other.values;
  squares += other.squares;
  squared_errors += other.squared_errors;
  largest = std::max(largest, other.largest);
}

absl::StatusOr<std::unique_ptr<TensorCodec>> TensorCodec::Create(CodecId id, uint32_t bits) {
  const TensorForm* const form = codec::FindTensorForm(id, bits);
  if (form == nullptr) {
    return absl::InvalidArgumentError(fmt::format("no tensor codec \"{}\" of {} bits",
                                                  CodecName(static_cast<uint8_t>(id)), bits));
  }
  return std::unique_ptr<TensorCodec>(new TensorCodec(id, bits, *form));
}

TensorCodec::~TensorCodec() = default;

uint64_t TensorCodec::MaxEncodedSize(const TensorShape& shape) const {
  const TensorHeader header = {.codec = id_, .bits = static_cast<uint8_t>(bits_), .shape = shape};
  return codec::kMaxTensorHeader + ExactBytes(shape) + TailBytes(shape) +
         form_.MaxBodyBytes(header);
}

absl::StatusOr<EncodedTensor> TensorCodec::Encode(const TensorShape& shape, ByteView exact,
                                                  const Calibration* calibration,
                                                  MutableByteView into) const {
  MNEMO_RETURN_IF_ERROR(CheckEncode(shape, form_, exact));
  if (into.size() < MaxEncodedSize(shape)) {
    return absl::InvalidArgumentError(
        fmt::format("room of {} bytes, not {} or more", into.size(), MaxEncodedSize(shape)));
  }
  if (!form_.WantsCalibration(shape)) calibration = nullptr;
  if (calibration != nullptr) MNEMO_RETURN_IF_ERROR(calibration->Covers(shape));
  if (form_.NeedsAxes() && (calibration == nullptr || !calibration->has_axes())) {
    return absl::InvalidArgumentError("the codec takes a calibration with axes");
  }

  const TensorHeader header = {.codec = id_,
                               .bits = static_cast<uint8_t>(bits_),
                               .shape = shape,
                               .calibration_id = calibration == nullptr ? 0 : calibration->id()};
  EncodedTensor encoded;
  encoded.exact_bytes = ExactBytes(shape);
  const size_t front = codec::WriteTensorHeader(header, into.data());
  CopyExact(shape, exact, into.data() + front);
  const uint64_t kept = ExactBytes(shape) + TailBytes(shape);
  const MutableByteView body = into.subspan(front + kept, form_.MaxBodyBytes(header));
  encoded.bytes = front + kept;
  if (header.tokens() == 0) return encoded;

  std::vector<float> values;
  std::vector<uint8_t> decoded(header.tokens() * shape.heads * shape.row_bytes());
  codec::DecodeScratch scratch;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    if (!LoadLayer(header, exact, layer, values)) {
      return absl::OutOfRangeError(
          fmt::format("layer {} has a value that is not finite", shape.first_layer + layer));
    }
    MNEMO_RETURN_IF_ERROR(form_.Encode(header, calibration, layer, values, body));
    form_.Decode(DecodeLayer{.header = header,
                             .calibration = calibration,
                             .body = body,
                             .kernels = codec::BestRowKernels(),
                             .scratch = scratch,
                             .bits = bits_,
                             .layer = layer,
                             .first_token = 0,
                             .tokens = header.tokens(),
                             .first_head = 0,
                             .heads = shape.heads,
                             .out = decoded.data(),
                             .token_stride = shape.heads * shape.row_bytes()});
    encoded.error.Add(ErrorOf(header, exact, layer, decoded));
  }
  encoded.bytes += form_.BodyBytes(header, body);
  return encoded;
}

namespace {

// A section, taken apart and checked against what the caller expects.
struct Section {
  TensorHeader header;
  const TensorForm* form = nullptr;
  const Calibration* calibration = nullptr;
  ByteView exact;
  ByteView tails;
  ByteView body;
};

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("tensor section: {}", what));
}

absl::StatusOr<Section> TakeApart(ByteView encoded, const TensorShape& shape,
                                  const CalibrationSet& calibrations) {
  ByteReader reader(encoded);
  Section section;
  MNEMO_ASSIGN_OR_RETURN(section.header, codec::ReadTensorHeader(reader));
  const TensorHeader& header = section.header;
  if (header.shape != shape) return Damaged("a tensor of another shape or place");
  section.form = codec::FindTensorForm(header.codec, header.bits);
  if (section.form == nullptr) {
    return Damaged(fmt::format("codec {} of {} bits is not known", static_cast<int>(header.codec),
                               header.bits));
  }
  if (!section.form->Accepts(shape).ok()) return Damaged("a shape that its codec does not take");
  section.exact = reader.Take(ExactBytes(shape));
  section.tails = reader.Take(TailBytes(shape));
  const ByteView rest = reader.ok() ? encoded.last(reader.remaining()) : ByteView();
  section.body = reader.Take(section.form->BodyBytes(header, rest));
  if (!reader.ok()) return Damaged("cut short");
  if (reader.remaining() != 0) return Damaged("bytes behind its end");
  if (header.calibration_id == 0 && section.form->NeedsAxes()) {
    return Damaged("names no calibration");
  }
  if (header.calibration_id != 0) {
    if (!section.form->WantsCalibration(shape)) return Damaged("a calibration without use");
    section.calibration = calibrations.Find(header.calibration_id);
    if (section.calibration == nullptr) {
      return absl::FailedPreconditionError(
          fmt::format("calibration {:08x} is not here", header.calibration_id));
    }
    if (const absl::Status covers = section.calibration->Covers(shape); !covers.ok()) {
      return absl::FailedPreconditionError(std::string(covers.message()));
    }
    if (section.form->NeedsAxes() && !section.calibration->has_axes()) {
      return absl::FailedPreconditionError(
          fmt::format("calibration {:08x} has no axes", header.calibration_id));
    }
  }
  return section;
}

// Whether a section's codes can be cut to `bits`.
absl::Status CheckBits(const TensorHeader& header, uint32_t bits) {
  if (bits == header.bits) return absl::OkStatus();
  if (header.codec == CodecId::kProgressive && bits < header.bits &&
      codec::FindTensorForm(header.codec, bits) != nullptr) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format("{} of {} bits cannot be taken as {}",
                                                CodecName(static_cast<uint8_t>(header.codec)),
                                                header.bits, bits));
}

}  // namespace

EncodingError DifferenceOf(const TensorShape& shape, ByteView was, ByteView is) {
  const codec::RowKernels& kernels = codec::BestRowKernels();
  std::vector<float> x(shape.dimension);
  std::vector<float> y(shape.dimension);
  EncodingError error;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = shape.exact_tokens; token < shape.tokens; ++token) {
      for (uint32_t head = 0; head < shape.heads; ++head) {
        const uint64_t at = shape.RowOffset(layer, token, head);
        kernels.Load(shape.dtype, was.data() + at, shape.dimension, x.data());
        kernels.Load(shape.dtype, is.data() + at, shape.dimension, y.data());
        for (uint32_t i = 0; i < shape.dimension; ++i) {
          const double difference = double{y[i]} - double{x[i]};
          error.squares += double{x[i]} * double{x[i]};
          error.squared_errors += difference * difference;
          error.largest = std::max(error.largest, std::fabs(difference));
        }
      }
    }
  }
  error.values =
      uint64_t{shape.layers} * (shape.tokens - shape.exact_tokens) * shape.heads * shape.dimension;
  return error;
}

absl::StatusOr<TensorShape> ShapeOfSection(ByteView encoded) {
  ByteReader reader(encoded);
  MNEMO_ASSIGN_OR_RETURN(const TensorHeader header, codec::ReadTensorHeader(reader));
  return header.shape;
}

absl::StatusOr<uint32_t> CalibrationOfSection(ByteView encoded) {
  ByteReader reader(encoded);
  MNEMO_ASSIGN_OR_RETURN(const TensorHeader header, codec::ReadTensorHeader(reader));
  return header.calibration_id;
}

absl::StatusOr<uint64_t> Demote(MutableByteView section, uint32_t bits) {
  ByteReader reader(section);
  MNEMO_ASSIGN_OR_RETURN(TensorHeader header, codec::ReadTensorHeader(reader));
  const TensorForm* const form = codec::FindTensorForm(header.codec, header.bits);
  if (form == nullptr) return Damaged("a codec that is not known");
  MNEMO_RETURN_IF_ERROR(CheckBits(header, bits));
  const uint64_t front =
      section.size() - reader.remaining() + ExactBytes(header.shape) + TailBytes(header.shape);
  const ByteView rest = front <= section.size() ? ByteView(section).subspan(front) : ByteView();
  if (section.size() != front + form->BodyBytes(header, rest)) return Damaged("another size");
  header.bits = static_cast<uint8_t>(bits);
  codec::WriteTensorHeader(header, section.data());
  return front + form->BodyBytes(header, rest);
}

namespace {

const codec::RowKernels& KernelsOf(std::optional<SimdLevel> level) {
  const codec::RowKernels* const found =
      level.has_value() ? codec::FindRowKernels(*level) : nullptr;
  return found == nullptr ? codec::BestRowKernels() : *found;
}

}  // namespace

TensorDecoder::TensorDecoder(const CalibrationSet& calibrations, std::optional<SimdLevel> level)
    : calibrations_(calibrations),
      kernels_(KernelsOf(level)),
      scratch_(std::make_unique<codec::DecodeScratch>()) {}

TensorDecoder::~TensorDecoder() = default;

absl::Status TensorDecoder::Decode(ByteView encoded, const TensorShape& shape,
                                   const TensorSlice& slice, MutableByteView into, uint32_t bits) {
  MNEMO_RETURN_IF_ERROR(ValidateTensor(shape));
  MNEMO_RETURN_IF_ERROR(ValidateSlice(shape, slice));
  const TensorShape out = ShapeOf(shape, slice);
  if (into.size() < out.bytes()) {
    return absl::InvalidArgumentError(
        fmt::format("room of {} bytes, not {} or more", into.size(), out.bytes()));
  }
  MNEMO_ASSIGN_OR_RETURN(const Section section, TakeApart(encoded, shape, calibrations_));
  if (bits == 0) bits = section.header.bits;
  MNEMO_RETURN_IF_ERROR(CheckBits(section.header, bits));
  const size_t token_bytes = out.heads * out.row_bytes();
  for (uint32_t l = 0; l < slice.layers; ++l) {
    const uint32_t layer = slice.first_layer + l;
    for (uint32_t token = 0; token < out.exact_tokens; ++token) {
      const uint64_t at = ExactRowAt(shape, layer, slice.first_token + token, slice.first_head);
      std::memcpy(into.data() + out.RowOffset(l, token, 0), section.exact.data() + at, token_bytes);
    }
    if (out.tail_bytes != 0) {
      CopyInto(section.tails.subspan(layer * uint64_t{shape.tail_bytes}, out.tail_bytes),
               into.data() + out.TailOffset(l));
    }
    if (out.exact_tokens == out.tokens) continue;
    section.form->Decode(
        DecodeLayer{.header = section.header,
                    .calibration = section.calibration,
                    .body = section.body,
                    .kernels = kernels_,
                    .scratch = *scratch_,
                    .bits = bits,
                    .layer = layer,
                    .first_token = slice.first_token + out.exact_tokens - shape.exact_tokens,
                    .tokens = out.tokens - out.exact_tokens,
                    .first_head = slice.first_head,
                    .heads = slice.heads,
                    .out = into.data() + out.RowOffset(l, out.exact_tokens, 0),
                    .token_stride = out.token_major ? out.layers * token_bytes : token_bytes});
  }
  return absl::OkStatus();
}

}  // namespace mnemo

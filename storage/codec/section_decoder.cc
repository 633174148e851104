#include "storage/codec/section_decoder.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

std::shared_ptr<const CalibrationSet> OrEmpty(std::shared_ptr<const CalibrationSet> set) {
  return set != nullptr ? std::move(set) : std::make_shared<const CalibrationSet>();
}

}  // namespace

SectionDecoder::SectionDecoder(const CodecSet& codecs,
                               std::shared_ptr<const CalibrationSet> calibrations)
    : codecs_(codecs), calibrations_(OrEmpty(std::move(calibrations))), tensors_(*calibrations_) {}

absl::Status SectionDecoder::Decode(uint8_t codec, ByteView stored, MutableByteView decoded) {
  if (IsTensorCodec(codec)) return DecodeTensor(codec, stored, decoded);
  MNEMO_ASSIGN_OR_RETURN(const Codec* const exact, codecs_.Find(codec));
  return exact->Decode(stored, decoded);
}

absl::Status SectionDecoder::DecodeTensor(uint8_t codec, ByteView stored, MutableByteView decoded) {
  // The second byte of a section names its codec again.
  if (stored.size() < 2 || stored[1] != codec) {
    return absl::DataLossError("tensor section: of another codec than its table says");
  }
  MNEMO_ASSIGN_OR_RETURN(const TensorShape shape, ShapeOfSection(stored));
  if (shape.bytes() != decoded.size()) {
    return absl::DataLossError(
        fmt::format("tensor section: decodes to {} bytes, not {}", shape.bytes(), decoded.size()));
  }
  const absl::Status status = tensors_.Decode(stored, shape, TensorSlice::All(shape), decoded);
  // Whoever reads has no other calibration to bring.
  if (absl::IsFailedPrecondition(status)) return absl::DataLossError(status.message());
  return status;
}

}  // namespace mnemo

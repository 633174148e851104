// What the tensor codecs have in common, and what each of them adds; private to
// this room.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/rotation.h"
#include "storage/codec/calibration.h"
#include "storage/codec/codec.h"
#include "storage/codec/rope_rows.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/symbol_coder.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo::codec {

// The front of a section.
struct TensorHeader {
  CodecId codec = CodecId::kRaw;
  uint8_t bits = 0;
  TensorShape shape;
  uint32_t calibration_id = 0;  // 0: none

  size_t padded() const { return PaddedDimension(shape.dimension); }
  // Tokens that are encoded.
  uint32_t tokens() const { return shape.tokens - shape.exact_tokens; }
  uint64_t rows() const { return uint64_t{shape.layers} * tokens() * shape.heads; }
  // Number of the row among all encoded ones; `token` counts from the first
  // encoded one.
  uint64_t Row(uint32_t layer, uint32_t token, uint32_t head) const {
    return (uint64_t{layer} * tokens() + token) * shape.heads + head;
  }
};
inline constexpr size_t kMaxTensorHeader = 64;

// Numbers in base 128, lowest 7 bits first, the highest bit of a byte says that more follow.
// Writes up to kMaxVarint bytes, returns how many. A number that does not fit into 32 bits is
// read as all ones.
inline constexpr size_t kMaxVarint = 5;
size_t WriteVarint(uint32_t value, uint8_t* into);
uint32_t ReadVarint(ByteReader& reader);

// Appends at `into`, which has kMaxTensorHeader bytes; returns the size.
size_t WriteTensorHeader(const TensorHeader& header, uint8_t* into);
// Reads the front of `reader`. The shape is valid then. Errors: kDataLoss.
absl::StatusOr<TensorHeader> ReadTensorHeader(ByteReader& reader);

// How a decoder of the transform codec goes about a head.
struct TransformHead {
  size_t first_slot = 0;  // its gain's; its coordinates follow
  size_t coded = 0;       // coordinates
  size_t wide = 0;        // of these the first ones, whose codes are too large for whole numbers
  uint32_t shift = 0;     // a step is 2^shift units of the others' points
  size_t inward = 0;      // where the others' begin
  float step = 0;         // of the row with gain 0 half octaves
};

// Buffers of a decoder, as large as they ever had to be.
struct DecodeScratch {
  std::vector<uint8_t> codes;
  std::vector<float> values;
  std::vector<float> scale;
  std::vector<float> offset;
  std::vector<float> gains;
  // Of the transform codec, for a tile.
  std::vector<int16_t> symbols;
  std::vector<float> weights;
  std::vector<int16_t> points;
  std::vector<SymbolSlot> slots;
  std::vector<TransformHead> heads;
  std::vector<int16_t> inward;
  std::optional<RandomRotation> rotation;
  uint32_t rotated_dimension = 0;
  RopeCache ropes;
};

// One layer to decode.
struct DecodeLayer {
  const TensorHeader& header;
  const Calibration* calibration;  // not null where the header names one
  ByteView body;
  const RowKernels& kernels;
  DecodeScratch& scratch;
  uint32_t bits;  // of each code, from the highest; the header's, or fewer
  uint32_t layer;
  // Encoded tokens, counted from the first encoded one.
  uint32_t first_token;
  uint32_t tokens;
  uint32_t first_head;
  uint32_t heads;
  // Rows of the heads of a token lie side by side here, tokens so far apart.
  uint8_t* out;
  uint64_t token_stride;

  // Puts `values` [heads x padded] where the token's rows belong.
  void Store(uint32_t token, const float* values) const;
};

// A codec's own part of a section, its body. Immutable, thread-safe.
class TensorForm {
 public:
  virtual ~TensorForm() = default;

  // Errors: kInvalidArgument (a shape that this codec does not take).
  virtual absl::Status Accepts(const TensorShape& shape) const = 0;
  // Whether it leans on a calibration if there is one.
  virtual bool WantsCalibration(const TensorShape& shape) const = 0;
  // Whether it can't do without one, and one that has axes.
  virtual bool NeedsAxes() const { return false; }
  // Most bytes of the body of all layers.
  virtual uint64_t MaxBodyBytes(const TensorHeader& header) const = 0;
  // What it takes of `rest`, where it begins; more than there is if it was cut short.
  virtual uint64_t BodyBytes(const TensorHeader& header, ByteView /*rest*/) const {
    return MaxBodyBytes(header);
  }
  // `values` [tokens x heads x padded] of `layer`, finite; changed at will. Layers follow one
  // another from the first. Errors: kOutOfRange.
  virtual absl::Status Encode(const TensorHeader& header, const Calibration* calibration,
                              uint32_t layer, std::span<float> values,
                              MutableByteView body) const = 0;
  virtual void Decode(const DecodeLayer& job) const = 0;
};

// Null where this build does not know the codec or the bits.
const TensorForm* FindTensorForm(CodecId codec, uint32_t bits);

const TensorForm& KiviForm();
const TensorForm& RotatedForm();
const TensorForm& ProgressiveForm();
const TensorForm& TransformForm();

// Where the keys of a layer have positions that the calibration says how to take
// off: at that of encoded token `token`. Otherwise null.
RopeRows* RopeOf(const TensorHeader& header, const Calibration* calibration, uint32_t layer,
                 uint32_t token, const RowKernels& kernels, RopeCache& ropes);

}  // namespace mnemo::codec

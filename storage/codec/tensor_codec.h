// The seam of the codecs that may lose something: the tensors of a block in a few
// bits a value, with the error measured.
//
// A section that was encoded describes itself: version, codec, bits, shape,
// place in the chain and the calibration that it leans on. Any box of layers,
// tokens and heads is decoded without the rest, into the caller's memory. Groups
// that share a scale never cross a section, and so never a block.
//
// The bytes are in docs/formats/tensor-section.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/simd_level.h"
#include "storage/codec/calibration.h"
#include "storage/codec/codec.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo {

namespace codec {
class TensorForm;
struct DecodeScratch;
struct RowKernels;
}  // namespace codec

// How far decoded values are from the exact ones, exact tokens left out.
struct EncodingError {
  uint64_t values = 0;
  double squares = 0;         // sum of squares of the exact values
  double squared_errors = 0;  // sum of squares of the differences
  double largest = 0;         // difference

  // |x' - x| / |x|; 0 where all values are 0.
  double relative() const;
  void Add(const EncodingError& other);
};

struct EncodedTensor {
  uint64_t bytes = 0;        // of the section
  uint64_t exact_bytes = 0;  // of them: exact tokens
  EncodingError error;
};

// One codec at one number of bits. Immutable, thread-safe.
class TensorCodec {
 public:
  // kKivi takes 2, 4 or 8 bits (8: "int8"), kRotated 1 to 5, kProgressive 2, 3, 4, 5
  // or 8, kTransform 1 to 5, which are those of a value on average, as the calibration saw
  // them. Errors: kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<TensorCodec>> Create(CodecId id, uint32_t bits);
  ~TensorCodec();

  CodecId id() const { return id_; }
  uint32_t bits() const { return bits_; }

  // Room that Encode may need. `shape` is valid.
  uint64_t MaxEncodedSize(const TensorShape& shape) const;

  // Encodes `exact`, a tensor of `shape`, into the front of `into`, which has
  // MaxEncodedSize(shape) bytes or more. `calibration` may be null, where the
  // codec can do without: all but kTransform, which takes one that has_axes(); it is not used
  // where the block has what it needs.
  // Temporary memory: 8 bytes for each value of one layer, and one decoded layer.
  // Errors: kInvalidArgument (the shape, the size of `exact` or `into`, a
  // calibration that does not cover the shape); kOutOfRange (a value that is NaN,
  // infinite or beyond what scales can hold: such a section has to stay exact).
  absl::StatusOr<EncodedTensor> Encode(const TensorShape& shape, ByteView exact,
                                       const Calibration* calibration, MutableByteView into) const;

 private:
  TensorCodec(CodecId id, uint32_t bits, const codec::TensorForm& form)
      : id_(id), bits_(bits), form_(form) {}

  CodecId id_;
  uint32_t bits_;
  const codec::TensorForm& form_;
};

// Decodes sections of any tensor codec. Not thread-safe: it keeps its scratch
// memory, 32 bytes for each value of one token in one layer (of kTransform, 200), from one
// section to the next.
class TensorDecoder {
 public:
  // `calibrations` outlives this. Values are rounded a little otherwise at each SIMD
  // level; without one, the best that there is, also where `level` is not supported.
  explicit TensorDecoder(const CalibrationSet& calibrations,
                         std::optional<SimdLevel> level = std::nullopt);
  ~TensorDecoder();

  // Decodes the rows of `slice` of `encoded`, a section of a tensor of `shape`,
  // into the front of `into`; ShapeOf(shape, slice).bytes() of it. With `bits`,
  // takes no more than so many of each code of a progressive section, and reads no
  // more of it; 0 takes what is there. `encoded` may be damaged: nothing outside it and `into` is
  // touched, and values are finite where the dtype and exact tokens are. Errors: kInvalidArgument
  // (shape, slice, too little room, bits that the section does not have); kDataLoss (damaged,
  // another version or codec than this build knows, a tensor of another shape);
  // kFailedPrecondition (a calibration that is not here, or not of this geometry, or without axes
  // that it takes).
  absl::Status Decode(ByteView encoded, const TensorShape& shape, const TensorSlice& slice,
                      MutableByteView into, uint32_t bits = 0);

 private:
  const CalibrationSet& calibrations_;
  const codec::RowKernels& kernels_;
  std::unique_ptr<codec::DecodeScratch> scratch_;
};

// How far `is` is from `was`, both the bytes of a tensor of `shape`, exact tokens left out.
EncodingError DifferenceOf(const TensorShape& shape, ByteView was, ByteView is);

// The tensor that a section says to hold. Errors: kDataLoss (damaged, another
// version).
absl::StatusOr<TensorShape> ShapeOfSection(ByteView encoded);

// The calibration that a section names; 0: it leans on none. Errors: as ShapeOfSection.
absl::StatusOr<uint32_t> CalibrationOfSection(ByteView encoded);

// Makes of a progressive section one of fewer `bits`, in place: nothing is encoded
// again, planes at its end are dropped. Returns its new size.
// Errors: kInvalidArgument (not a progressive section, bits that it does not have);
// kDataLoss.
absl::StatusOr<uint64_t> Demote(MutableByteView section, uint32_t bits);

}  // namespace mnemo

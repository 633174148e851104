// Decodes sections of any codec, exact or not.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/bytes.h"
#include "storage/codec/calibration.h"
#include "storage/codec/codec.h"
#include "storage/codec/tensor_codec.h"

namespace mnemo {

// Not thread-safe: it keeps scratch memory from one section to the next.
class SectionDecoder {
 public:
  // `codecs` outlives this. `calibrations` are those of the sections' space; null
  // where there is none.
  explicit SectionDecoder(const CodecSet& codecs,
                          std::shared_ptr<const CalibrationSet> calibrations = nullptr);

  // Fills `decoded`, whose size is the section's exact size, from a section that lies
  // encoded by `codec`, a CodecId. `stored` may be damaged: nothing outside both is
  // touched. Errors: kDataLoss (also a codec or a calibration that is not known).
  absl::Status Decode(uint8_t codec, ByteView stored, MutableByteView decoded);

 private:
  absl::Status DecodeTensor(uint8_t codec, ByteView stored, MutableByteView decoded);

  const CodecSet& codecs_;
  const std::shared_ptr<const CalibrationSet> calibrations_;  // never null
  TensorDecoder tensors_;
};

}  // namespace mnemo

// A small part of a model's tensors as a level keeps it encoded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"
#include "storage/codec/calibration.h"
#include "storage/codec/envelope.h"
#include "tests/support/tensors.h"

namespace mnemo::testing {

struct EncodedSample {
  std::string key;    // bytes of its stored key
  std::string exact;  // the payload as it was put
  std::string value;  // its envelope, encoded
  std::shared_ptr<const Calibration> calibration;
};

// Keys and values of two layers, a section each, of 40 tokens with 2 heads of 32 values.
inline std::vector<TensorShape> SampleTensors() {
  const TensorShape keys = {
      .dtype = DType::kBF16, .tokens = 40, .heads = 2, .dimension = 32, .exact_tokens = 4};
  std::vector<TensorShape> tensors;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      TensorShape tensor = keys;
      tensor.role = role;
      tensor.first_layer = layer;
      tensors.push_back(tensor);
    }
  }
  return tensors;
}

// Of a lossy form with a calibration learnt from the part itself, unless `calibrated` is false.
inline EncodedSample MakeEncodedSample(StoredForm form, bool calibrated = true, uint64_t seed = 1) {
  EncodedSample sample;
  EncodingTarget target{.form = form};
  const std::vector<TensorShape> tensors = SampleTensors();
  auto fit = CalibrationFit::Create(
      {.layers = 2,
       .heads = 2,
       .k_dimension = 32,
       .v_dimension = 32,
       .ropes = {{.style = RopeStyle::kHalf, .theta = 1e4}, {.style = RopeStyle::kNone}}});
  MNEMO_CHECK(fit.ok());
  std::vector<uint64_t> sizes;
  for (const TensorShape& shape : tensors) {
    const Bytes tensor = NormalTensor(shape, seed++);
    MNEMO_CHECK(fit->Add(shape, tensor).ok());
    sample.exact += AsText(tensor);
    sizes.push_back(shape.bytes());
  }
  if (IsLossy(form)) target.tensors = tensors;
  if (calibrated) sample.calibration = *fit->Finish();
  target.calibration = sample.calibration.get();

  sample.key = "key " + std::to_string(seed);
  auto builder = EnvelopeBuilder::Create(sample.key, sizes, 2);
  MNEMO_CHECK(builder.ok() && builder->Update(AsBytes(sample.exact)).ok());
  auto raw = std::make_shared<const std::string>(*builder->Header() + sample.exact);
  const CodecSet codecs;
  SectionDecoder decoder(codecs);
  auto value = Transcode(sample.key, PinnedBytes({AsBytes(*raw)}, raw), decoder, target);
  MNEMO_CHECK(value.ok());
  sample.value = *std::move(value);
  return sample;
}

}  // namespace mnemo::testing

// Tensors for tests of codecs: made ones, and slices that were captured from models.
#pragma once

#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/codec/calibration.h"
#include "storage/codec/row_kernels.h"
#include "storage/codec/tensor_codec.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo::testing {

using Bytes = std::vector<uint8_t>;

inline std::vector<float> RowAt(const TensorShape& shape, ByteView bytes, uint32_t layer,
                                uint32_t token, uint32_t head) {
  std::vector<float> row(shape.dimension);
  codec::ScalarRowKernels().Load(shape.dtype, bytes.data() + shape.RowOffset(layer, token, head),
                                 shape.dimension, row.data());
  return row;
}

inline void PutRow(const TensorShape& shape, const std::vector<float>& row, uint32_t layer,
                   uint32_t token, uint32_t head, Bytes& bytes) {
  codec::ScalarRowKernels().Store(shape.dtype, row.data(), shape.dimension,
                                  bytes.data() + shape.RowOffset(layer, token, head));
}

// Normal values with a scale and a mean of each channel's own, and noise in the tails.
inline Bytes NormalTensor(const TensorShape& shape, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Bytes bytes(shape.bytes());
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  std::vector<float> row(shape.dimension);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint32_t token = 0; token < shape.tokens; ++token) {
      for (uint32_t head = 0; head < shape.heads; ++head) {
        for (uint32_t i = 0; i < shape.dimension; ++i) {
          row[i] =
              (normal(random) + static_cast<float>(i % 3)) * (0.25F + static_cast<float>(i % 7));
        }
        PutRow(shape, row, layer, token, head, bytes);
      }
    }
  }
  return bytes;
}

struct Coded {
  Bytes bytes;
  EncodedTensor facts;
};

inline Coded Encode(CodecId id, uint32_t bits, const TensorShape& shape, const Bytes& exact,
                    const Calibration* calibration = nullptr) {
  const auto codec = TensorCodec::Create(id, bits).value();
  Coded coded;
  coded.bytes.resize(codec->MaxEncodedSize(shape));
  coded.facts = codec->Encode(shape, exact, calibration, coded.bytes).value();
  coded.bytes.resize(coded.facts.bytes);
  return coded;
}

// A file of tests/data/codecs: two layers of 1,024 tokens in bf16, which
// provenance.json there describes.
struct CapturedModel {
  std::string name;
  uint32_t heads;
  uint32_t dimension;
  std::vector<LayerRope> ropes;

  CalibrationGeometry geometry() const {
    return {.layers = 2,
            .heads = heads,
            .k_dimension = dimension,
            .v_dimension = dimension,
            .ropes = ropes};
  }
};
inline std::vector<CapturedModel> CapturedModels() {
  return {{"smollm2", 3, 64, {{RopeStyle::kInterleaved, 1e5}, {RopeStyle::kInterleaved, 1e5}}},
          {"gemma", 1, 256, {{RopeStyle::kHalf, 1e4}, {RopeStyle::kHalf, 1e6}}}};
}
inline constexpr uint32_t kCapturedTokens = 1024;

// The tensor of a block of a captured chain, all layers: `book` is "calibration" or
// "heldout", `depth` the block's.
struct CapturedBlock {
  TensorShape shape;
  Bytes bytes;
};
inline CapturedBlock LoadCaptured(const std::string& folder, const CapturedModel& model,
                                  const std::string& book, TensorRole role, uint32_t tokens,
                                  uint32_t depth) {
  std::ifstream file(folder + "/codecs/" + model.name + "_" + book +
                         (role == TensorRole::kKeys ? "_k.bf16" : "_v.bf16"),
                     std::ios::binary);
  const Bytes all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  CapturedBlock block;
  block.shape = {.role = role,
                 .layers = 2,
                 .tokens = tokens,
                 .heads = model.heads,
                 .dimension = model.dimension,
                 .exact_tokens = ExactTokens(depth, tokens),
                 .first_position = depth * tokens};
  const size_t layer_bytes = size_t{kCapturedTokens} * model.heads * model.dimension * 2;
  const size_t block_bytes = block.shape.bytes() / 2;
  for (size_t layer = 0; layer < 2; ++layer) {
    const size_t at = layer * layer_bytes + depth * block_bytes;
    if (at + block_bytes > all.size()) return {};
    block.bytes.insert(block.bytes.end(), all.begin() + at, all.begin() + at + block_bytes);
  }
  return block;
}

inline std::shared_ptr<const Calibration> CalibrationOf(
    const std::string& folder, const CapturedModel& model,
    CalibrationKind kind = CalibrationKind::kStatistics) {
  auto fit = CalibrationFit::Create(model.geometry(), kind);
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    const CapturedBlock all = LoadCaptured(folder, model, "calibration", role, kCapturedTokens, 0);
    if (!fit->Add(all.shape, all.bytes).ok()) return nullptr;
  }
  return fit->Finish().value();
}

// Learnt from other values like NormalTensor's, wide enough for `shape`.
inline std::shared_ptr<const Calibration> CalibrationOfNormal(const TensorShape& shape,
                                                              CalibrationKind kind) {
  const uint32_t layers = shape.first_layer + shape.layers;
  auto fit = CalibrationFit::Create({.layers = layers,
                                     .heads = shape.first_head + shape.heads,
                                     .k_dimension = shape.dimension,
                                     .v_dimension = shape.dimension,
                                     .ropes = std::vector<LayerRope>(layers)},
                                    kind);
  for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
    const TensorShape many = {.role = role,
                              .dtype = DType::kF32,
                              .layers = layers,
                              .tokens = 512,
                              .heads = shape.first_head + shape.heads,
                              .dimension = shape.dimension};
    if (!fit->Add(many, NormalTensor(many, 99)).ok()) return nullptr;
  }
  return fit->Finish().value();
}

}  // namespace mnemo::testing

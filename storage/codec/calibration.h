// What a space learnt about its tensors, once, from blocks of its own: what
// codecs need and a block alone cannot pay for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo {

namespace codec {
struct TransformBasis;
class TransformFit;
}  // namespace codec

// How the keys of a layer were turned by their positions.
enum class RopeStyle : uint8_t {
  kNone = 0,         // or not known: keys are taken as they are
  kHalf = 1,         // i with i + dimension / 2
  kInterleaved = 2,  // 2i with 2i + 1
};
struct LayerRope {
  RopeStyle style = RopeStyle::kNone;
  double theta = 0;  // 1 to 1e12 where there is a style
  friend bool operator==(const LayerRope&, const LayerRope&) = default;
};

// What is calibrated: the layers of one group of a space, all ranks together.
struct CalibrationGeometry {
  uint32_t layers = 0;           // 1 to 1,024
  uint32_t heads = 0;            // 1 to 1,024
  uint32_t k_dimension = 0;      // 1 to 16,384; even where a layer has a RopeStyle
  uint32_t v_dimension = 0;      // 0 to 16,384
  std::vector<LayerRope> ropes;  // one a layer
  friend bool operator==(const CalibrationGeometry&, const CalibrationGeometry&) = default;

  uint32_t Dimension(TensorRole role) const {
    return role == TensorRole::kKeys ? k_dimension : v_dimension;
  }
};

// Statistics of the channels of keys or of values, [layer, head, dimension].
struct ChannelStatistics {
  // What is taken off before anything else. Of keys: their mean, positions taken
  // off. Of values: their mean where that makes tokens smaller, otherwise 0.
  std::vector<float> mean;
  // Standard deviation, of keys with positions taken off. 1e-6 or more.
  std::vector<float> deviation;
  // Smallest and largest value, of keys as they are stored.
  std::vector<float> low;
  std::vector<float> high;

  // Not stored, but follow from the deviation: what channels are multiplied by, to
  // be alike, before they are rotated, and 1 over it. 1 for values.
  std::vector<float> weight;
  std::vector<float> inverse_weight;
};

// Immutable, thread-safe. Byte for byte in docs/formats/calibration.md.
class Calibration {
 public:
  // Errors: kDataLoss (damaged, another version, numbers that make no sense).
  static absl::StatusOr<std::shared_ptr<const Calibration>> Parse(ByteView bytes);
  std::string Serialize() const;

  // Names these very statistics in sections: from their checksum, never 0.
  uint32_t id() const { return id_; }
  const CalibrationGeometry& geometry() const { return geometry_; }
  const ChannelStatistics& of(TensorRole role) const {
    return role == TensorRole::kKeys ? keys_ : values_;
  }
  // Whether the transform codec can lean on it.
  bool has_axes() const { return key_basis_ != nullptr; }
  // Null without axes, and for values where there are none.
  const codec::TransformBasis* basis(TensorRole role) const {
    return role == TensorRole::kKeys ? key_basis_.get() : value_basis_.get();
  }
  // Whether it holds what `shape` needs. Errors: kInvalidArgument.
  absl::Status Covers(const TensorShape& shape) const;
  // Where the first of `dimension` statistics of a layer and head of `shape` lies.
  size_t IndexOf(const TensorShape& shape, uint32_t layer, uint32_t head) const {
    return (size_t{shape.first_layer + layer} * geometry_.heads + shape.first_head + head) *
           shape.dimension;
  }

 private:
  friend class CalibrationFit;
  Calibration() = default;
  void Derive();

  CalibrationGeometry geometry_;
  ChannelStatistics keys_;
  ChannelStatistics values_;
  // Never changed; shared, for their type is private to this room.
  std::shared_ptr<const codec::TransformBasis> key_basis_;
  std::shared_ptr<const codec::TransformBasis> value_basis_;
  uint32_t id_ = 0;
};

// What is calibrated: the statistics of each channel, or axes for the transform codec
// besides, of dimensions up to 1,024.
enum class CalibrationKind : uint8_t { kStatistics, kAxes };

// Collects statistics block by block. Not thread-safe.
// Memory: 48 bytes a channel of all layers; with axes 8 bytes for each channel of its head and
// 512 bytes more.
class CalibrationFit {
 public:
  // Errors: kInvalidArgument (the geometry; axes of more than 1,024 dimensions).
  static absl::StatusOr<CalibrationFit> Create(const CalibrationGeometry& geometry,
                                               CalibrationKind kind = CalibrationKind::kStatistics);
  CalibrationFit(CalibrationFit&&) noexcept;
  CalibrationFit& operator=(CalibrationFit&&) noexcept;
  ~CalibrationFit();

  // Adds a section, but for its exact tokens. Errors: kInvalidArgument (a shape
  // that does not fit the geometry, another size); kOutOfRange (a value that is
  // not finite or beyond 65,504; nothing of the section is added).
  absl::Status Add(const TensorShape& shape, ByteView exact);
  // With axes, O(dimension^3) for each layer and head. Errors: kFailedPrecondition (a layer or
  // head of which fewer than kLeastTokens tokens were seen).
  absl::StatusOr<std::shared_ptr<const Calibration>> Finish() const;

  static constexpr uint64_t kLeastTokens = 32;

 private:
  struct Channel {
    double sum = 0;
    double squares = 0;
    double weighted = 0;  // sum of value / |row|^2
    float low = 0;
    float high = 0;
  };
  struct Head {
    uint64_t tokens = 0;
    double inverse_squares = 0;  // sum of 1 / |row|^2
    uint64_t rows = 0;           // that are not zero
  };
  struct Sums {
    std::vector<Channel> channels;
    std::vector<Head> heads;
  };
  CalibrationFit(const CalibrationGeometry& geometry, CalibrationKind kind);
  void AddRow(Sums& sums, size_t head, std::span<const float> stored,
              std::span<const float> unturned);
  ChannelStatistics Summarize(const Sums& sums, uint32_t dimension, bool keys) const;

  CalibrationGeometry geometry_;
  Sums keys_;
  Sums values_;
  // Null without axes.
  std::unique_ptr<codec::TransformFit> key_axes_;
  std::unique_ptr<codec::TransformFit> value_axes_;
};

// The calibrations that sections of one space may name. Thread-safe for readers.
class CalibrationSet {
 public:
  void Add(std::shared_ptr<const Calibration> calibration);
  // Null if it is not here.
  const Calibration* Find(uint32_t id) const;

 private:
  std::map<uint32_t, std::shared_ptr<const Calibration>> by_id_;
};

}  // namespace mnemo

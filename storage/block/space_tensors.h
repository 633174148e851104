// A part's sections as the tensors that codecs take.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/block/space.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo {

// One tensor a section of GeometryOf(spec, part), in order, of the same size;
// empty where a part is bytes only (HasTensors). `depth` is the block's in
// its chain: it says which tokens stay exact, and their positions, which are 0
// from where a chain would be longer than 2^32 tokens.
// Errors: as GeometryOf.
absl::StatusOr<std::vector<TensorShape>> TensorsOf(const SpaceSpec& spec, const PartId& part,
                                                   uint32_t depth);

}  // namespace mnemo

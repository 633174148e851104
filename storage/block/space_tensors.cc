#include "storage/block/space_tensors.h"

#include <limits>
#include <numeric>

#include "storage/base/status_macros.h"

namespace mnemo {

absl::StatusOr<std::vector<TensorShape>> TensorsOf(const SpaceSpec& spec, const PartId& part,
                                                   uint32_t depth) {
  MNEMO_ASSIGN_OR_RETURN(const PartGeometry geometry, GeometryOf(spec, part));
  const Group& group = spec.groups[part.group];
  std::vector<TensorShape> tensors;
  if (!HasTensors(group)) return tensors;
  const bool token_major = group.layout == Layout::kTokenMajor;

  const uint64_t position = uint64_t{depth} * spec.tokens_per_block;
  const uint32_t heads = group.kv_heads / group.tensor_parallel_size;
  const TensorShape whole = {
      .dtype = group.dtype,
      .layers = geometry.layers,
      .tokens = spec.tokens_per_block,
      .heads = heads,
      .token_major = token_major,
      .tail_bytes = group.scale_bytes_per_run,
      .exact_tokens = ExactTokens(depth, spec.tokens_per_block),
      .first_layer = group.pipeline_layers.empty()
                         ? 0
                         : std::accumulate(group.pipeline_layers.begin(),
                                           group.pipeline_layers.begin() + part.pp_rank, 0U),
      .first_head = part.tp_rank * heads,
      .first_position = position + spec.tokens_per_block <= std::numeric_limits<uint32_t>::max()
                            ? static_cast<uint32_t>(position)
                            : 0};
  const auto add = [&](TensorRole role, uint32_t layer, uint32_t layers) {
    TensorShape tensor = whole;
    tensor.role = role;
    tensor.dimension = role == TensorRole::kKeys ? group.k_dimension : group.v_dimension;
    tensor.layers = layers;
    tensor.first_layer += layer;
    tensors.push_back(tensor);
  };
  const auto add_all = [&](TensorRole role) {
    if (token_major) return add(role, 0, geometry.layers);
    for (uint32_t layer = 0; layer < geometry.layers; ++layer) add(role, layer, 1);
  };
  if (group.layout == Layout::kLayerMajor) {
    for (uint32_t layer = 0; layer < geometry.layers; ++layer) {
      add(TensorRole::kKeys, layer, 1);
      if (geometry.has_v) add(TensorRole::kValues, layer, 1);
    }
    return tensors;
  }
  add_all(TensorRole::kKeys);
  if (geometry.has_v) add_all(TensorRole::kValues);
  return tensors;
}

}  // namespace mnemo

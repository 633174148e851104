#include "storage/block/space_tensors.h"

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

SpaceSpec Spec(Layout layout) {
  return {.name = "model",
          .fingerprint = {.weights_digest = "sha256:00"},
          .tokens_per_block = 16,
          .groups = {{.name = "full",
                      .layers = 5,
                      .kv_heads = 8,
                      .k_dimension = 128,
                      .v_dimension = 96,
                      .dtype = DType::kFp8E4M3,
                      .layout = layout,
                      .tensor_parallel_size = 2,
                      .pipeline_layers = {2, 3}}}};
}

TEST(SpaceTensorsTest, HasOneTensorOfTheSameSizeForEachSection) {
  for (const Layout layout : {Layout::kLayerMajor, Layout::kKvMajor, Layout::kTokenMajor}) {
    SpaceSpec spec = Spec(layout);
    if (layout != Layout::kTokenMajor) spec.groups[0].scale_bytes_per_run = 24;
    ASSERT_OK(ValidateSpace(spec));
    for (const PartId& part : AllParts(spec)) {
      ASSERT_OK_AND_ASSIGN(const PartGeometry geometry, GeometryOf(spec, part));
      ASSERT_OK_AND_ASSIGN(const auto tensors, TensorsOf(spec, part, 3));
      ASSERT_EQ(tensors.size(), geometry.sections.sizes.size());
      for (size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_OK(ValidateTensor(tensors[i]));
        EXPECT_EQ(tensors[i].bytes(), geometry.sections.sizes[i]);
        EXPECT_EQ(tensors[i].first_head, part.tp_rank * 4u);
        EXPECT_EQ(tensors[i].first_position, 48u);
        EXPECT_EQ(tensors[i].dimension, tensors[i].role == TensorRole::kKeys ? 128u : 96u);
      }
      EXPECT_EQ(tensors[0].first_layer, part.pp_rank == 0 ? 0u : 2u);
      EXPECT_EQ(tensors.back().first_layer + tensors.back().layers, part.pp_rank == 0 ? 2u : 5u);
    }
  }
}

TEST(SpaceTensorsTest, KeepsTheFirstFourTokensOfAChainExact) {
  SpaceSpec spec = Spec(Layout::kLayerMajor);
  const auto exact = [&](uint32_t depth) {
    return TensorsOf(spec, {}, depth)->front().exact_tokens;
  };
  EXPECT_EQ(exact(0), 4u);
  EXPECT_EQ(exact(1), 0u);
  spec.tokens_per_block = 3;
  EXPECT_EQ(exact(0), 3u);
  EXPECT_EQ(exact(1), 1u);
  EXPECT_EQ(exact(2), 0u);
  EXPECT_EQ(exact(4'000'000'000), 0u);
}

TEST(SpaceTensorsTest, BytesAreNoTensors) {
  SpaceSpec spec = Spec(Layout::kTokenMajor);
  spec.groups[0].scale_bytes_per_run = 24;
  EXPECT_TRUE(TensorsOf(spec, {}, 0)->empty());
  spec = Spec(Layout::kLayerMajor);
  spec.groups[0].dtype = DType::kInt8;
  EXPECT_TRUE(TensorsOf(spec, {}, 0)->empty());
  spec.groups[0] = {.name = "state", .kind = GroupKind::kState, .layers = 2, .fixed_bytes = 100};
  EXPECT_TRUE(TensorsOf(spec, {}, 0)->empty());
  EXPECT_THAT(TensorsOf(spec, {.group = 7}, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace mnemo

#include "storage/block/space.h"

#include <numeric>

#include "storage/base/checksum.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using testing::HasSubstr;

// Like Llama 3.1 8B: 32 layers x 8 heads x 128, 131,072 bytes a token in bf16.
SpaceSpec Llama() {
  Group full{.name = "full",
             .kind = GroupKind::kFull,
             .layers = 32,
             .kv_heads = 8,
             .k_dimension = 128,
             .v_dimension = 128,
             .dtype = DType::kBF16};
  return {.name = "llama",
          .fingerprint = {.weights_digest = "sha256:00"},
          .tokens_per_block = 256,
          .groups = {full}};
}

SpaceSpec Hybrid() {
  SpaceSpec spec = Llama();
  Group window = spec.groups[0];
  window.name = "window";
  window.kind = GroupKind::kWindow;
  window.window_tokens = 512;
  spec.groups.push_back(window);
  spec.groups.push_back(
      {.name = "state", .kind = GroupKind::kState, .layers = 4, .fixed_bytes = 100});
  return spec;
}

uint64_t SumOf(const SectionLayout& layout) {
  return std::accumulate(layout.sizes.begin(), layout.sizes.end(), uint64_t{0});
}

TEST(SpaceTest, GeometryOfTheReferenceModelIsItsBytesAToken) {
  ASSERT_OK_AND_ASSIGN(const PartGeometry geometry, GeometryOf(Llama(), {}));
  EXPECT_EQ(geometry.bytes, 256u * 131072u);
  EXPECT_EQ(geometry.sections.sizes.size(), 64u);
  EXPECT_EQ(SumOf(geometry.sections), geometry.bytes);
  EXPECT_EQ(geometry.sections.dtype_bytes, 2);
}

TEST(SpaceTest, RanksShareTheHeadsAndTheLayers) {
  SpaceSpec spec = Llama();
  spec.groups[0].tensor_parallel_size = 4;
  spec.groups[0].pipeline_layers = {12, 20};
  ASSERT_OK(ValidateSpace(spec));
  ASSERT_OK_AND_ASSIGN(const PartGeometry first, GeometryOf(spec, {.tp_rank = 3, .pp_rank = 0}));
  ASSERT_OK_AND_ASSIGN(const PartGeometry second, GeometryOf(spec, {.tp_rank = 3, .pp_rank = 1}));
  EXPECT_EQ((first.bytes + second.bytes) * 4, 256u * 131072u);
  EXPECT_EQ(AllParts(spec).size(), 8u);
}

TEST(SpaceTest, SectionsAddUpInEveryLayout) {
  for (const Layout layout : {Layout::kLayerMajor, Layout::kKvMajor, Layout::kTokenMajor}) {
    SpaceSpec spec = Llama();
    spec.groups[0].layout = layout;
    spec.groups[0].v_dimension = 64;
    spec.groups[0].scale_bytes_per_run = 12;
    ASSERT_OK_AND_ASSIGN(const PartGeometry geometry, GeometryOf(spec, {}));
    EXPECT_EQ(SumOf(geometry.sections), geometry.bytes);
    EXPECT_EQ(geometry.layers_readable, layout != Layout::kTokenMajor);
  }
}

TEST(SpaceTest, LatentHasNoV) {
  SpaceSpec spec = Llama();
  spec.groups[0] = {.name = "mla",
                    .kind = GroupKind::kLatent,
                    .layers = 2,
                    .kv_heads = 1,
                    .k_dimension = 576,
                    .dtype = DType::kF16};
  ASSERT_OK(ValidateSpace(spec));
  ASSERT_OK_AND_ASSIGN(const PartGeometry geometry, GeometryOf(spec, {}));
  EXPECT_EQ(geometry.bytes, 2u * 256 * 576 * 2);
  EXPECT_FALSE(geometry.has_v);
  spec.groups[0].v_dimension = 1;
  EXPECT_THAT(ValidateSpace(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("groups[0].v_dimension is 1")));
}

TEST(SpaceTest, RankThatTheGroupDoesNotHaveIsRefusedWithItsRange) {
  EXPECT_THAT(
      GeometryOf(Llama(), {.tp_rank = 1}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tp_rank is 1; it must be below 1")));
  EXPECT_THAT(GeometryOf(Llama(), {.group = 1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("part.group")));
}

TEST(SpaceTest, WindowNeedsItsLastBlocks) {
  EXPECT_EQ(WindowBlocks(Hybrid().groups[1], 256), 2u);
  EXPECT_EQ(WindowBlocks(Hybrid().groups[1], 500), 2u);
  EXPECT_EQ(WindowBlocks(Hybrid().groups[1], 512), 1u);
}

struct BadSpace {
  const char* message;
  void (*damage)(SpaceSpec&);
};
class BadSpaceTest : public testing::TestWithParam<BadSpace> {};

TEST_P(BadSpaceTest, IsRefusedNamingFieldAndRange) {
  SpaceSpec spec = Hybrid();
  ASSERT_OK(ValidateSpace(spec));
  GetParam().damage(spec);
  EXPECT_THAT(ValidateSpace(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadSpaceTest,
    testing::Values(
        BadSpace{"space.name length is 0; it must be 1 to 128", [](SpaceSpec& s) { s.name = ""; }},
        BadSpace{"space.name is with control characters", [](SpaceSpec& s) { s.name = "a\nb"; }},
        BadSpace{"tokens_per_block is 0", [](SpaceSpec& s) { s.tokens_per_block = 0; }},
        BadSpace{"tokens_per_block is 65536", [](SpaceSpec& s) { s.tokens_per_block = 65536; }},
        BadSpace{"groups size is 0", [](SpaceSpec& s) { s.groups.clear(); }},
        BadSpace{"groups[1].name is full; it must be unique",
                 [](SpaceSpec& s) { s.groups[1].name = "full"; }},
        BadSpace{"groups[0].layers is 0", [](SpaceSpec& s) { s.groups[0].layers = 0; }},
        BadSpace{"groups[0].kind is 9",
                 [](SpaceSpec& s) { s.groups[0].kind = static_cast<GroupKind>(9); }},
        BadSpace{"groups[0].kv_heads is 8; it must be a multiple",
                 [](SpaceSpec& s) { s.groups[0].tensor_parallel_size = 3; }},
        BadSpace{"groups[1].window_tokens is 0",
                 [](SpaceSpec& s) { s.groups[1].window_tokens = 0; }},
        BadSpace{"groups[0].window_tokens is 5; it must be 0 to 0",
                 [](SpaceSpec& s) { s.groups[0].window_tokens = 5; }},
        BadSpace{"groups[2].fixed_bytes is 0", [](SpaceSpec& s) { s.groups[2].fixed_bytes = 0; }},
        BadSpace{"groups[0].pipeline_layers in all is 3",
                 [](SpaceSpec& s) {
                   s.groups[0].pipeline_layers = {1, 2};
                 }},
        BadSpace{"groups[0].dtype is 0", [](SpaceSpec& s) { s.groups[0].dtype = DType::kBytes; }},
        BadSpace{"groups[0] bytes of a part is", [](SpaceSpec& s) { s.tokens_per_block = 65535; }},
        BadSpace{"fingerprint.weights_digest length is 0",
                 [](SpaceSpec& s) { s.fingerprint.weights_digest = ""; }},
        BadSpace{"policy.floor.bits_per_value is 1; it must be 0 (exact), 2, 3, 4, 5 or 8",
                 [](SpaceSpec& s) { s.policy.floor_bits_per_value = 1; }},
        BadSpace{"policy.floor.bits_per_value is 6",
                 [](SpaceSpec& s) { s.policy.floor_bits_per_value = 6; }},
        BadSpace{"policy.floor.bits_per_value is 4; it must be 0 (exact) in a space without",
                 [](SpaceSpec& s) {
                   for (Group& group : s.groups) {
                     if (HasTensors(group)) group.dtype = DType::kInt8;
                   }
                   s.policy.floor_bits_per_value = 4;
                 }},
        BadSpace{"policy.levels.l3.bits_per_value is 7; it must be 0 (exact), 2, 3, 4, 5 or 8",
                 [](SpaceSpec& s) {
                   s.policy.floor_bits_per_value = 4;
                   s.policy.level_bits.l3 = 7;
                 }},
        BadSpace{"policy.levels.archive.bits_per_value is 3; it must be at least the floor, 4",
                 [](SpaceSpec& s) {
                   s.policy.floor_bits_per_value = 4;
                   s.policy.level_bits.archive = 3;
                 }},
        BadSpace{"policy.levels.l2.bits_per_value is 4; it must be at least the floor, 0 (exact)",
                 [](SpaceSpec& s) { s.policy.level_bits.l2 = 4; }},
        BadSpace{"policy.levels.l3.bits_per_value is 8; it must be at most that of l2, 5",
                 [](SpaceSpec& s) {
                   s.policy.floor_bits_per_value = 4;
                   s.policy.level_bits = {.l2 = 5, .l3 = 8};
                 }},
        BadSpace{"policy.levels.archive.bits_per_value is 0 (exact); it must be at most that of l3",
                 [](SpaceSpec& s) {
                   s.policy.floor_bits_per_value = 4;
                   s.policy.level_bits.archive = 0;
                 }},
        BadSpace{"policy.time_to_live_seconds",
                 [](SpaceSpec& s) { s.policy.time_to_live_seconds = ~uint64_t{0}; }},
        BadSpace{"parts of a block", [](SpaceSpec& s) {
                   s.groups[0].kv_heads = s.groups[0].tensor_parallel_size = 1024;
                   s.groups[0].pipeline_layers.assign(32, 1);
                   s.groups[0].k_dimension = s.groups[0].v_dimension = 1;
                 }}));

TEST(SpaceTest, AFloorSaysInWhichFormEachLevelKeepsParts) {
  SpaceSpec spec = Hybrid();
  for (const auto& [floor, form] : {std::pair(0U, StoredForm::kLossless),
                                    {2U, StoredForm::kRotated2},
                                    {4U, StoredForm::kRotated4},
                                    {8U, StoredForm::kProgressive8}}) {
    spec.policy.floor_bits_per_value = floor;
    EXPECT_OK(ValidateSpace(spec)) << floor;
    EXPECT_EQ(FormAt(spec.policy, Level::kL1), StoredForm::kLossless);
    for (const Level level : {Level::kL2, Level::kL3, Level::kDisk}) {
      EXPECT_EQ(FormAt(spec.policy, level), form) << floor;
    }
  }
}

TEST(SpaceTest, LevelsOfDifferentBitsKeepTheFormThatIsCut) {
  SpaceSpec spec = Hybrid();
  const auto forms = [&](uint32_t floor, const LevelBits& levels) {
    spec.policy.floor_bits_per_value = floor;
    spec.policy.level_bits = levels;
    EXPECT_OK(ValidateSpace(spec));
    EXPECT_EQ(FormAt(spec.policy, Level::kL1), StoredForm::kLossless);
    return std::array{FormAt(spec.policy, Level::kL2), FormAt(spec.policy, Level::kL3),
                      FormAt(spec.policy, Level::kDisk)};
  };
  using Forms = std::array<StoredForm, 3>;
  EXPECT_EQ(
      forms(3, {.l2 = 8, .l3 = 5}),
      (Forms{StoredForm::kProgressive8, StoredForm::kProgressive5, StoredForm::kProgressive3}));
  EXPECT_EQ(forms(4, {.l2 = 0}),
            (Forms{StoredForm::kLossless, StoredForm::kRotated4, StoredForm::kRotated4}));
  EXPECT_EQ(forms(4, {.l2 = 4, .l3 = 4, .archive = 4}),
            (Forms{StoredForm::kRotated4, StoredForm::kRotated4, StoredForm::kRotated4}));
  EXPECT_EQ(forms(2, {.l2 = 0, .l3 = 0}),
            (Forms{StoredForm::kLossless, StoredForm::kLossless, StoredForm::kRotated2}));
  // What is cut, and where.
  forms(3, {.l2 = 8, .l3 = 5});
  const auto eight = static_cast<uint8_t>(StoredForm::kProgressive8);
  EXPECT_FALSE(MayBeCut(eight, spec.policy, Level::kL1));
  EXPECT_FALSE(MayBeCut(eight, spec.policy, Level::kL2));
  EXPECT_TRUE(MayBeCut(eight, spec.policy, Level::kL3));
  EXPECT_TRUE(MayBeCut(eight, spec.policy, Level::kDisk));
  EXPECT_FALSE(MayBeCut(static_cast<uint8_t>(StoredForm::kProgressive3), spec.policy, Level::kL3));
  EXPECT_FALSE(MayBeCut(static_cast<uint8_t>(StoredForm::kRotated5), spec.policy, Level::kDisk));
  EXPECT_FALSE(MayBeCut(static_cast<uint8_t>(StoredForm::kRaw), spec.policy, Level::kDisk));
}

TEST(SpaceTest, ARecordKeepsLevels) {
  Space space{.scope = {1, 2}, .spec = Hybrid()};
  space.spec.policy.floor_bits_per_value = 3;
  space.spec.policy.level_bits = {.l2 = 0, .archive = 3};
  ASSERT_OK_AND_ASSIGN(const Space back, DecodeSpace(AsBytes(EncodeSpace(space))));
  EXPECT_EQ(back.spec, space.spec);
  SpaceSpec other = space.spec;
  other.policy.level_bits.l3 = 5;
  EXPECT_NE(FirstDifference(space.spec, other), "");
  EXPECT_NE(FirstDifference(other, space.spec), "");
}

TEST(SpaceTest, OpaqueSpaceNeedsNoFingerprint) {
  const SpaceSpec spec{.name = "any",
                       .tokens_per_block = 1,
                       .groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}}};
  ASSERT_OK(ValidateSpace(spec));
  ASSERT_OK_AND_ASSIGN(const PartGeometry geometry, GeometryOf(spec, {}));
  EXPECT_EQ(geometry.bytes, 0u);
}

TEST(SpaceTest, FirstDifferenceNamesTheFieldAndBothValues) {
  SpaceSpec other = Hybrid();
  EXPECT_EQ(FirstDifference(Hybrid(), other), "");
  other.groups[1].window_tokens = 1024;
  EXPECT_EQ(FirstDifference(Hybrid(), other), "groups[1].window_tokens is 512, not 1024");
  other = Hybrid();
  other.fingerprint.adapter = "lora";
  EXPECT_EQ(FirstDifference(Hybrid(), other), "fingerprint.adapter is \"\", not \"lora\"");
  other = Hybrid();
  other.groups[0].rope = RopeFacts{.theta = 10000, .rotary_dimensions = 64};
  EXPECT_THAT(FirstDifference(Hybrid(), other), HasSubstr("groups[0].rope is absent, not"));
}

TEST(SpaceTest, RecordComesBackAsItWas) {
  Space space{.scope = {3, ~uint64_t{0}}, .created = {12345}, .spec = Hybrid()};
  space.spec.groups[0].rope = RopeFacts{.theta = 1e6,
                                        .rotary_dimensions = 64,
                                        .pairing = RopePairing::kHalf,
                                        .scaling_kind = "yarn",
                                        .scaling_factor = 4};
  ASSERT_OK_AND_ASSIGN(const Space back, DecodeSpace(AsBytes(EncodeSpace(space))));
  EXPECT_EQ(back.spec, space.spec);
  EXPECT_EQ(back.scope, space.scope);
  EXPECT_EQ(back.created, space.created);
}

TEST(SpaceTest, EveryFlippedBitOfARecordIsDataLoss) {
  const std::string record = EncodeSpace({.scope = {1, 2}, .spec = Llama()});
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    std::string damaged = record;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THAT(DecodeSpace(AsBytes(damaged)), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(SpaceTest, RecordOfAnotherVersionIsDataLossNotAGuess) {
  std::string record = EncodeSpace({.scope = {1, 2}, .spec = Llama()});
  std::string body = record.substr(8);
  body.replace(body.find("\"version\":1"), 11, "\"version\":2");
  std::string other;
  AppendLittle<uint64_t>(other, Checksum64(AsBytes(body)));
  EXPECT_THAT(DecodeSpace(AsBytes(other + body)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("version 2")));
}

}  // namespace
}  // namespace mnemo

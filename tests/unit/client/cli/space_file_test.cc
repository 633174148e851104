#include "client/cli/space_file.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kEverything[] = R"(
name: llama
tokens_per_block: 256
salt_required: true
chain_affinity: true
fingerprint:
  weights_digest: "sha256:12"
  quantization: Q4_1
  adapter: lora
  rope_override: none
  kv_cache_dtype: f16
  state_format: "vllm/3"
groups:
  - name: full
    kind: full
    layers: 32
    kv_heads: 8
    k_dimension: 128
    v_dimension: 64
    dtype: bf16
    layout: kv_major
    tensor_parallel_size: 2
    pipeline_layers: [16, 16]
    rope: {theta: 10000.5, rotary_dimensions: 64, pairing: interleaved, scaling_kind: yarn,
           scaling_factor: 4}
    scales: {bytes_per_run: 8, description: per head}
  - {name: win, kind: window, layers: 2, kv_heads: 1, k_dimension: 8, v_dimension: 8, dtype: f16,
     layout: token_major, window_tokens: 512, optional: true}
  - {name: ssm, kind: state, layers: 1, fixed_bytes: 4096}
policy:
  durability: interval
  time_to_live_seconds: 60
  floor: {bits_per_value: 4}
  levels: {l2: {bits_per_value: 0}, archive: {bits_per_value: 5}}
)";

TEST(SpaceFileTest, EveryFieldArrives) {
  ASSERT_OK_AND_ASSIGN(const client::Space space, ParseSpaceText(kEverything));
  EXPECT_EQ(space.name, "llama");
  EXPECT_EQ(space.tokens_per_block, 256u);
  EXPECT_TRUE(space.salt_required);
  EXPECT_TRUE(space.chain_affinity);
  EXPECT_EQ(space.fingerprint,
            (client::Fingerprint{"sha256:12", "Q4_1", "lora", "none", "f16", "vllm/3"}));
  ASSERT_EQ(space.groups.size(), 3u);
  const client::Group full{
      .name = "full",
      .kind = client::GroupKind::kFull,
      .layers = 32,
      .kv_heads = 8,
      .k_dimension = 128,
      .v_dimension = 64,
      .dtype = client::DType::kBf16,
      .layout = client::Layout::kKvMajor,
      .tensor_parallel_size = 2,
      .pipeline_layers = {16, 16},
      .scales = client::Scales{8, "per head"},
      .rope = client::Rope{10000.5, 64, client::RopePairing::kInterleaved, "yarn", 4}};
  EXPECT_EQ(space.groups[0], full);
  EXPECT_EQ(space.groups[1].window_tokens, 512u);
  EXPECT_EQ(space.groups[1].layout, client::Layout::kTokenMajor);
  EXPECT_TRUE(space.groups[1].optional);
  EXPECT_EQ(space.groups[2].kind, client::GroupKind::kState);
  EXPECT_EQ(space.groups[2].fixed_bytes, 4096u);
  EXPECT_EQ(space.policy, (client::SpacePolicy{client::Durability::kInterval, 60, 4,
                                               client::LevelBits{.l2 = 0, .archive = 5}}));
}

TEST(SpaceFileTest, WhatIsShownCanBeReadBack) {
  ASSERT_OK_AND_ASSIGN(client::Space space, ParseSpaceText(kEverything));
  space.id = 7;
  space.created_unix_us = 1;
  space.part_bytes = {1, 2, 3};
  const auto shown = ToJson({.space = space, .usage = {.parts = 4, .level_bytes = {1, 2, 3, 4}}});
  EXPECT_EQ(shown["id"], "0000000000000007");
  EXPECT_EQ(shown["groups"][1]["part_bytes"], 2);
  EXPECT_EQ(shown["usage"]["parts"], 4);
  EXPECT_TRUE(shown["usage"]["reencoding"].is_null());
  ASSERT_OK_AND_ASSIGN(const client::Space back, ParseSpaceText(shown.dump()));
  EXPECT_EQ(back.id, 0u) << "ids are the daemon's to give";
  EXPECT_EQ(back.name, space.name);
  EXPECT_EQ(back.fingerprint, space.fingerprint);
  EXPECT_EQ(back.tokens_per_block, space.tokens_per_block);
  EXPECT_EQ(back.groups, space.groups);
  EXPECT_EQ(back.salt_required, space.salt_required);
  EXPECT_EQ(back.chain_affinity, space.chain_affinity);
  EXPECT_EQ(back.policy, space.policy);
}

TEST(SpaceFileTest, ShowsHowFarEncodingIs) {
  const auto shown =
      ToJson({.space = {.name = "a"},
              .usage = {.reencoding = client::Reencoding{.looked_at = 3, .parts = 9}}});
  EXPECT_EQ(shown["usage"]["reencoding"]["looked_at"], 3);
  EXPECT_EQ(shown["usage"]["reencoding"]["parts"], 9);
}

TEST(SpaceFileTest, EveryEnumerationGoesBothWays) {
  for (int kind = 1; kind <= 5; ++kind) {
    EXPECT_NE(KindName(static_cast<client::GroupKind>(kind)), "") << kind;
  }
  for (int dtype = 1; dtype <= 7; ++dtype) {
    client::Space space{.groups = {{.dtype = static_cast<client::DType>(dtype)}}};
    ASSERT_OK_AND_ASSIGN(const client::Space back, ParseSpaceText(ToJson({.space = space}).dump()));
    EXPECT_EQ(back.groups, space.groups) << dtype;
  }
  for (int durability = 1; durability <= 3; ++durability) {
    EXPECT_NE(DurabilityName(static_cast<client::Durability>(durability)), "") << durability;
  }
  EXPECT_EQ(DurabilityName(client::Durability::kDefault), "");
}

struct Broken {
  std::string text;
  std::string field;
  std::string why;
};

class BrokenSpaceFileTest : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenSpaceFileTest, NamesTheField) {
  EXPECT_THAT(ParseSpaceText(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(GetParam().field), HasSubstr(GetParam().why))));
}

INSTANTIATE_TEST_SUITE_P(
    Texts, BrokenSpaceFileTest,
    ::testing::Values(
        Broken{"", "the file", "not a map"}, Broken{"[1]", "the file", "not a map"},
        Broken{"a: [", "not YAML or JSON", ""},
        Broken{"tokens: 1", "tokens", "not a field of a space"},
        Broken{"tokens_per_block: many", "tokens_per_block", "wrong type"},
        Broken{"tokens_per_block: -1", "tokens_per_block", "wrong type"},
        Broken{"tokens_per_block: 4294967296", "tokens_per_block", "wrong type"},
        Broken{"salt_required: perhaps", "salt_required", "wrong type"},
        Broken{"groups: {}", "groups", "not a list"},
        Broken{"groups: [7]", "groups[0]", "not a map"},
        Broken{"groups: [{name: a}, {heads: 3}]", "groups[1].heads", "not a field"},
        Broken{"groups: [{kind: wide}]", "groups[0].kind", "one of full, latent"},
        Broken{"groups: [{pipeline_layers: 3}]", "groups[0].pipeline_layers", "wrong type"},
        Broken{"groups: [{rope: 1}]", "groups[0].rope", "not a map"},
        Broken{"groups: [{rope: {theta: x}}]", "groups[0].rope.theta", "wrong type"},
        Broken{"groups: [{scales: {bytes: 1}}]", "groups[0].scales.bytes", "not a field"},
        Broken{"fingerprint: x", "fingerprint", "not a map"},
        Broken{"fingerprint: {weights: x}", "fingerprint.weights", "not a field"},
        Broken{"policy: {durability: SYNC}", "policy.durability", "one of cache, interval, sync"},
        Broken{"policy: {ttl: 1}", "policy.ttl", "not a field"},
        Broken{"policy: {levels: {l4: {bits_per_value: 1}}}", "policy.levels.l4", "not a field"},
        Broken{"policy: {levels: {l2: {bits: 1}}}", "policy.levels.l2.bits", "not a field"},
        Broken{"policy: {levels: {l2: {bits_per_value: x}}}", "policy.levels.l2.bits_per_value",
               "wrong type"},
        Broken{"policy: {floor: {bits: 1}}", "policy.floor.bits", "not a field"}));

TEST(SpaceFileTest, FileThatCannotBeReadIsNamed) {
  const TempDir folder;
  EXPECT_THAT(ReadSpaceFile(folder / "none.yaml"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.yaml")));
  std::ofstream(folder / "space.yaml") << "tokens_per_block: 16\n";
  ASSERT_OK_AND_ASSIGN(const client::Space space, ReadSpaceFile(folder / "space.yaml"));
  EXPECT_EQ(space.tokens_per_block, 16u);
  std::ofstream(folder / "big.yaml") << std::string((1 << 20) + 1, ' ');
  EXPECT_FALSE(ReadSpaceFile(folder / "big.yaml").ok());
}

}  // namespace
}  // namespace mnemo::cli

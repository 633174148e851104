#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SpaceRpcTest : public RpcTest {
 protected:
  grpc::Status TryOpen(const v1::Space& space, bool must_exist = false) {
    grpc::ClientContext context;
    v1::OpenSpaceRequest request;
    *request.mutable_space() = space;
    request.set_must_exist(must_exist);
    return spaces_->Open(&context, request, &opened_);
  }
  v1::GetSpaceResponse Show(const std::string& name) {
    grpc::ClientContext context;
    v1::GetSpaceRequest request;
    *request.mutable_space() = Ref(name);
    v1::GetSpaceResponse response;
    EXPECT_THAT(spaces_->Get(&context, request, &response), GrpcOk());
    return response;
  }
  void Update(const std::string& name, const v1::SpacePolicy& policy) {
    grpc::ClientContext context;
    v1::UpdateSpaceRequest request;
    *request.mutable_space() = Ref(name);
    *request.mutable_policy() = policy;
    v1::UpdateSpaceResponse response;
    ASSERT_THAT(spaces_->Update(&context, request, &response), GrpcOk());
  }
  v1::OpenSpaceResponse opened_;
};

TEST_F(SpaceRpcTest, OpensOnceAndFindsItAgain) {
  ASSERT_THAT(TryOpen(KvSpace()), GrpcOk());
  EXPECT_TRUE(opened_.created());
  EXPECT_NE(opened_.space().id(), 0u);
  EXPECT_EQ(opened_.space().part_bytes(0), kPartBytes);
  const uint64_t id = opened_.space().id();
  ASSERT_THAT(TryOpen(KvSpace()), GrpcOk());
  EXPECT_FALSE(opened_.created());
  EXPECT_EQ(opened_.space().id(), id);
}

TEST_F(SpaceRpcTest, ADifferenceNamesTheFieldAndBothValues) {
  ASSERT_THAT(TryOpen(KvSpace()), GrpcOk());
  v1::Space other = KvSpace();
  other.mutable_groups(1)->set_window_tokens(64);
  EXPECT_THAT(TryOpen(other),
              GrpcIs(grpc::StatusCode::FAILED_PRECONDITION,
                     AllOf(HasSubstr("window_tokens"), HasSubstr("32"), HasSubstr("64"))));
}

TEST_F(SpaceRpcTest, MustExistDoesNotCreate) {
  EXPECT_THAT(TryOpen(KvSpace(), true), GrpcIs(grpc::StatusCode::NOT_FOUND, testing::_));
  grpc::ClientContext context;
  v1::ListSpacesResponse listed;
  ASSERT_THAT(spaces_->List(&context, {}, &listed), GrpcOk());
  EXPECT_EQ(listed.spaces_size(), 0);
}

TEST_F(SpaceRpcTest, EveryFieldComesBackAsItWasGiven) {
  v1::Space space = KvSpace();
  space.mutable_fingerprint()->set_quantization("Q4_1");
  space.mutable_fingerprint()->set_adapter("lora");
  space.mutable_fingerprint()->set_rope_override("yarn");
  space.mutable_fingerprint()->set_kv_cache_dtype("f16");
  space.mutable_fingerprint()->set_state_format("engine 1");
  space.set_salt_required(true);
  space.set_chain_affinity(true);
  space.mutable_policy()->set_durability(v1::DURABILITY_SYNC);
  space.mutable_policy()->set_time_to_live_seconds(60);
  v1::Group* group = space.mutable_groups(0);
  group->set_layout(v1::LAYOUT_KV_MAJOR);
  group->set_tensor_parallel_size(2);
  group->add_pipeline_layers(1);
  group->add_pipeline_layers(3);
  group->mutable_scales()->set_bytes_per_run(8);
  group->mutable_scales()->set_description("per head");
  group->mutable_rope()->set_theta(10000);
  group->mutable_rope()->set_rotary_dimensions(64);
  group->mutable_rope()->set_pairing(v1::ROPE_PAIRING_INTERLEAVED);
  group->mutable_rope()->set_scaling_kind("linear");
  group->mutable_rope()->set_scaling_factor(2);
  ASSERT_THAT(TryOpen(space), GrpcOk());
  v1::Space answered = opened_.space();
  EXPECT_NE(answered.created_unix_us(), 0);
  answered.clear_id();
  answered.clear_created_unix_us();
  answered.clear_part_bytes();
  // Defaults are answered as what they mean.
  space.mutable_policy()->mutable_floor();
  space.mutable_policy()->mutable_levels();
  space.mutable_groups(1)->set_layout(v1::LAYOUT_LAYER_MAJOR);
  space.mutable_groups(1)->set_tensor_parallel_size(1);
  EXPECT_EQ(answered.DebugString(), space.DebugString());
}

TEST_F(SpaceRpcTest, AnUnknownEnumerationValueIsNamedWithItsRange) {
  const auto refused = [&](const auto& change, const std::string& field) {
    v1::Space space = KvSpace();
    change(space);
    EXPECT_THAT(TryOpen(space), GrpcIs(grpc::StatusCode::INVALID_ARGUMENT,
                                       AllOf(HasSubstr(field), HasSubstr("must be"))))
        << field;
  };
  refused([](v1::Space& s) { s.mutable_groups(1)->set_kind(static_cast<v1::GroupKind>(9)); },
          "groups[1].kind is 9");
  refused([](v1::Space& s) { s.mutable_groups(0)->set_dtype(static_cast<v1::DType>(8)); },
          "groups[0].dtype is 8");
  refused([](v1::Space& s) { s.mutable_groups(0)->set_layout(static_cast<v1::Layout>(-1)); },
          "groups[0].layout is -1");
  refused(
      [](v1::Space& s) {
        s.mutable_groups(0)->mutable_rope()->set_pairing(static_cast<v1::RopePairing>(3));
      },
      "groups[0].rope.pairing is 3");
  refused([](v1::Space& s) { s.mutable_policy()->set_durability(static_cast<v1::Durability>(4)); },
          "policy.durability is 4");
}

TEST_F(SpaceRpcTest, ListsPageByPage) {
  for (const char* name : {"c", "a", "b"}) Open(OpaqueSpace(name));
  std::vector<std::string> names;
  v1::ListSpacesRequest request;
  request.set_page_size(2);
  do {
    grpc::ClientContext context;
    v1::ListSpacesResponse page;
    ASSERT_THAT(spaces_->List(&context, request, &page), GrpcOk());
    EXPECT_LE(page.spaces_size(), 2);
    for (const auto& listed : page.spaces()) names.push_back(listed.space().name());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "c"}));
  grpc::ClientContext context;
  v1::ListSpacesResponse page;
  request.set_page_size(1001);
  EXPECT_THAT(spaces_->List(&context, request, &page),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("page_size is 1001")));
}

TEST_F(SpaceRpcTest, AnUpdateWithoutAFloorLeavesIt) {
  v1::Space space = KvSpace();
  space.mutable_policy()->mutable_floor()->set_bits_per_value(4);
  Open(space);
  v1::SpacePolicy policy;
  policy.set_time_to_live_seconds(60);
  Update("kv", policy);
  EXPECT_EQ(Show("kv").space().policy().floor().bits_per_value(), 4u);
  EXPECT_EQ(Show("kv").space().policy().time_to_live_seconds(), 60u);
  policy.mutable_floor();
  Update("kv", policy);
  EXPECT_EQ(Show("kv").space().policy().floor().bits_per_value(), 0u);
}

TEST_F(SpaceRpcTest, LevelsAreShownAndLeftByAnUpdateWithoutThem) {
  v1::Space space = KvSpace();
  space.mutable_policy()->mutable_floor()->set_bits_per_value(4);
  space.mutable_policy()->mutable_levels()->mutable_l2()->set_bits_per_value(0);
  space.mutable_policy()->mutable_levels()->mutable_l3()->set_bits_per_value(8);
  Open(space);
  v1::SpacePolicy policy;
  policy.set_time_to_live_seconds(60);
  Update("kv", policy);
  const v1::LevelFidelity levels = Show("kv").space().policy().levels();
  EXPECT_TRUE(levels.has_l2());
  EXPECT_EQ(levels.l2().bits_per_value(), 0u);
  EXPECT_EQ(levels.l3().bits_per_value(), 8u);
  EXPECT_FALSE(levels.has_archive());
  policy.mutable_levels()->mutable_l2()->set_bits_per_value(5);
  Update("kv", policy);
  EXPECT_EQ(Show("kv").space().policy().levels().l2().bits_per_value(), 5u);
  EXPECT_FALSE(Show("kv").space().policy().levels().has_l3());
}

TEST_F(SpaceRpcTest, CalibrationsThatASpaceDoesNotHaveAreNotFound) {
  Open(KvSpace());
  grpc::ClientContext context;
  v1::GetCalibrationRequest request;
  *request.mutable_space() = Ref("kv");
  request.set_id(1);
  v1::GetCalibrationResponse response;
  EXPECT_THAT(spaces_->GetCalibration(&context, request, &response),
              GrpcIs(grpc::StatusCode::NOT_FOUND, HasSubstr("00000001")));
}

TEST_F(SpaceRpcTest, GetSaysHowFarItsPartsHaveBeenLookedThrough) {
  Open(KvSpace());
  ASSERT_THAT(Put("kv", {{.key = "k", .bytes = Bytes(1, kPartBytes)}}).status, GrpcOk());
  EXPECT_FALSE(Show("kv").usage().has_reencoding());
  v1::SpacePolicy policy;
  policy.mutable_floor()->set_bits_per_value(4);
  Update("kv", policy);
  ASSERT_TRUE(Show("kv").usage().has_reencoding());
  EXPECT_EQ(Show("kv").usage().reencoding().looked_at(), 0u);
  EXPECT_EQ(Show("kv").usage().reencoding().parts(), 1u);
  while (node_.store().MoveStep()) {
  }
  EXPECT_FALSE(Show("kv").usage().has_reencoding());
}

TEST_F(SpaceRpcTest, GetCountsWhatIsKept) {
  Open(OpaqueSpace());
  PutOpaque("k", Bytes(1, 5000));
  const v1::GetSpaceResponse response = Show("opaque");
  EXPECT_EQ(response.usage().parts(), 1u);
  EXPECT_EQ(response.usage().bytes(), 5000u);
  EXPECT_EQ(response.usage().tokens(), 16u);
}

TEST_F(SpaceRpcTest, UpdateChangesThePolicyAlone) {
  const v1::Space opened = Open(KvSpace());
  grpc::ClientContext context;
  v1::UpdateSpaceRequest request;
  request.mutable_space()->set_id(opened.id());
  request.mutable_policy()->set_time_to_live_seconds(7);
  v1::UpdateSpaceResponse response;
  ASSERT_THAT(spaces_->Update(&context, request, &response), GrpcOk());
  EXPECT_EQ(response.space().policy().time_to_live_seconds(), 7u);
  EXPECT_EQ(response.space().groups_size(), 2);
}

TEST_F(SpaceRpcTest, DeleteTakesTheBlocksAlongAndMayBeRepeated) {
  Open(OpaqueSpace());
  PutOpaque("k", Bytes(1, 100));
  for (const uint64_t expected : {1u, 0u}) {
    grpc::ClientContext context;
    v1::DeleteSpaceRequest request;
    *request.mutable_space() = Ref("opaque");
    v1::DeleteSpaceResponse response;
    ASSERT_THAT(spaces_->Delete(&context, request, &response), GrpcOk());
    EXPECT_EQ(response.parts_deleted(), expected);
  }
  EXPECT_THAT(Get(GetOf("opaque", {"k"})).status, GrpcIs(grpc::StatusCode::NOT_FOUND, testing::_));
}

TEST_F(SpaceRpcTest, ASpaceHasToBeNamed) {
  grpc::ClientContext context;
  v1::GetSpaceResponse response;
  EXPECT_THAT(spaces_->Get(&context, {}, &response),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("space is absent")));
}

TEST_F(RpcTest, AdminTellsOfTheNodeItsLevelsTiersAndSettings) {
  grpc::ClientContext status_context;
  v1::GetNodeStatusResponse status;
  ASSERT_THAT(admin_->GetNodeStatus(&status_context, {}, &status), GrpcOk());
  EXPECT_EQ(status.node_id(), "node-1");
  EXPECT_EQ(status.problems(0), "none");
  EXPECT_EQ(status.contexts_waiting(), 1u);
  EXPECT_EQ(status.context_l3_bytes(), 3u);
  EXPECT_EQ(status.context_archive_bytes(), 5u);
  EXPECT_EQ(status.context_l3_capacity_bytes(), 6u);

  grpc::ClientContext levels_context;
  v1::ListLevelsResponse levels;
  ASSERT_THAT(admin_->ListLevels(&levels_context, {}, &levels), GrpcOk());
  ASSERT_EQ(levels.levels_size(), 4);
  EXPECT_EQ(levels.levels(0).label(), "l1_ram");
  EXPECT_EQ(levels.levels(0).p99_objective_us(), 100);

  grpc::ClientContext tiers_context;
  v1::ListTiersResponse tiers;
  ASSERT_THAT(admin_->ListTiers(&tiers_context, {}, &tiers), GrpcOk());
  EXPECT_EQ(tiers.tiers_size(), 12);

  grpc::ClientContext config_context;
  v1::GetConfigResponse config;
  ASSERT_THAT(admin_->GetConfig(&config_context, {}, &config), GrpcOk());
  EXPECT_EQ(config.entries(0).origin(), "flag");
}

TEST_F(RpcTest, ExplainsWhereABlockLiesAndWhy) {
  Open(OpaqueSpace());
  PutOpaque("k", Bytes(1, 4096));
  grpc::ClientContext context;
  v1::ExplainPlacementRequest request;
  *request.mutable_space() = Ref("opaque");
  request.set_key("k");
  v1::ExplainPlacementResponse response;
  ASSERT_THAT(admin_->ExplainPlacement(&context, request, &response), GrpcOk());
  ASSERT_EQ(response.parts_size(), 1);
  EXPECT_EQ(response.parts(0).tier(), "FOREGROUND");
  EXPECT_EQ(response.parts(0).part().level(), v1::LEVEL_L1);
  EXPECT_THAT(response.parts(0).explanation(), HasSubstr(response.parts(0).rule()));
  grpc::ClientContext missing;
  request.set_key("other");
  EXPECT_THAT(admin_->ExplainPlacement(&missing, request, &response),
              GrpcIs(grpc::StatusCode::NOT_FOUND, testing::_));
}

}  // namespace
}  // namespace mnemo

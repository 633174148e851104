// AuthService over real sockets.
#include <gmock/gmock.h>

#include "mnemo/v1/auth.grpc.pb.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class AuthRpcTest : public RpcTest {
 protected:
  AuthRpcTest() : RpcTest({}, SmallStore(""), {.required = true}) {
    const auto ops = node_.identity().CreateToken(kLocalTenant, "ops", {Role::kOperator});
    EXPECT_OK(ops);
    ops_ = ops->text;
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (v1::AuthService::Stub::*)(grpc::ClientContext*, const Request&,
                                                         Response*);
  template <typename Request, typename Response>
  grpc::Status Ask(const std::string& token, Method<Request, Response> method,
                   const Request& request, Response* response) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token);
    return (auth_.get()->*method)(&context, request, response);
  }
  v1::CreateTokenResponse Create(const std::string& tenant, const std::string& principal,
                                 std::vector<v1::Role> roles) {
    v1::CreateTokenRequest request;
    request.set_tenant(tenant);
    request.set_principal(principal);
    for (const v1::Role role : roles) request.add_roles(role);
    v1::CreateTokenResponse response;
    EXPECT_THAT(Ask(ops_, &v1::AuthService::Stub::CreateToken, request, &response), GrpcOk());
    return response;
  }
  grpc::Status Revoke(const std::string& tenant, const std::string& principal,
                      const std::string& id) {
    v1::RevokeTokenRequest request;
    request.set_tenant(tenant);
    request.set_principal(principal);
    request.set_token_id(id);
    v1::RevokeTokenResponse response;
    return Ask(ops_, &v1::AuthService::Stub::RevokeToken, request, &response);
  }
  void NewTenant(const std::string& name) {
    v1::CreateTenantRequest request;
    request.set_name(name);
    v1::CreateTenantResponse response;
    EXPECT_THAT(Ask(ops_, &v1::AuthService::Stub::CreateTenant, request, &response), GrpcOk());
    EXPECT_EQ(response.tenant().name(), name);
    EXPECT_GT(response.tenant().id(), uint64_t{1} << 32);
  }
  grpc::Status List(const std::string& token) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token);
    v1::ListSpacesResponse response;
    return spaces_->List(&context, {}, &response);
  }

  std::unique_ptr<v1::AuthService::Stub> auth_ = v1::AuthService::NewStub(channel_);
  std::string ops_;
};

TEST_F(AuthRpcTest, ATokenLivesFromItsCreationThroughRotationToItsEnd) {
  NewTenant("acme");
  const v1::CreateTokenResponse first = Create("acme", "engine", {v1::ROLE_READER});
  EXPECT_THAT(first.token(), HasSubstr(first.info().id()));
  EXPECT_EQ(first.info().expires_unix_us(), 0);
  EXPECT_EQ(first.info().created_unix_us(), node_.clock().Wall().nanos / 1000);
  EXPECT_THAT(List(first.token()), GrpcOk());

  v1::RotateTokenRequest rotation;
  rotation.set_tenant("acme");
  rotation.set_principal("engine");
  rotation.set_lifetime_seconds(60);
  v1::RotateTokenResponse second;
  ASSERT_THAT(Ask(ops_, &v1::AuthService::Stub::RotateToken, rotation, &second), GrpcOk());
  EXPECT_EQ(second.info().expires_unix_us() - second.info().created_unix_us(), 60'000'000);
  EXPECT_THAT(List(first.token()), GrpcOk());
  EXPECT_THAT(List(second.token()), GrpcOk());

  EXPECT_THAT(Revoke("acme", "engine", first.info().id()), GrpcOk());
  EXPECT_EQ(List(first.token()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(List(second.token()), GrpcOk());
  EXPECT_THAT(Revoke("acme", "engine", ""), GrpcOk());
  EXPECT_EQ(List(second.token()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Revoke("acme", "engine", "").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(node_.observer().changes(),
              ElementsAre("tenant-created acme/ by ops", "token-created acme/engine by ops",
                          "token-rotated acme/engine by ops", "token-revoked acme/engine by ops",
                          "token-revoked acme/engine by ops"));
}

TEST_F(AuthRpcTest, ListsNeverHoldATokenOrItsHash) {
  NewTenant("acme");
  const v1::CreateTokenResponse made =
      Create("acme", "engine", {v1::ROLE_METRICS, v1::ROLE_READER, v1::ROLE_READER});
  ASSERT_OK(node_.identity().ApplyFile(
      {{"acme", {.name = "filed", .roles = {Role::kWriter}, .certificates = {"cn:filed"}}}}));
  v1::ListPrincipalsRequest request;
  request.set_tenant("acme");
  v1::ListPrincipalsResponse listed;
  ASSERT_THAT(Ask(ops_, &v1::AuthService::Stub::ListPrincipals, request, &listed), GrpcOk());
  ASSERT_EQ(listed.principals_size(), 2);
  const v1::Principal& engine = listed.principals(0);
  EXPECT_EQ(engine.name(), "engine");
  EXPECT_THAT(engine.roles(), ElementsAre(v1::ROLE_READER, v1::ROLE_METRICS));
  ASSERT_EQ(engine.tokens_size(), 1);
  EXPECT_EQ(engine.tokens(0).id(), made.info().id());
  EXPECT_TRUE(listed.principals(1).from_file());
  EXPECT_THAT(listed.principals(1).certificates(), ElementsAre("cn:filed"));
  const std::string secret = made.token().substr(made.token().rfind('_') + 1);
  EXPECT_THAT(listed.SerializeAsString(), Not(HasSubstr(secret)));

  v1::ListTenantsResponse tenants;
  ASSERT_THAT(Ask(ops_, &v1::AuthService::Stub::ListTenants, {}, &tenants), GrpcOk());
  ASSERT_EQ(tenants.tenants_size(), 2);
  EXPECT_EQ(tenants.tenants(0).name(), "local");
  EXPECT_EQ(tenants.tenants(0).id(), kLocalTenant);
  EXPECT_EQ(tenants.tenants(1).name(), "acme");
}

TEST_F(AuthRpcTest, EveryRoleOfTheContractIsOurs) {
  for (size_t i = 0; i < kRoleCount; ++i) {
    const std::string name = "p" + std::to_string(i);
    Create("", name, {static_cast<v1::Role>(i + 1)});
    const auto principal = node_.identity().PrincipalOf(kLocalTenant, name);
    ASSERT_OK(principal);
    std::string expected = "ROLE_";
    for (const char c : RoleName(static_cast<Role>(i))) {
      expected += c == '-' ? '_' : static_cast<char>(toupper(c));
    }
    EXPECT_EQ(v1::Role_Name(static_cast<v1::Role>(i + 1)), expected);
    EXPECT_EQ(principal->roles, RoleSet{static_cast<Role>(i)});
  }
  EXPECT_EQ(static_cast<size_t>(v1::Role_MAX), kRoleCount);
}

TEST_F(AuthRpcTest, BadFieldsAreNamed) {
  v1::CreateTokenRequest request;
  v1::CreateTokenResponse response;
  const auto refused = [&](const std::string& message) {
    EXPECT_THAT(Ask(ops_, &v1::AuthService::Stub::CreateToken, request, &response),
                GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr(message)));
  };
  request.set_principal("p");
  refused("roles is empty");
  request.add_roles(v1::ROLE_UNSPECIFIED);
  refused("roles has 0");
  request.set_roles(0, static_cast<v1::Role>(6));
  refused("roles has 6");
  request.set_roles(0, v1::ROLE_READER);
  request.set_principal("Capital");
  refused("principal is");
  request.set_principal("p");
  for (const uint64_t seconds : {uint64_t{315'360'001}, UINT64_MAX}) {
    request.set_lifetime_seconds(seconds);
    refused("lifetime_seconds is");
  }
  for (const char* id : {"0", "0000000000000000", "0123456789ABCDEF", "0123456789abcdef0"}) {
    EXPECT_THAT(Revoke("", "ops", id),
                GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, HasSubstr("token_id")))
        << id;
  }
  EXPECT_THAT(List(ops_), GrpcIs(grpc::StatusCode::PERMISSION_DENIED, HasSubstr("ops")))
      << "a malformed id must not end all tokens";
}

TEST_F(AuthRpcTest, ATenantAdminDoesItForItsOwnTenantOnly) {
  NewTenant("acme");
  NewTenant("globex");
  const std::string boss = Create("acme", "boss", {v1::ROLE_TENANT_ADMIN}).token();
  v1::CreateTokenRequest request;
  request.set_principal("engine");
  request.add_roles(v1::ROLE_WRITER);
  v1::CreateTokenResponse response;
  ASSERT_THAT(Ask(boss, &v1::AuthService::Stub::CreateToken, request, &response), GrpcOk());
  EXPECT_OK(node_.identity().PrincipalOf(node_.identity().TenantByName("acme")->id, "engine"));
  request.set_tenant("globex");
  EXPECT_EQ(Ask(boss, &v1::AuthService::Stub::CreateToken, request, &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  request.set_tenant("acme");
  request.set_principal("up");
  request.add_roles(v1::ROLE_OPERATOR);
  EXPECT_EQ(Ask(boss, &v1::AuthService::Stub::CreateToken, request, &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace mnemo

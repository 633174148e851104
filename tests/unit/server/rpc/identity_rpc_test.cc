// Who may call what, over real sockets, with a real book of identities.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include <set>
#include <thread>

#include "mnemo/v1/context.grpc.pb.h"
#include "tests/support/fake_authenticator.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr Role kAllRoles[] = {Role::kReader, Role::kWriter, Role::kTenantAdmin, Role::kOperator,
                              Role::kMetrics};

// What each role may call: written again here, so that a rule that changes by
// mistake is seen.
const std::map<Role, std::set<std::string>>& Allowed() {
  static const auto* const allowed = [] {
    const std::set<std::string> reads = {
        "SpaceService/Get",         "SpaceService/List",           "BlockService/Match",
        "BlockService/Get",         "BlockService/Renew",          "BlockService/Describe",
        "BlockService/List",        "BlockService/Watch",          "ContextService/Read",
        "ContextService/Summarize", "ContextService/Search",       "ContextService/ListLinks",
        "ContextService/Describe",  "ContextService/List",         "AdminService/ExplainPlacement",
        "BlockService/Prefetch",    "SpaceService/GetCalibration", "StreamService/Open"};
    std::set<std::string> writes = reads;
    writes.merge(std::set<std::string>{
        "SpaceService/Open", "BlockService/Offer", "BlockService/Put", "BlockService/Delete",
        "BlockService/Touch", "BlockService/Pin", "BlockService/Unpin", "BlockService/Flush",
        "ContextService/Create", "ContextService/Append", "ContextService/Link",
        "ContextService/Seal", "ContextService/Delete"});
    std::set<std::string> administers = writes;
    administers.merge(std::set<std::string>{
        "SpaceService/Update", "SpaceService/Delete", "AuthService/CreateToken",
        "AuthService/RotateToken", "AuthService/RevokeToken", "AuthService/ListPrincipals"});
    const std::set<std::string> watches = {"AdminService/GetNodeStatus", "AdminService/ListLevels",
                                           "AdminService/ListTiers"};
    std::set<std::string> operates = watches;
    operates.merge(std::set<std::string>{"AdminService/GetConfig", "AuthService/CreateTenant",
                                         "AuthService/ListTenants", "AuthService/CreateToken",
                                         "AuthService/RotateToken", "AuthService/RevokeToken",
                                         "AuthService/ListPrincipals"});
    return new std::map<Role, std::set<std::string>>{{Role::kReader, reads},
                                                     {Role::kWriter, writes},
                                                     {Role::kTenantAdmin, administers},
                                                     {Role::kOperator, operates},
                                                     {Role::kMetrics, watches}};
  }();
  return *allowed;
}

std::string WithoutPackage(const std::string& path) { return path.substr(sizeof("mnemo.v1.") - 1); }

// A node that asks for credentials.
class IdentityRpcTest : public RpcTest {
 protected:
  explicit IdentityRpcTest(const IdentityOptions& options = {.required = true})
      : RpcTest({}, SmallStore(""), options) {}

  uint64_t NewTenant(const std::string& name) {
    const auto tenant = node_.identity().CreateTenant(name);
    EXPECT_OK(tenant);
    return tenant->id;
  }
  std::string NewToken(uint64_t tenant, const std::string& name, RoleSet roles,
                       WallTime expires = kNever) {
    const auto token = node_.identity().CreateToken(tenant, name, roles, expires);
    EXPECT_OK(token);
    return token->text;
  }
  static void Show(grpc::ClientContext& context, const std::string& token) {
    context.AddMetadata("authorization", "Bearer " + token);
  }
  grpc::Status CallAs(const std::string& token, const std::string& path) {
    grpc::ClientContext context;
    Show(context, token);
    return CallRaw(channel_, path, "", nullptr, &context);
  }
  grpc::Status OpenAs(const std::string& token, const v1::Space& space,
                      v1::Space* opened = nullptr) {
    grpc::ClientContext context;
    Show(context, token);
    v1::OpenSpaceRequest request;
    *request.mutable_space() = space;
    v1::OpenSpaceResponse response;
    const grpc::Status status = spaces_->Open(&context, request, &response);
    if (opened != nullptr) *opened = response.space();
    return status;
  }
  std::vector<std::string> ListAs(const std::string& token) {
    grpc::ClientContext context;
    Show(context, token);
    v1::ListSpacesResponse response;
    EXPECT_THAT(spaces_->List(&context, {}, &response), GrpcOk());
    std::vector<std::string> names;
    for (const auto& listed : response.spaces()) names.push_back(listed.space().name());
    return names;
  }

  std::unique_ptr<v1::ContextService::Stub> contexts_ = v1::ContextService::NewStub(channel_);
};

TEST(GateRolesTest, EveryRuleLetsInExactlyTheRolesOfTheTable) {
  for (const MethodRule& rule : AllMethodRules()) {
    EXPECT_FALSE(rule.roles.empty()) << rule.method << " lets nobody in";
    for (const Role role : kAllRoles) {
      EXPECT_EQ(rule.roles.Has(role),
                Allowed().at(role).contains(WithoutPackage(std::string(rule.method))))
          << rule.method << " for " << RoleName(role);
    }
  }
}

TEST_F(IdentityRpcTest, EveryMethodIsRefusedToEveryRoleThatTheTableLeavesOut) {
  const uint64_t tenant = NewTenant("acme");
  uint64_t denied = 0;
  for (const Role role : kAllRoles) {
    const std::string name = "p-" + std::string(RoleName(role));
    const std::string token = NewToken(tenant, name, {role});
    for (const auto* method : AllMethods()) {
      const grpc::Status status = CallAs(token, PathOf(*method));
      if (Allowed().at(role).contains(WithoutPackage(PathOf(*method)))) {
        // An empty message may be refused, but not for who sent it.
        EXPECT_NE(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << PathOf(*method);
        EXPECT_NE(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << PathOf(*method);
      } else {
        EXPECT_THAT(status, GrpcIs(grpc::StatusCode::PERMISSION_DENIED,
                                   AllOf(HasSubstr(name), HasSubstr("needs one of the roles"))))
            << PathOf(*method);
        node_.observer().AwaitFinished(PathOf(*method), absl::StatusCode::kPermissionDenied, 1);
        ++denied;
      }
    }
  }
  EXPECT_EQ(node_.observer().authenticated(AuthOutcome::kDenied), denied);
  EXPECT_EQ(node_.observer().authenticated(AuthOutcome::kAccepted),
            std::size(kAllRoles) * AllMethods().size() - denied);
  EXPECT_EQ(node_.observer().refused().size(), denied);
  EXPECT_THAT(node_.observer().refused(),
              Contains("mnemo.v1.BlockService/Put p-reader PERMISSION_DENIED"));
}

TEST_F(IdentityRpcTest, NoMethodIsForWhoShowsNothing) {
  for (const auto* method : AllMethods()) {
    EXPECT_THAT(CallRaw(channel_, PathOf(*method), ""),
                GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("no credential")))
        << PathOf(*method);
  }
  EXPECT_EQ(node_.observer().authenticated(AuthOutcome::kUnauthenticated), AllMethods().size());
  EXPECT_THAT(node_.observer().refused(),
              Contains("mnemo.v1.ContextService/Append - UNAUTHENTICATED"));
}

// An unknown token and a revoked one look the same, and nothing of a token or of
// what the node holds comes back.
TEST_F(IdentityRpcTest, RefusalsTellNothing) {
  const uint64_t tenant = NewTenant("acme");
  const std::string path = "mnemo.v1.SpaceService/List";
  const std::string revoked = NewToken(tenant, "gone", {Role::kReader});
  ASSERT_OK(node_.identity().RevokeToken(tenant, "gone", 0));
  const grpc::Status unknown = CallAs("mnemo_0123456789abcdef_secret", path);
  EXPECT_THAT(unknown, GrpcIs(grpc::StatusCode::UNAUTHENTICATED, Not(HasSubstr("secret"))));
  EXPECT_EQ(CallAs(revoked, path).error_message(), unknown.error_message());

  const WallTime end{node_.clock().Wall().nanos + 1'000'000'000};
  const std::string brief = NewToken(tenant, "brief", {Role::kReader}, end);
  EXPECT_THAT(CallAs(brief, path), GrpcOk());
  node_.clock().Advance(std::chrono::seconds(2));
  EXPECT_THAT(CallAs(brief, path), GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("expired")));

  EXPECT_THAT(CallAs(std::string(600, 'a'), path),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("Bearer TOKEN")));
  grpc::ClientContext basic;
  basic.AddMetadata("authorization", "Basic dXNlcjpwYXNz");
  EXPECT_THAT(CallRaw(channel_, path, "", nullptr, &basic),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED,
                     AllOf(HasSubstr("Bearer TOKEN"), Not(HasSubstr("dXNl")))));
  const std::string good = NewToken(tenant, "good", {Role::kReader});
  grpc::ClientContext twice;
  Show(twice, good);
  Show(twice, good);
  EXPECT_THAT(CallRaw(channel_, path, "", nullptr, &twice),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("Bearer TOKEN")));
}

TEST_F(IdentityRpcTest, BothTokensOfARotationAreGoodAndTheThirdEndsTheFirst) {
  const uint64_t tenant = NewTenant("acme");
  const std::string path = "mnemo.v1.SpaceService/List";
  const std::string first = NewToken(tenant, "engine", {Role::kReader});
  const auto second = node_.identity().RotateToken(tenant, "engine");
  ASSERT_OK(second);
  EXPECT_THAT(CallAs(first, path), GrpcOk());
  EXPECT_THAT(CallAs(second->text, path), GrpcOk());
  const auto third = node_.identity().RotateToken(tenant, "engine");
  ASSERT_OK(third);
  EXPECT_THAT(CallAs(first, path), GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("revoked")));
  EXPECT_THAT(CallAs(second->text, path), GrpcOk());
  EXPECT_THAT(CallAs(third->text, path), GrpcOk());
}

TEST_F(IdentityRpcTest, SpacesOfAnotherTenantAreNotThere) {
  const std::string a = NewToken(NewTenant("a"), "one", {Role::kTenantAdmin});
  const std::string b = NewToken(NewTenant("b"), "one", {Role::kTenantAdmin});
  v1::Space of_a;
  ASSERT_THAT(OpenAs(a, OpaqueSpace("shared"), &of_a), GrpcOk());
  ASSERT_THAT(OpenAs(a, OpaqueSpace("only-a")), GrpcOk());
  EXPECT_THAT(ListAs(b), IsEmpty());

  // By name and by id, what is another's and what never was are refused alike.
  const auto get = [&](const std::string& token, const v1::SpaceRef& ref) {
    grpc::ClientContext context;
    Show(context, token);
    v1::GetSpaceRequest request;
    *request.mutable_space() = ref;
    v1::GetSpaceResponse response;
    return spaces_->Get(&context, request, &response);
  };
  v1::SpaceRef id;
  id.set_id(of_a.id());
  v1::SpaceRef no_id;
  no_id.set_id(of_a.id() ^ 1);
  EXPECT_THAT(get(a, id), GrpcOk());
  EXPECT_THAT(get(b, id), GrpcIs(grpc::StatusCode::NOT_FOUND, HasSubstr("")));
  EXPECT_THAT(get(b, no_id), GrpcIs(grpc::StatusCode::NOT_FOUND, HasSubstr("")));
  EXPECT_EQ(get(b, Ref("only-a")).error_code(), grpc::StatusCode::NOT_FOUND);

  // The same name is another space.
  v1::Space of_b;
  ASSERT_THAT(OpenAs(b, OpaqueSpace("shared"), &of_b), GrpcOk());
  EXPECT_NE(of_a.id(), of_b.id());
  EXPECT_THAT(ListAs(a), ElementsAre("only-a", "shared"));
  EXPECT_THAT(ListAs(b), ElementsAre("shared"));

  const auto remove = [&](const std::string& token, const v1::SpaceRef& ref) {
    grpc::ClientContext context;
    Show(context, token);
    v1::DeleteSpaceRequest request;
    *request.mutable_space() = ref;
    v1::DeleteSpaceResponse response;
    return spaces_->Delete(&context, request, &response);
  };
  EXPECT_THAT(remove(b, id), GrpcOk()) << "as what never was: idempotent";
  EXPECT_THAT(remove(b, Ref("shared")), GrpcOk());
  EXPECT_THAT(ListAs(a), ElementsAre("only-a", "shared"));
  EXPECT_THAT(ListAs(b), IsEmpty());
}

TEST_F(IdentityRpcTest, BlocksAndEventsOfAnotherTenantAreNotThere) {
  const std::string a = NewToken(NewTenant("a"), "one", {Role::kWriter});
  const std::string b = NewToken(NewTenant("b"), "one", {Role::kWriter});
  v1::Space of_a;
  ASSERT_THAT(OpenAs(a, OpaqueSpace("s"), &of_a), GrpcOk());
  ASSERT_THAT(OpenAs(b, OpaqueSpace("s")), GrpcOk());
  const auto offer = [&](const std::string& token, const v1::SpaceRef& ref) {
    grpc::ClientContext context;
    Show(context, token);
    auto stream = blocks_->Put(&context);
    v1::PutRequest request;
    *request.mutable_start() = StartOf("s", {{.key = "k", .bytes = "payload"}});
    *request.mutable_start()->mutable_space() = ref;
    stream->Write(request);
    v1::PutResponse response;
    if (!stream->Read(&response)) return stream->Finish();
    request.Clear();
    request.mutable_data()->set_data("payload");
    stream->Write(request);
    stream->WritesDone();
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  };
  ASSERT_THAT(offer(a, Ref("s")), GrpcOk());
  const auto size_of = [&](const std::string& token, const v1::SpaceRef& ref) {
    grpc::ClientContext context;
    Show(context, token);
    v1::MatchRequest request;
    *request.mutable_space() = ref;
    request.add_keys("k");
    v1::MatchResponse response;
    const grpc::Status status = blocks_->Match(&context, request, &response);
    return status.ok() ? static_cast<int>(response.blocks()) : -status.error_code();
  };
  v1::SpaceRef id;
  id.set_id(of_a.id());
  EXPECT_EQ(size_of(a, Ref("s")), 1);
  EXPECT_EQ(size_of(b, Ref("s")), 0) << "the same name and key, another tenant";
  EXPECT_EQ(size_of(b, id), -grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(offer(b, id).error_code(), grpc::StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  Show(context, b);
  v1::WatchRequest request;
  *request.mutable_space() = id;
  auto watch = blocks_->Watch(&context, request);
  v1::WatchResponse events;
  EXPECT_FALSE(watch->Read(&events));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(IdentityRpcTest, ContextsOfAnotherTenantAreNotThere) {
  const std::string a = NewToken(NewTenant("a"), "one", {Role::kWriter});
  const std::string b = NewToken(NewTenant("b"), "one", {Role::kWriter});
  const auto create = [&](const std::string& token, const std::string& name) {
    grpc::ClientContext context;
    Show(context, token);
    v1::CreateContextRequest request;
    request.mutable_context()->set_name(name);
    request.mutable_context()->set_dimension(4);
    v1::CreateContextResponse response;
    EXPECT_THAT(contexts_->Create(&context, request, &response), GrpcOk());
    return response.context().id();
  };
  const uint64_t of_a = create(a, "memory");
  const auto describe = [&](const std::string& token, const v1::ContextRef& ref) {
    grpc::ClientContext context;
    Show(context, token);
    v1::DescribeContextRequest request;
    *request.mutable_context() = ref;
    v1::DescribeContextResponse response;
    return contexts_->Describe(&context, request, &response).error_code();
  };
  const auto list = [&](const std::string& token) {
    grpc::ClientContext context;
    Show(context, token);
    v1::ListContextsResponse response;
    EXPECT_THAT(contexts_->List(&context, {}, &response), GrpcOk());
    return response.contexts_size();
  };
  v1::ContextRef id;
  id.set_id(of_a);
  v1::ContextRef name;
  name.set_name("memory");
  EXPECT_EQ(describe(a, id), grpc::StatusCode::OK);
  EXPECT_EQ(describe(b, id), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(describe(b, name), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(list(a), 1);
  EXPECT_EQ(list(b), 0);
  EXPECT_NE(create(b, "memory"), of_a);

  grpc::ClientContext context;
  Show(context, b);
  v1::DeleteContextRequest request;
  *request.mutable_context() = id;
  v1::DeleteContextResponse response;
  contexts_->Delete(&context, request, &response);
  EXPECT_EQ(describe(a, id), grpc::StatusCode::OK) << "deleted by another tenant";
}

// One connection, many calls at once: nothing of a caller stays with the connection.
TEST_F(IdentityRpcTest, TwoTenantsOnOneConnectionStayApart) {
  constexpr int kCallers = 4;
  constexpr int kRounds = 50;
  std::vector<std::string> tokens;
  for (int i = 0; i < kCallers; ++i) {
    const std::string name = "t" + std::to_string(i);
    tokens.push_back(NewToken(NewTenant(name), name, {Role::kWriter}));
    ASSERT_THAT(OpenAs(tokens.back(), OpaqueSpace(name)), GrpcOk());
  }
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        EXPECT_THAT(ListAs(tokens[i]), ElementsAre("t" + std::to_string(i)));
        grpc::ClientContext nobody;
        v1::ListSpacesResponse response;
        EXPECT_EQ(spaces_->List(&nobody, {}, &response).error_code(),
                  grpc::StatusCode::UNAUTHENTICATED);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(node_.observer().authenticated(AuthOutcome::kUnauthenticated), kCallers * kRounds);
}

TEST_F(IdentityRpcTest, AWatchTellsNothingMoreOnceItsTokenIsRevoked) {
  const uint64_t tenant = NewTenant("a");
  const std::string watcher = NewToken(tenant, "watcher", {Role::kReader});
  const std::string admin = NewToken(tenant, "admin", {Role::kTenantAdmin});
  ASSERT_THAT(OpenAs(admin, OpaqueSpace("s")), GrpcOk());
  grpc::ClientContext context;
  Show(context, watcher);
  v1::WatchRequest request;
  *request.mutable_space() = Ref("s");
  auto watch = blocks_->Watch(&context, request);
  v1::WatchResponse events;
  ASSERT_TRUE(watch->Read(&events));  // the empty snapshot
  ASSERT_OK(node_.identity().RevokeToken(tenant, "watcher", 0));

  grpc::ClientContext deletes;
  Show(deletes, admin);
  v1::DeleteSpaceRequest removal;
  *removal.mutable_space() = Ref("s");
  v1::DeleteSpaceResponse removed;
  ASSERT_THAT(spaces_->Delete(&deletes, removal, &removed), GrpcOk());
  if (watch->Read(&events)) {
    ADD_FAILURE() << "told " << events.ShortDebugString();
    context.TryCancel();
  }
  EXPECT_THAT(watch->Finish(), GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("revoked")));
}

TEST_F(IdentityRpcTest, AnAppendTakesNothingMoreOnceItsTokenIsRevoked) {
  const uint64_t tenant = NewTenant("a");
  const std::string token = NewToken(tenant, "writer", {Role::kWriter});
  grpc::ClientContext creates;
  Show(creates, token);
  v1::CreateContextRequest creation;
  creation.mutable_context()->set_name("c");
  creation.mutable_context()->set_dimension(1);
  v1::CreateContextResponse created;
  ASSERT_THAT(contexts_->Create(&creates, creation, &created), GrpcOk());
  grpc::ClientContext context;
  Show(context, token);
  auto stream = contexts_->Append(&context);
  v1::AppendRequest request;
  request.mutable_start()->mutable_context()->set_name("c");
  request.mutable_start()->set_writer_id(7);
  ASSERT_TRUE(stream->Write(request));
  v1::AppendResponse response;
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_OK(node_.identity().RevokeToken(tenant, "writer", 0));
  request.Clear();
  request.mutable_tokens()->set_count(1);
  request.mutable_tokens()->set_ids(std::string(4, '\0'));
  request.mutable_tokens()->set_embeddings(std::string(4, '\0'));
  stream->Write(request);
  if (stream->Read(&response)) {
    ADD_FAILURE() << "answered " << response.ShortDebugString();
    context.TryCancel();
  }
  EXPECT_THAT(stream->Finish(), GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("revoked")));
}

class OpenIdentityRpcTest : public IdentityRpcTest {
 protected:
  OpenIdentityRpcTest() : IdentityRpcTest(IdentityOptions{.required = false}) {}
};

TEST_F(OpenIdentityRpcTest, WhoShowsNothingIsTheLocalTenantAndABadTokenIsNobody) {
  const std::string token = NewToken(NewTenant("a"), "one", {Role::kWriter});
  ASSERT_THAT(OpenAs(token, OpaqueSpace("of-a")), GrpcOk());
  Open(OpaqueSpace("local"));
  grpc::ClientContext context;
  v1::ListSpacesResponse response;
  ASSERT_THAT(spaces_->List(&context, {}, &response), GrpcOk());
  ASSERT_EQ(response.spaces_size(), 1);
  EXPECT_EQ(response.spaces(0).space().name(), "local");
  EXPECT_THAT(ListAs(token), ElementsAre("of-a"));
  EXPECT_EQ(CallAs("mistyped", "mnemo.v1.SpaceService/List").error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

class GateIdentityTest : public ::testing::Test {
 protected:
  FakeAuthenticator authenticator_;
  FakeClock clock_;
  CountingObserver observer_;
};

TEST_F(GateIdentityTest, FillsTheCallWithItsCallerAlsoWhenItRefusesIt) {
  authenticator_.tokens["t"] = {.tenant = 77, .principal = "engine", .roles = {Role::kReader}};
  Gate gate({}, authenticator_, clock_, observer_);
  CallContext match;
  ASSERT_OK(
      gate.Admit(RuleOf("mnemo.v1.BlockService/Match"), {.token = "t"}, MonoTime::max(), match));
  EXPECT_EQ(match.identity.tenant, 77u);
  CallContext put;
  EXPECT_THAT(gate.Admit(RuleOf("mnemo.v1.BlockService/Put"), {.token = "t"}, MonoTime::max(), put),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("writer, tenant-admin")));
  EXPECT_EQ(put.identity.principal, "engine");
  CallContext nobody;
  EXPECT_THAT(
      gate.Admit(RuleOf("mnemo.v1.BlockService/Match"), {.token = "x"}, MonoTime::max(), nobody),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not a token")));
  gate.Shutdown();
}

}  // namespace
}  // namespace mnemo

// TLS listeners with a node's and clients' certificates, and identity from them.
#include <gmock/gmock.h>

#include "server/identity/tls_material.h"
#include "tests/support/certificates.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr char kList[] = "mnemo.v1.SpaceService/List";

class TlsRpcTest : public ::testing::Test {
 protected:
  TlsRpcTest() {
    WriteServer(authority_.IssueServer("node"));
    WriteText(files_.client_ca, clients_.certificate());
  }

  void Start(ClientCertificates clients, bool auth_required = true) {
    files_.clients = clients;
    auto material = TlsMaterial::Load(files_, *file_system_, clock_);
    ASSERT_OK(material);
    material_ = *std::move(material);
    node_ = std::make_unique<TestNode>(GateOptions{}, SmallStore(""),
                                       IdentityOptions{.required = auth_required}, material_.get());
    tenant_ = node_->identity().CreateTenant("acme")->id;
  }
  void WriteServer(const TestCertificate& certificate) {
    WriteText(files_.certificate, certificate.certificate);
    WriteText(files_.key, certificate.key);
  }
  // Makes a principal that a certificate's common name leads to.
  void Name(const std::string& tenant, const std::string& common_name) {
    named_.push_back(
        {tenant,
         {.name = common_name, .roles = {Role::kReader}, .certificates = {"cn:" + common_name}}});
    ASSERT_OK(node_->identity().ApplyFile(named_));
  }
  TestCertificate Client(const std::string& common_name) const {
    return clients_.Issue({.common_name = common_name});
  }

  std::shared_ptr<grpc::Channel> Channel(const TestCertificate* shown,
                                         const TestAuthority* trusted = nullptr) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = (trusted == nullptr ? authority_ : *trusted).certificate();
    if (shown != nullptr) {
      options.pem_cert_chain = shown->certificate;
      options.pem_private_key = shown->key;
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetSslTargetNameOverride("localhost");
    return grpc::CreateCustomChannel(node_->address(), grpc::SslCredentials(options), arguments);
  }
  static grpc::Status List(const std::shared_ptr<grpc::Channel>& channel,
                           const std::string& token = "") {
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    return CallRaw(channel, kList, "", nullptr, &context);
  }
  std::string NewToken(uint64_t tenant, const std::string& name) {
    const auto token = node_->identity().CreateToken(tenant, name, {Role::kReader});
    EXPECT_OK(token);
    return token->text;
  }

  TempDir dir_;
  SystemClock clock_;  // as certificates are made by it
  std::unique_ptr<FileSystem> file_system_ = MakePosixFileSystem();
  TestAuthority authority_;
  TestAuthority clients_{"clients"};
  TlsFiles files_{.certificate = dir_ / "node.pem",
                  .key = dir_ / "node.key",
                  .client_ca = dir_ / "clients.pem"};
  std::unique_ptr<TlsMaterial> material_;
  std::unique_ptr<TestNode> node_;
  std::vector<FilePrincipal> named_;
  uint64_t tenant_ = 0;
};

TEST_F(TlsRpcTest, OnlyClientsOfTheAuthorityReachTheGate) {
  Start(ClientCertificates::kRequired);
  Name("acme", "engine");
  const TestCertificate engine = Client("engine");
  EXPECT_THAT(List(Channel(&engine)), GrpcOk());
  const TestCertificate stranger = Client("stranger");
  EXPECT_THAT(List(Channel(&stranger)),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("belongs to no principal")));

  // None of these comes as far as a call.
  const TestAuthority others("others");
  const TestCertificate forged = others.Issue({.common_name = "engine"});
  const TestCertificate expired = clients_.Issue({.common_name = "engine",
                                                  .not_before = std::chrono::hours(-2),
                                                  .not_after = std::chrono::hours(-1)});
  EXPECT_EQ(List(Channel(&forged)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(List(Channel(&expired)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(List(Channel(nullptr)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(List(Channel(&engine, &others)).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "the client must not take a node that its CA did not sign";
  EXPECT_EQ(
      List(grpc::CreateChannel(node_->address(), grpc::InsecureChannelCredentials())).error_code(),
      grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(node_->observer().authenticated(AuthOutcome::kAccepted), 1u);
  EXPECT_EQ(node_->observer().authenticated(AuthOutcome::kUnauthenticated), 1u);
}

TEST_F(TlsRpcTest, ACertificateAndATokenMustAgree) {
  Start(ClientCertificates::kRequired);
  Name("acme", "engine");
  const uint64_t globex = node_->identity().CreateTenant("globex")->id;
  const std::string same = NewToken(tenant_, "one");
  const std::string other = NewToken(globex, "one");
  const TestCertificate engine = Client("engine");
  const auto channel = Channel(&engine);
  EXPECT_THAT(List(channel, same), GrpcOk());
  EXPECT_THAT(List(channel, other),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("different tenants")));
  EXPECT_THAT(List(channel, "made-up"),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("not known")));
  // One that belongs to nobody says nothing against the token.
  const TestCertificate stranger = Client("stranger");
  EXPECT_THAT(List(Channel(&stranger), other), GrpcOk());
}

TEST_F(TlsRpcTest, WithOptionalCertificatesATokenAloneWillDo) {
  Start(ClientCertificates::kOptional);
  const std::string token = NewToken(tenant_, "one");
  EXPECT_THAT(List(Channel(nullptr), token), GrpcOk());
  EXPECT_THAT(List(Channel(nullptr)),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("no credential")));
  Name("acme", "engine");
  const TestCertificate engine = Client("engine");
  EXPECT_THAT(List(Channel(&engine)), GrpcOk());
  const TestCertificate forged = TestAuthority("others").Issue({.common_name = "engine"});
  EXPECT_EQ(List(Channel(&forged), token).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsRpcTest, WithoutClientCertificatesNobodyIsAskedForOne) {
  Start(ClientCertificates::kOff, /*auth_required=*/false);
  EXPECT_THAT(List(Channel(nullptr)), GrpcOk());
}

// The names of gRPC are those of OpenSSL, in the same order.
TEST_F(TlsRpcTest, TheMostPreciseNameOfACertificateCounts) {
  Start(ClientCertificates::kRequired);
  named_ = {
      {"acme", {.name = "by-uri", .roles = {Role::kReader}, .certificates = {"uri:spiffe://a/b"}}},
      {"acme", {.name = "by-dns", .roles = {Role::kReader}, .certificates = {"dns:e.acme"}}},
      {"acme", {.name = "by-cn", .roles = {Role::kMetrics}, .certificates = {"cn:engine"}}}};
  ASSERT_OK(node_->identity().ApplyFile(named_));
  const TestCertificate all =
      clients_.Issue({.common_name = "engine", .alternatives = {"DNS:e.acme", "URI:spiffe://a/b"}});
  EXPECT_THAT(List(Channel(&all)), GrpcOk());
  const TestCertificate last = clients_.Issue({.common_name = "engine"});
  EXPECT_THAT(List(Channel(&last)),
              GrpcIs(grpc::StatusCode::PERMISSION_DENIED, HasSubstr("by-cn")));
  named_.erase(named_.begin() + 1);
  ASSERT_OK(node_->identity().ApplyFile(named_));
  EXPECT_THAT(List(Channel(&all)), GrpcOk());
  named_.erase(named_.begin());
  ASSERT_OK(node_->identity().ApplyFile(named_));
  EXPECT_THAT(List(Channel(&all)), GrpcIs(grpc::StatusCode::PERMISSION_DENIED, HasSubstr("by-cn")));
}

TEST_F(TlsRpcTest, ANewCertificateCountsFromTheNextHandshakeAndEndsNoCall) {
  Start(ClientCertificates::kRequired);
  Name("acme", "engine");
  const TestCertificate engine = Client("engine");
  const auto open = Channel(&engine);
  ASSERT_THAT(List(open), GrpcOk());
  const TestAuthority renewed("another authority");
  WriteServer(renewed.IssueServer("renewed"));
  ASSERT_OK(material_->Reload());
  EXPECT_THAT(List(open), GrpcOk()) << "the connection that is there stays";
  EXPECT_EQ(List(Channel(&engine)).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "signed by an authority that this client does not trust";
  EXPECT_THAT(List(Channel(&engine, &renewed)), GrpcOk());

  // A bad file leaves what was there.
  WriteText(files_.certificate, "nothing");
  EXPECT_THAT(material_->Reload(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(List(Channel(&engine, &renewed)), GrpcOk());
}

TEST_F(TlsRpcTest, ANewAuthorityOfClientsShutsOutTheOldOnes) {
  Start(ClientCertificates::kRequired);
  Name("acme", "engine");
  const TestCertificate before = Client("engine");
  ASSERT_THAT(List(Channel(&before)), GrpcOk());
  const TestAuthority next("next");
  WriteText(files_.client_ca, next.certificate());
  ASSERT_OK(material_->Reload());
  EXPECT_EQ(List(Channel(&before)).error_code(), grpc::StatusCode::UNAVAILABLE);
  const TestCertificate after = next.Issue({.common_name = "engine"});
  EXPECT_THAT(List(Channel(&after)), GrpcOk());
}

TEST_F(TlsRpcTest, TheUnixSocketStaysPlain) {
  Start(ClientCertificates::kRequired);
  const std::string token = NewToken(tenant_, "one");
  EXPECT_THAT(
      List(grpc::CreateChannel(node_->unix_address(), grpc::InsecureChannelCredentials()), token),
      GrpcOk());
}

}  // namespace
}  // namespace mnemo

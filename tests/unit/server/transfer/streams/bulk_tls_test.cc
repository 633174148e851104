// Streams over TCP under TLS: who comes in, and what travels.
#include <openssl/pem.h>

#include <memory>
#include <string>
#include <vector>

#include "server/identity/tls_material.h"
#include "storage/base/units.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/streams/bulk_peer.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;
using ::testing::Contains;
using ::testing::HasSubstr;

// What the server is made of, before it.
class TlsFilesHolder {
 protected:
  TlsFilesHolder() {
    WriteText(tls_files_.client_ca, clients_.certificate());
    ShowServer("server");
    auto loaded = TlsMaterial::Load(tls_files_, *posix_, system_clock_);
    MNEMO_CHECK(loaded.ok());
    material_ = *std::move(loaded);
  }
  void ShowServer(const std::string& name) {
    const TestCertificate server = servers_.IssueServer(name);
    WriteText(tls_files_.certificate, server.certificate);
    WriteText(tls_files_.key, server.key);
  }

  TempDir tls_dir_;
  TlsFiles tls_files_{.certificate = tls_dir_ / "server.pem",
                      .key = tls_dir_ / "server.key",
                      .client_ca = tls_dir_ / "clients.pem",
                      .clients = ClientCertificates::kRequired};
  TestAuthority servers_{"servers"};
  TestAuthority clients_{"clients"};
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  SystemClock system_clock_;
  std::unique_ptr<TlsMaterial> material_;
};

class BulkTlsTest : public TlsFilesHolder, public StreamTest {
 protected:
  BulkTlsTest()
      : StreamTest({.required = true}, {}, {.tcp_address = "127.0.0.1:0", .tls = material_.get()}) {
    const auto tenant = identity_->CreateTenant("acme");
    MNEMO_CHECK(tenant.ok());
    acme_ = tenant->id;
    MNEMO_CHECK(identity_
                    ->ApplyFile({{"acme", Principal{.name = "node",
                                                    .roles = {Role::kWriter},
                                                    .certificates = {"cn:node"}}}})
                    .ok());
    OpenSpace("opaque", acme_);
  }

  using Context = std::unique_ptr<SSL_CTX, SslContextDeleter>;
  // Of a client that shows `certificate`; null: none.
  static Context ClientContext(const TestCertificate* certificate) {
    Context context(SSL_CTX_new(TLS_client_method()));
    if (certificate == nullptr) return context;
    const std::unique_ptr<BIO, int (*)(BIO*)> text(
        BIO_new_mem_buf(certificate->certificate.data(), -1), BIO_free);
    const std::unique_ptr<X509, void (*)(X509*)> own(
        PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr), X509_free);
    const std::unique_ptr<BIO, int (*)(BIO*)> key_text(BIO_new_mem_buf(certificate->key.data(), -1),
                                                       BIO_free);
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(
        PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
    MNEMO_CHECK(SSL_CTX_use_certificate(context.get(), own.get()) == 1);
    MNEMO_CHECK(SSL_CTX_use_PrivateKey(context.get(), key.get()) == 1);
    return context;
  }
  StreamPeer Peer(const Context& context) {
    return StreamPeer::Tcp(server_->tcp_address(), context.get());
  }
  TestCertificate Node() { return clients_.Issue({.common_name = "node"}); }

  uint64_t acme_ = 0;
};

TEST_F(BulkTlsTest, ACertificateComesInAndPayloadTravels) {
  const TestCertificate node = Node();
  const Context context = ClientContext(&node);
  StreamPeer peer = Peer(context);
  ASSERT_OK(peer.Hello().status());
  // Beyond records, frames and windows.
  const std::string payload = PayloadOf(20 * kMiB + 7, 1);
  const uint64_t put =
      peer.Send(FrameType::kPut, Encode(PutOf(stream::kInStream, 0, "k", payload.size())));
  ASSERT_TRUE(SendAll(peer, put, payload));
  stream::PutAnswer stored;
  ASSERT_OK(ReadAnswer(peer, put, stored));
  EXPECT_EQ(stored.parts.at(0).outcome, 1);
  const uint64_t get =
      peer.Send(FrameType::kGet, Encode(GetOf(stream::kInStream, 0, "k", payload.size())));
  std::vector<std::string> payloads(1);
  stream::GetAnswer got;
  ASSERT_OK(ReadAnswer(peer, get, got, &payloads));
  EXPECT_TRUE(payloads[0] == payload);
}

TEST_F(BulkTlsTest, WhoShowsNoGoodCertificateIsTurnedAway) {
  const TestCertificate stranger = TestAuthority("others").Issue({.common_name = "node"});
  const TestCertificate expired = clients_.Issue({.common_name = "node",
                                                  .not_before = -std::chrono::hours(2),
                                                  .not_after = -std::chrono::hours(1)});
  uint64_t turned_away = 0;
  for (const TestCertificate* const shown :
       {static_cast<const TestCertificate*>(nullptr), &stranger, &expired}) {
    const Context context = ClientContext(shown);
    StreamPeer peer = Peer(context);
    EXPECT_THAT(peer.Hello().status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
    streams_.AwaitClosed(CloseReason::kTls, ++turned_away);
  }
  // Nor does who speaks no TLS at all.
  StreamPeer plain = StreamPeer::Tcp(server_->tcp_address());
  plain.Send(FrameType::kHello, Encode(stream::Hello{}));
  streams_.AwaitClosed(CloseReason::kTls, ++turned_away);
}

TEST_F(BulkTlsTest, ACertificateAndATicketMustAgree) {
  const TestCertificate node = Node();
  const Context context = ClientContext(&node);
  const auto other = identity_->CreateTenant("other");
  ASSERT_OK(other);
  const auto hello = [&](uint64_t tenant) {
    const auto token = identity_->CreateToken(tenant, "app", {Role::kWriter});
    EXPECT_OK(token.status());
    const auto identity = identity_->Resolve({.token = token->text});
    EXPECT_OK(identity.status());
    const auto ticket = tickets_.Issue(*identity, kBulkPlane);
    StreamPeer peer = Peer(context);
    return peer.Hello({.ticket = ticket->ticket}).status();
  };
  EXPECT_OK(hello(acme_));
  EXPECT_THAT(hello(other->id), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
}

TEST_F(BulkTlsTest, ANewCertificateIsShownToTheNextStream) {
  const TestCertificate node = Node();
  const Context context = ClientContext(&node);
  StreamPeer before = Peer(context);
  ASSERT_OK(before.Hello().status());
  ShowServer("renewed");
  ASSERT_OK(material_->Reload());
  StreamPeer after = Peer(context);
  ASSERT_OK(after.Hello().status());
  // A stream that is open stays as it is.
  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"k"};
  stream::MatchAnswer matched;
  EXPECT_OK(before.Call(FrameType::kMatch, Encode(match), matched));
  EXPECT_THAT(PeerCertificateNames(before.ssl()), Contains("cn:server"));
  EXPECT_THAT(PeerCertificateNames(after.ssl()), Contains("cn:renewed"));
}

}  // namespace
}  // namespace mnemo

#include "server/identity/tls_material.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <cstdio>

#include "tests/support/certificates.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TlsMaterialTest : public ::testing::Test {
 protected:
  TlsMaterialTest() {
    Write(authority_.IssueServer("first"));
    WriteText(files_.client_ca, authority_.certificate());
  }

  void Write(const TestCertificate& certificate) {
    WriteText(files_.certificate, certificate.certificate);
    WriteText(files_.key, certificate.key);
  }
  std::unique_ptr<TlsMaterial> Load() {
    auto material = TlsMaterial::Load(files_, *file_system_, clock_);
    EXPECT_OK(material);
    return material.ok() ? *std::move(material) : nullptr;
  }

  // A handshake in memory. Returns the server's common name as the client saw it
  // and the client's names as the server did; empty where it failed.
  struct Seen {
    std::vector<std::string> server;
    std::vector<std::string> client;
  };
  Seen Handshake(const TlsMaterial& material, const TestCertificate* shown,
                 int version = TLS1_3_VERSION) {
    const SslContext client_context(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_max_proto_version(client_context.get(), version);
    if (shown != nullptr) {
      BIO* certificate = BIO_new_mem_buf(shown->certificate.data(), -1);
      BIO* key = BIO_new_mem_buf(shown->key.data(), -1);
      X509* x = PEM_read_bio_X509(certificate, nullptr, nullptr, nullptr);
      EVP_PKEY* k = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
      SSL_CTX_use_certificate(client_context.get(), x);
      SSL_CTX_use_PrivateKey(client_context.get(), k);
      X509_free(x);
      EVP_PKEY_free(k);
      BIO_free(certificate);
      BIO_free(key);
    }
    SSL* server = SSL_new(material.server_context().get());
    SSL* client = SSL_new(client_context.get());
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    BIO* one = nullptr;
    BIO* other = nullptr;
    BIO_new_bio_pair(&one, 1 << 17, &other, 1 << 17);
    SSL_set_bio(server, one, one);
    SSL_set_bio(client, other, other);
    int served = -1;
    int connected = -1;
    for (int i = 0; i < 10 && (served != 1 || connected != 1); ++i) {
      connected = SSL_do_handshake(client);
      served = SSL_do_handshake(server);
    }
    Seen seen;
    if (served == 1 && connected == 1) {
      seen = {PeerCertificateNames(client), PeerCertificateNames(server)};
    }
    SSL_free(server);
    SSL_free(client);
    ERR_clear_error();
    return seen;
  }

  TempDir dir_;
  // The real time, as certificates are made by it.
  SystemClock clock_;
  std::unique_ptr<FileSystem> file_system_ = MakePosixFileSystem();
  TestAuthority authority_;
  TlsFiles files_{.certificate = dir_ / "node.pem",
                  .key = dir_ / "node.key",
                  .client_ca = dir_ / "clients.pem"};
};

TEST_F(TlsMaterialTest, TheNextHandshakeHasTheNewCertificate) {
  const auto material = Load();
  const TestCertificate client = authority_.Issue({.common_name = "engine"});
  EXPECT_THAT(Handshake(*material, &client).server, ElementsAre("dns:localhost", "cn:first"));
  EXPECT_EQ(material->generation(), 1u);
  Write(authority_.IssueServer("second"));
  EXPECT_OK(material->Reload());
  EXPECT_EQ(material->generation(), 2u);
  EXPECT_THAT(Handshake(*material, &client).server, ElementsAre("dns:localhost", "cn:second"));
  // Nothing new, nothing changes.
  EXPECT_OK(material->Reload());
  EXPECT_EQ(material->generation(), 2u);
}

TEST_F(TlsMaterialTest, WhatVanishesOrIsBadLeavesTheOld) {
  const auto material = Load();
  const TlsMaterial::Texts before = material->texts();
  const auto unchanged = [&](const std::string& path, absl::StatusCode code,
                             const std::string& message) {
    EXPECT_THAT(material->Reload(), StatusIs(code, HasSubstr(path)));
    EXPECT_THAT(material->Reload(), StatusIs(code, HasSubstr(message)));
    EXPECT_EQ(material->generation(), 1u);
    EXPECT_EQ(material->texts().certificate, before.certificate);
    EXPECT_EQ(material->texts().key, before.key);
  };
  std::remove(files_.certificate.c_str());
  unchanged(files_.certificate, absl::StatusCode::kNotFound, "");
  WriteText(files_.certificate, authority_.IssueServer().certificate);
  unchanged(files_.key, absl::StatusCode::kInvalidArgument, "does not belong to the certificate");
  WriteText(files_.certificate, "no certificate");
  unchanged(files_.certificate, absl::StatusCode::kInvalidArgument, "holds no PEM certificate");
  WriteText(files_.certificate, before.certificate + "-----BEGIN CERTIFICATE-----\nAAAA\n");
  unchanged(files_.certificate, absl::StatusCode::kInvalidArgument, "holds no PEM certificate");
  WriteText(files_.certificate, before.certificate);
  WriteText(files_.key, "no key");
  unchanged(files_.key, absl::StatusCode::kInvalidArgument, "holds no PEM private key");
  WriteText(files_.key, before.key);
  WriteText(files_.client_ca, "");
  unchanged(files_.client_ca, absl::StatusCode::kInvalidArgument, "holds no PEM certificate");
  std::remove(files_.client_ca.c_str());
  unchanged(files_.client_ca, absl::StatusCode::kNotFound, "");
  WriteText(files_.client_ca, authority_.certificate());
  EXPECT_OK(material->Reload());
}

TEST_F(TlsMaterialTest, MessagesNeverHoldWhatIsInAFile) {
  const std::string secret = "c2VjcmV0";
  WriteText(files_.key, "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n");
  const absl::Status status = TlsMaterial::Load(files_, *file_system_, clock_).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, Not(HasSubstr(secret))));
}

TEST_F(TlsMaterialTest, ACertificateOutOfItsTimeIsRefused) {
  Write(authority_.Issue({.common_name = "old", .not_after = std::chrono::seconds(-1)}));
  EXPECT_THAT(TlsMaterial::Load(files_, *file_system_, clock_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has expired")));
  Write(authority_.Issue({.common_name = "new", .not_before = std::chrono::hours(1)}));
  EXPECT_THAT(TlsMaterial::Load(files_, *file_system_, clock_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("time has not begun")));
}

TEST_F(TlsMaterialTest, TellsWhenItEnds) {
  Write(authority_.Issue({.common_name = "x", .not_after = std::chrono::hours(2)}));
  const auto material = Load();
  const int64_t left = material->expires().nanos - clock_.Wall().nanos;
  EXPECT_NEAR(static_cast<double>(left) / 1e9, 7200, 60);
}

TEST_F(TlsMaterialTest, OnlyClientsOfTheAuthorityComeIn) {
  const auto material = Load();
  const TestCertificate ours = authority_.Issue(
      {.common_name = "engine", .alternatives = {"URI:spiffe://acme/engine", "DNS:engine.acme"}});
  EXPECT_THAT(Handshake(*material, &ours).client,
              ElementsAre("uri:spiffe://acme/engine", "dns:engine.acme", "cn:engine"));
  const TestAuthority stranger("test authority");
  const TestCertificate theirs = stranger.Issue({.common_name = "engine"});
  EXPECT_TRUE(Handshake(*material, &theirs).server.empty());
  const TestCertificate expired =
      authority_.Issue({.common_name = "engine", .not_after = std::chrono::seconds(-1)});
  EXPECT_TRUE(Handshake(*material, &expired).server.empty());
  EXPECT_TRUE(Handshake(*material, nullptr).server.empty());
  EXPECT_TRUE(Handshake(*material, &ours, TLS1_1_VERSION).server.empty());
  EXPECT_FALSE(Handshake(*material, &ours, TLS1_2_VERSION).server.empty());
}

TEST_F(TlsMaterialTest, AskedForWithoutNeedingOne) {
  files_.clients = ClientCertificates::kOptional;
  const auto optional = Load();
  EXPECT_FALSE(Handshake(*optional, nullptr).server.empty());
  const TestAuthority stranger;
  const TestCertificate theirs = stranger.Issue({.common_name = "engine"});
  EXPECT_TRUE(Handshake(*optional, &theirs).server.empty());
  files_.clients = ClientCertificates::kOff;
  std::remove(files_.client_ca.c_str());
  const auto off = Load();
  EXPECT_TRUE(Handshake(*off, &theirs).client.empty());
  EXPECT_FALSE(Handshake(*off, &theirs).server.empty());
}

TEST_F(TlsMaterialTest, ANewAuthorityCountsFromTheNextHandshakeOn) {
  const auto material = Load();
  const TestAuthority next("next");
  const TestCertificate client = next.Issue({.common_name = "engine"});
  EXPECT_TRUE(Handshake(*material, &client).server.empty());
  WriteText(files_.client_ca, authority_.certificate() + next.certificate());
  EXPECT_OK(material->Reload());
  EXPECT_FALSE(Handshake(*material, &client).server.empty());
}

}  // namespace
}  // namespace mnemo

#include "tests/support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <fstream>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* thing) const {
    Free(thing);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;

template <typename Write>
std::string ToPem(const Write& write) {
  const Bio bio(BIO_new(BIO_s_mem()));
  MNEMO_CHECK(write(bio.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

std::string ToPem(X509* certificate) {
  return ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string ToPem(EVP_PKEY* key) {
  return ToPem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

Key NewKey() { return Key(EVP_EC_gen("P-256")); }

void AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  MNEMO_CHECK(extension != nullptr);
  MNEMO_CHECK(X509_add_ext(certificate, extension.get(), -1) == 1);
}

Certificate NewCertificate(const std::string& common_name, EVP_PKEY* key, X509* issuer,
                           std::chrono::seconds not_before, std::chrono::seconds not_after) {
  Certificate certificate(X509_new());
  X509* x = certificate.get();
  X509_set_version(x, X509_VERSION_3);
  int64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), static_cast<uint64_t>(serial) >> 1);
  X509_gmtime_adj(X509_getm_notBefore(x), static_cast<long>(not_before.count()));
  X509_gmtime_adj(X509_getm_notAfter(x), static_cast<long>(not_after.count()));
  X509_set_pubkey(x, key);
  X509_NAME* subject = X509_get_subject_name(x);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  X509_set_issuer_name(x, issuer == nullptr ? subject : X509_get_subject_name(issuer));
  return certificate;
}

}  // namespace

struct TestAuthority::Secrets {
  Key key = NewKey();
  Certificate certificate;
};

TestAuthority::TestAuthority(const std::string& name) : secrets_(std::make_unique<Secrets>()) {
  secrets_->certificate = NewCertificate(name, secrets_->key.get(), nullptr, std::chrono::hours(-1),
                                         std::chrono::hours(24));
  X509* x = secrets_->certificate.get();
  AddExtension(x, x, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
  AddExtension(x, x, NID_subject_key_identifier, "hash");
  MNEMO_CHECK(X509_sign(x, secrets_->key.get(), EVP_sha256()) > 0);
  certificate_ = ToPem(x);
}

TestAuthority::~TestAuthority() = default;

TestCertificate TestAuthority::Issue(const Request& request) const {
  const Key key = NewKey();
  X509* issuer = secrets_->certificate.get();
  const Certificate certificate =
      NewCertificate(request.common_name, key.get(), issuer, request.not_before, request.not_after);
  std::string alternatives;
  for (const std::string& name : request.alternatives) {
    if (!alternatives.empty()) alternatives += ",";
    alternatives += name;
  }
  if (!alternatives.empty()) {
    AddExtension(certificate.get(), issuer, NID_subject_alt_name, alternatives);
  }
  AddExtension(certificate.get(), issuer, NID_ext_key_usage, "serverAuth,clientAuth");
  AddExtension(certificate.get(), issuer, NID_authority_key_identifier, "keyid");
  MNEMO_CHECK(X509_sign(certificate.get(), secrets_->key.get(), EVP_sha256()) > 0);
  return {ToPem(certificate.get()), ToPem(key.get())};
}

TestCertificate TestAuthority::IssueServer(const std::string& common_name) const {
  return Issue({.common_name = common_name, .alternatives = {"DNS:localhost", "IP:127.0.0.1"}});
}

void WriteText(const std::string& path, const std::string& text) {
  const std::string next = path + ".next";
  std::ofstream file(next, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  MNEMO_CHECK(file.good());
  MNEMO_CHECK(std::rename(next.c_str(), path.c_str()) == 0);
}

}  // namespace mnemo

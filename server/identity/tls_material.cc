#include "server/identity/tls_material.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr uint64_t kLargestFile = kMiB;

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
using Names = std::unique_ptr<GENERAL_NAMES, Deleter<GENERAL_NAMES_free>>;
using Time = std::unique_ptr<ASN1_TIME, Deleter<ASN1_TIME_free>>;

Bio OpenText(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// OpenSSL keeps errors of this thread until somebody asks for them.
absl::Status Bad(const std::string& path, std::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, what));
}

// A key with a passphrase is refused, not asked for on a terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::StatusOr<std::vector<Certificate>> ParseCertificates(const std::string& path,
                                                           const std::string& text) {
  std::vector<Certificate> certificates;
  const Bio bio = OpenText(text);
  while (true) {
    Certificate next(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (!next) {
      const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
      if (!at_end || certificates.empty())
        return Bad(path, "holds no PEM certificate, or a bad one");
      ERR_clear_error();
      return certificates;
    }
    certificates.push_back(std::move(next));
  }
}

absl::StatusOr<WallTime> EndOf(const std::string& path, const X509& certificate) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &end) != 1) {
    return Bad(path, "has no end of its time that can be read");
  }
  return WallTime{static_cast<int64_t>(timegm(&end)) * 1'000'000'000};
}

absl::Status CheckInTime(const std::string& path, const X509& certificate, WallTime now) {
  time_t seconds = static_cast<time_t>(now.nanos / 1'000'000'000);
  if (X509_cmp_time(X509_get0_notBefore(&certificate), &seconds) > 0) {
    return Bad(path, "the certificate's time has not begun");
  }
  if (X509_cmp_time(X509_get0_notAfter(&certificate), &seconds) < 0) {
    return Bad(path, "the certificate has expired");
  }
  return absl::OkStatus();
}

int VerifyMode(ClientCertificates clients) {
  switch (clients) {
    case ClientCertificates::kOff:
      return SSL_VERIFY_NONE;
    case ClientCertificates::kOptional:
      return SSL_VERIFY_PEER;
    case ClientCertificates::kRequired:
      return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  }
  return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

absl::Status TrustClients(SSL_CTX* context, const std::vector<Certificate>& authorities) {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const Certificate& authority : authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      ERR_clear_error();
      return absl::InternalError("OpenSSL did not take a CA's certificate");
    }
  }
  return absl::OkStatus();
}

std::string NameText(const ASN1_STRING* name) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name)),
                     static_cast<size_t>(ASN1_STRING_length(name)));
}

}  // namespace

struct TlsMaterial::Loaded {
  Texts texts;
  WallTime expires;
  SslContext context;
};

TlsMaterial::TlsMaterial(const TlsFiles& files, FileSystem& file_system, Clock& clock)
    : files_(files), file_system_(file_system), clock_(clock) {}
TlsMaterial::~TlsMaterial() = default;

absl::StatusOr<std::unique_ptr<TlsMaterial::Loaded>> TlsMaterial::Read() const {
  auto loaded = std::make_unique<Loaded>();
  Texts& texts = loaded->texts;
  MNEMO_ASSIGN_OR_RETURN(texts.certificate,
                         ReadSmallFile(file_system_, files_.certificate, kLargestFile));
  MNEMO_ASSIGN_OR_RETURN(texts.key, ReadSmallFile(file_system_, files_.key, kLargestFile));
  MNEMO_ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                         ParseCertificates(files_.certificate, texts.certificate));
  MNEMO_RETURN_IF_ERROR(CheckInTime(files_.certificate, *chain.front(), clock_.Wall()));
  MNEMO_ASSIGN_OR_RETURN(loaded->expires, EndOf(files_.certificate, *chain.front()));
  const Key key(PEM_read_bio_PrivateKey(OpenText(texts.key).get(), nullptr, NoPassphrase, nullptr));
  if (!key) return Bad(files_.key, "holds no PEM private key without a passphrase");
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    return Bad(files_.key,
               fmt::format("does not belong to the certificate of {}", files_.certificate));
  }
  loaded->context.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* context = loaded->context.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_use_certificate(context, chain.front().get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return Bad(files_.certificate, "OpenSSL does not take it with its key");
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1) {
      return Bad(files_.certificate, "OpenSSL does not take its chain");
    }
  }
  // A resumed session would come with the certificate of an older handshake.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  if (files_.clients != ClientCertificates::kOff) {
    MNEMO_ASSIGN_OR_RETURN(texts.client_ca,
                           ReadSmallFile(file_system_, files_.client_ca, kLargestFile));
    MNEMO_ASSIGN_OR_RETURN(const std::vector<Certificate> authorities,
                           ParseCertificates(files_.client_ca, texts.client_ca));
    MNEMO_RETURN_IF_ERROR(TrustClients(context, authorities));
  }
  SSL_CTX_set_verify(context, VerifyMode(files_.clients), nullptr);
  return loaded;
}

absl::StatusOr<std::unique_ptr<TlsMaterial>> TlsMaterial::Load(const TlsFiles& files,
                                                               FileSystem& file_system,
                                                               Clock& clock) {
  std::unique_ptr<TlsMaterial> material(new TlsMaterial(files, file_system, clock));
  MNEMO_RETURN_IF_ERROR(material->Reload());
  return material;
}

absl::Status TlsMaterial::Reload() {
  absl::StatusOr<std::unique_ptr<Loaded>> loaded = Read();
  if (!loaded.ok()) loaded = Read();
  if (!loaded.ok()) return loaded.status();
  Texts& texts = (*loaded)->texts;
  MutexLock lock(mutex_);
  if (loaded_ && loaded_->texts.certificate == texts.certificate &&
      loaded_->texts.key == texts.key && loaded_->texts.client_ca == texts.client_ca) {
    return absl::OkStatus();
  }
  texts.generation = generation_ + 1;
  loaded_ = *std::move(loaded);
  ++generation_;
  return absl::OkStatus();
}

TlsMaterial::Texts TlsMaterial::texts() const {
  MutexLock lock(mutex_);
  return loaded_->texts;
}

WallTime TlsMaterial::expires() const {
  MutexLock lock(mutex_);
  return loaded_->expires;
}

SslContext TlsMaterial::server_context() const {
  MutexLock lock(mutex_);
  SSL_CTX_up_ref(loaded_->context.get());
  return SslContext(loaded_->context.get());
}

std::vector<std::string> CertificateNames(const X509* certificate) {
  std::vector<std::string> names;
  if (certificate == nullptr) return names;
  const Names alternatives(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  const int count = alternatives ? sk_GENERAL_NAME_num(alternatives.get()) : 0;
  for (const auto& [type, kind] : {std::pair(GEN_URI, "uri:"), std::pair(GEN_DNS, "dns:")}) {
    for (int i = 0; i < count; ++i) {
      const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
      // Both are IA5 strings at the same place of the union.
      if (name->type == type) names.push_back(kind + NameText(name->d.ia5));
    }
  }
  X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) {
    names.push_back("cn:" + NameText(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
  }
  return names;
}

std::vector<std::string> PeerCertificateNames(const SSL* connection) {
  const Certificate peer(SSL_get1_peer_certificate(connection));
  return CertificateNames(peer.get());
}

}  // namespace mnemo

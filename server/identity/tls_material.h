// The node's certificate, key and client CA, read from files again while it runs.
//
// One holder for every listener: gRPC takes the texts, a plain OpenSSL listener
// takes a context, and both see a new certificate with the next handshake.
// Connections that are open stay as they are.
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Whether a client must show a certificate. One that is shown must always be
// good.
enum class ClientCertificates : uint8_t { kOff, kOptional, kRequired };

struct TlsFiles {
  std::string certificate;  // PEM: the node's own, then what leads to its CA
  std::string key;          // PEM, not encrypted; may be the same file
  std::string client_ca;    // PEM, of clients' certificates; empty: none are asked for
  ClientCertificates clients = ClientCertificates::kRequired;
};

struct SslContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

// Thread-safe.
class TlsMaterial {
 public:
  struct Texts {
    std::string certificate;
    std::string key;
    std::string client_ca;
    uint64_t generation = 0;
  };

  // Reads and checks: each text parses, the key belongs to the certificate, the
  // certificate is in its time. Errors: kInvalidArgument, kNotFound,
  // kPermissionDenied; the file is named, never what is in it.
  static absl::StatusOr<std::unique_ptr<TlsMaterial>> Load(const TlsFiles& files,
                                                           FileSystem& file_system, Clock& clock);

  // Reads the files again and takes over what is in them if all of it is good
  // and any of it differs; otherwise what was there stays. Returns the error, as
  // of Load. A certificate and key that do not belong together are read once more
  // first: they may be in the middle of being replaced.
  absl::Status Reload();

  // Grows with each change that was taken over.
  uint64_t generation() const { return generation_; }
  Texts texts() const;
  // When the certificate ends.
  WallTime expires() const;
  ClientCertificates clients() const { return files_.clients; }

  // A server context of the newest generation: TLS 1.2 or newer, the client's
  // certificate asked for and checked as configured, no session tickets. Of the
  // caller's own count; make each connection's SSL from one taken just before.
  SslContext server_context() const;

 private:
  struct Loaded;
  TlsMaterial(const TlsFiles& files, FileSystem& file_system, Clock& clock);
  absl::StatusOr<std::unique_ptr<Loaded>> Read() const;

  const TlsFiles files_;
  FileSystem& file_system_;
  Clock& clock_;
  std::atomic<uint64_t> generation_{0};
  mutable Mutex mutex_;
  std::unique_ptr<const Loaded> loaded_ ABSL_GUARDED_BY(mutex_);

 public:
  ~TlsMaterial();
};

// The names of a checked client certificate, for Credentials::certificate_names:
// "uri:spiffe://acme/engine", "dns:engine.acme", "cn:engine", in this order of
// kinds. Null gives none.
std::vector<std::string> CertificateNames(const X509* certificate);
// Of the peer of a finished handshake.
std::vector<std::string> PeerCertificateNames(const SSL* connection);

}  // namespace mnemo

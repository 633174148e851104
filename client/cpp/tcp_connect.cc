#include "client/cpp/tcp_connect.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using Time = std::chrono::steady_clock::time_point;

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Addresses = std::unique_ptr<addrinfo, Freed<::freeaddrinfo>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using TlsContext = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;

// "host" and "port" of "host:port" and "[host]:port".
std::pair<std::string, std::string> Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {address, ""};
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

// False: the deadline has passed.
bool PollUntil(int socket, short events, Time deadline) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waits{.fd = socket, .events = events, .revents = 0};
    if (::poll(&waits, 1, static_cast<int>(std::min<int64_t>(left.count(), 60'000))) > 0) {
      return true;
    }
  }
}

absl::StatusOr<Descriptor> ConnectTo(const addrinfo& to, const std::string& address,
                                     Time deadline) {
  Descriptor socket(::socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return absl::ResourceExhaustedError("no descriptor for a socket");
  SendUnpacedWithinHost(socket.get(), to.ai_addr);
  int error = ::connect(socket.get(), to.ai_addr, to.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    if (!PollUntil(socket.get(), POLLOUT, deadline)) {
      return absl::DeadlineExceededError(address + ": not connected in time");
    }
    socklen_t size = sizeof(error);
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0) return absl::UnavailableError(address + ": " + std::strerror(error));
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  return socket;
}

absl::Status BadPem(const char* field) {
  ERR_clear_error();
  return absl::InvalidArgumentError(std::string("tls.") + field +
                                    " is no PEM that can be read without a passphrase");
}

// A key with a passphrase is refused, not asked for on a terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

Bio OpenText(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status Show(SSL_CTX* context, const TlsOptions& tls) {
  const Bio chain = OpenText(tls.certificate);
  const Certificate own(PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr));
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) return BadPem("certificate");
  while (Certificate next{PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr)}) {
    if (SSL_CTX_add1_chain_cert(context, next.get()) != 1) return BadPem("certificate");
  }
  ERR_clear_error();  // the end of the text is one
  const Key key(PEM_read_bio_PrivateKey(OpenText(tls.key).get(), nullptr, NoPassphrase, nullptr));
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1) return BadPem("key");
  return absl::OkStatus();
}

absl::StatusOr<TlsContext> MakeContext(const TlsOptions& tls) {
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  if (!context) return absl::ResourceExhaustedError("no memory for TLS");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (tls.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else {
    const Bio text = OpenText(tls.ca);
    int count = 0;
    while (Certificate ca{PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr)}) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), ca.get());
      ++count;
    }
    ERR_clear_error();
    if (count == 0) return BadPem("ca");
  }
  if (!tls.certificate.empty()) MNEMO_RETURN_IF_ERROR(Show(context.get(), tls));
  return context;
}

absl::Status Handshake(SSL* ssl, int socket, Time deadline) {
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl);
    if (result == 1) return absl::OkStatus();
    const int error = SSL_get_error(ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
      if (PollUntil(socket, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline)) continue;
      return absl::DeadlineExceededError("TLS: no handshake in time");
    }
    const long verified = SSL_get_verify_result(ssl);
    const char* reason = verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                               : ERR_reason_error_string(ERR_peek_error());
    return absl::UnavailableError(std::string("TLS: ") +
                                  (reason != nullptr ? reason : "the daemon ended the handshake"));
  }
}

}  // namespace

absl::Status LookupError(const std::string& address, int error) {
  const std::string message = address + ": " + ::gai_strerror(error);
  switch (error) {
    case EAI_AGAIN:
    case EAI_MEMORY:
    case EAI_SYSTEM:
      return absl::UnavailableError(message);
    default:
      return absl::InvalidArgumentError(message);
  }
}

StreamHost HostOfStream(const std::string& target, const std::string& said) {
  const auto [host, port] = Split(said);
  const bool of_any = host == "0.0.0.0" || host == "::";
  const bool by_socket = target.starts_with("unix:");
  const std::string target_host = by_socket ? "" : Split(target).first;
  if (!of_any) return {said, by_socket ? host : target_host};
  const std::string to = by_socket ? (host == "::" ? "::1" : "127.0.0.1") : target_host;
  const bool v6 = to.find(':') != std::string::npos;
  return {(v6 ? "[" + to + "]:" : to + ":") + port, to};
}

absl::StatusOr<std::unique_ptr<stream::StreamSocket>> ConnectTcp(
    const std::string& address, const std::string& host, const std::optional<TlsOptions>& tls,
    Time deadline) {
  const auto [name, port] = Split(address);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = ::getaddrinfo(name.c_str(), port.c_str(), &hints, &list); error != 0) {
    return LookupError(address, error);
  }
  const Addresses found(list);
  absl::StatusOr<Descriptor> socket = absl::UnavailableError(address + ": no address");
  for (const addrinfo* to = list; to != nullptr && !socket.ok(); to = to->ai_next) {
    socket = ConnectTo(*to, address, deadline);
  }
  MNEMO_RETURN_IF_ERROR(socket.status());
  if (!tls) return stream::StreamSocket::MakePlain(*std::move(socket));
  MNEMO_ASSIGN_OR_RETURN(const TlsContext context, MakeContext(*tls));
  stream::StreamSocket::SslConnection ssl(SSL_new(context.get()));
  if (!ssl) return absl::ResourceExhaustedError("no memory for TLS");
  SSL_set_connect_state(ssl.get());
  const std::string& expected = tls->server_name.empty() ? host : tls->server_name;
  // An address is checked as one, and is no name that a server could be asked for.
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), expected.c_str()) != 1) {
    ERR_clear_error();
    // An empty name would be no check at all.
    if (expected.empty() || SSL_set1_host(ssl.get(), expected.c_str()) != 1) {
      return absl::InvalidArgumentError(
          "the target names no host whose certificate could be checked");
    }
    SSL_set_tlsext_host_name(ssl.get(), expected.c_str());
  }
  MNEMO_ASSIGN_OR_RETURN(auto made,
                         stream::StreamSocket::MakeTls(*std::move(socket), std::move(ssl)));
  MNEMO_RETURN_IF_ERROR(Handshake(made->ssl(), made->descriptor(), deadline));
  return made;
}

}  // namespace mnemo::client

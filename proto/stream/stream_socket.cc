#include "proto/stream/stream_socket.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo::stream {
namespace {

class PlainSocket final : public StreamSocket {
 public:
  explicit PlainSocket(Descriptor socket) : StreamSocket(std::move(socket)) {}
  Received Receive(std::span<const iovec> into, std::vector<Descriptor>& descriptors) override {
    return mnemo::Receive(descriptor(), into, descriptors);
  }
  ssize_t Send(std::span<const iovec> pieces, int descriptor_sent) override {
    return SendSome(descriptor(), pieces, descriptor_sent);
  }
};

// OpenSSL's own BIO of a socket raises SIGPIPE when the peer has gone.
int SocketOf(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int WriteToSocket(BIO* bio, const char* bytes, size_t size, size_t* written) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = SendSome(
      SocketOf(bio), ByteView(reinterpret_cast<const uint8_t*>(bytes), size), /*descriptor=*/-1);
  if (sent == 0) BIO_set_retry_write(bio);
  *written = sent > 0 ? static_cast<size_t>(sent) : 0;
  return sent > 0 ? 1 : 0;
}

int ReadFromSocket(BIO* bio, char* bytes, size_t size, size_t* read) {
  BIO_clear_retry_flags(bio);
  ssize_t got = 0;
  do {
    got = ::recv(SocketOf(bio), bytes, size, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) BIO_set_retry_read(bio);
  *read = got > 0 ? static_cast<size_t>(got) : 0;
  return got > 0 ? 1 : 0;
}

long ControlSocket(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* SocketMethod() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mnemo stream");
    MNEMO_CHECK(made != nullptr);
    BIO_meth_set_write_ex(made, WriteToSocket);
    BIO_meth_set_read_ex(made, ReadFromSocket);
    BIO_meth_set_ctrl(made, ControlSocket);
    return made;
  }();
  return method;
}

class TlsSocket final : public StreamSocket {
 public:
  TlsSocket(Descriptor socket, SslConnection ssl)
      : StreamSocket(std::move(socket)), ssl_(std::move(ssl)) {}

  SSL* ssl() const override { return ssl_.get(); }
  std::string handshake_error() const override { return handshake_error_; }
  bool has_more() const override { return SSL_has_pending(ssl_.get()) != 0; }
  bool reading_wants_room() const override { return reading_wants_room_; }

  Received Receive(std::span<const iovec> into, std::vector<Descriptor>&) override {
    Received received;
    for (const iovec& piece : into) {
      auto* to = static_cast<uint8_t*>(piece.iov_base);
      size_t left = piece.iov_len;
      while (left > 0) {
        size_t got = 0;
        ERR_clear_error();
        const int result = SSL_read_ex(ssl_.get(), to, left, &got);
        reading_wants_room_ = false;
        if (result != 1) return Ended(result, received);
        received.state = Received::State::kBytes;
        received.bytes += got;
        to += got;
        left -= got;
      }
    }
    return received;
  }

  ssize_t Send(std::span<const iovec> pieces, int) override {
    ssize_t sent = 0;
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const uint8_t*>(piece.iov_base);
      size_t left = piece.iov_len;
      while (left > 0) {
        size_t written = 0;
        ERR_clear_error();
        const int result = SSL_write_ex(ssl_.get(), from, left, &written);
        if (result != 1) {
          const int error = SSL_get_error(ssl_.get(), result);
          const bool later = error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
          return sent > 0 || later ? sent : -1;
        }
        sent += static_cast<ssize_t>(written);
        from += written;
        left -= written;
      }
    }
    return sent;
  }

 private:
  // SSL_read gave nothing more. What came before counts first.
  Received Ended(int result, Received received) {
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_WRITE) reading_wants_room_ = true;
    if (received.bytes > 0 || error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
      return received;
    }
    if (SSL_is_init_finished(ssl_.get()) == 0) {
      const unsigned long code = ERR_peek_error();
      const char* const reason = ERR_reason_error_string(code);
      const long verified = SSL_get_verify_result(ssl_.get());
      if (verified != X509_V_OK) {
        handshake_error_ = X509_verify_cert_error_string(verified);
      } else if (reason != nullptr) {
        handshake_error_ = reason;
      } else {
        handshake_error_ = "the peer ended the handshake";
      }
    }
    return {.state = Received::State::kEnd};
  }

  const SslConnection ssl_;
  std::string handshake_error_;
  bool reading_wants_room_ = false;
};

}  // namespace

Received StreamSocket::Receive(MutableByteView into, std::vector<Descriptor>& descriptors) {
  const iovec piece{.iov_base = into.data(), .iov_len = into.size()};
  return Receive(std::span(&piece, 1), descriptors);
}

std::unique_ptr<StreamSocket> StreamSocket::MakePlain(Descriptor socket) {
  return std::make_unique<PlainSocket>(std::move(socket));
}

absl::StatusOr<std::unique_ptr<StreamSocket>> StreamSocket::MakeTls(Descriptor socket,
                                                                    SslConnection ssl) {
  BIO* const bio = ssl ? BIO_new(SocketMethod()) : nullptr;
  if (bio == nullptr) return absl::ResourceExhaustedError("no memory for a TLS connection");
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(socket.get())));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);
  // What a socket did not take may come from another place the next time.
  SSL_set_mode(ssl.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return std::make_unique<TlsSocket>(std::move(socket), std::move(ssl));
}

}  // namespace mnemo::stream

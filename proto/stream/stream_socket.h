// What frames travel over: a connected socket, plain or under TLS. Both ends use it.
#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/descriptor.h"
#include "storage/base/local_socket.h"

namespace mnemo::stream {

// None of its calls waits. Where it is plain, one thread may send while another
// receives; under TLS one thread at a time does either.
class StreamSocket {
 public:
  virtual ~StreamSocket() = default;
  StreamSocket(const StreamSocket&) = delete;
  StreamSocket& operator=(const StreamSocket&) = delete;

  // `socket` is connected, and does not block.
  static std::unique_ptr<StreamSocket> MakePlain(Descriptor socket);
  // Which end of the handshake this is, `ssl` knows; it is made by the first calls.
  // Errors: kResourceExhausted.
  struct SslDeleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  using SslConnection = std::unique_ptr<SSL, SslDeleter>;
  static absl::StatusOr<std::unique_ptr<StreamSocket>> MakeTls(Descriptor socket,
                                                               SslConnection ssl);

  int descriptor() const { return socket_.get(); }
  // Not null under TLS.
  virtual SSL* ssl() const { return nullptr; }
  // Under TLS: why it has come to no handshake; empty: it has, or may come yet.
  virtual std::string handshake_error() const { return {}; }

  // As mnemo::Receive: fills `into` piece after piece with what is there.
  virtual Received Receive(std::span<const iovec> into, std::vector<Descriptor>& descriptors) = 0;
  Received Receive(MutableByteView into, std::vector<Descriptor>& descriptors);
  // As mnemo::SendSome. What was not taken is the beginning of what the next call
  // brings, wherever it lies then.
  virtual ssize_t Send(std::span<const iovec> pieces, int descriptor) = 0;
  // Bytes have come that no event of the socket will tell of.
  virtual bool has_more() const { return false; }
  // Receive goes on only once the socket takes bytes.
  virtual bool reading_wants_room() const { return false; }

 protected:
  explicit StreamSocket(Descriptor socket) : socket_(std::move(socket)) {}
  const Descriptor socket_;
};

}  // namespace mnemo::stream

// The daemon's end of a stream, in the hands of a test.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <utility>

#include "proto/stream/frame.h"
#include "proto/stream/messages.h"
#include "storage/base/descriptor.h"

namespace mnemo::client {

// The daemon's end of a stream: takes frames when a test says so.
class Peer {
 public:
  explicit Peer(int socket) : socket_(socket) {}
  // The next request.
  stream::Header Take() {
    if (next_) return *std::exchange(next_, std::nullopt);
    for (;;) {
      if (const auto frame = reader_.Next()) return frame->header;
      const MutableByteView room = reader_.Room();
      const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), 0);
      if (got <= 0) return {.type = stream::FrameType::kClose};
      reader_.Filled(static_cast<size_t>(got));
    }
  }
  // A request, or some of one, lies there.
  bool HasMore() {
    pollfd waits{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (next_ || ::poll(&waits, 1, 0) > 0) return true;
    if (const auto frame = reader_.Next()) next_ = frame->header;
    return next_.has_value();
  }
  void Greet(uint32_t max_requests) {
    const stream::Header hello = Take();
    Answer(stream::FrameType::kHello, hello.id,
           Encode(stream::Welcome{.max_requests = max_requests}));
  }
  void Answer(stream::FrameType type, uint64_t id, const std::string& body) {
    Send(stream::MakeFrame({.type = type, .answer = true, .id = id}, body));
  }
  void Send(const std::string& frame) {
    ASSERT_EQ(::send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(frame.size()));
  }

 private:
  const Descriptor socket_;  // blocks
  stream::FrameReader reader_{stream::End::kServer};
  std::optional<stream::Header> next_;  // that was looked at
};

}  // namespace mnemo::client

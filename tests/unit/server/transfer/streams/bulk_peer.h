// What a client of another host says: PUT and GET with their payload in the stream.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "storage/codec/envelope.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/streams/stream_fixture.h"

namespace mnemo {

inline std::string DataFrame(uint64_t id, uint32_t index, uint64_t offset,
                             std::string_view payload) {
  return stream::MakeDataFrame({.type = stream::FrameType::kData, .id = id},
                               stream::Encode(stream::Data{.index = index, .offset = offset}),
                               static_cast<uint32_t>(payload.size())) +
         std::string(payload);
}

// Text that is nowhere the same.
inline std::string PayloadOf(size_t size, uint32_t seed) {
  std::string text(size, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& c : text) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

// Reads the CREDIT of request `id`; none: something else came.
inline std::optional<stream::Credit> ReadCredit(StreamPeer& peer, uint64_t id) {
  const auto frame = peer.Read();
  stream::Credit credit;
  if (!frame || frame->header.type != stream::FrameType::kCredit || frame->header.id != id ||
      !stream::Decode(AsBytes(frame->body), credit)) {
    return std::nullopt;
  }
  return credit;
}

// Sends all of `payload` as part 0 of request `id`, as far as each credit goes. False:
// the stream, or the request, has ended before.
inline bool SendAll(StreamPeer& peer, uint64_t id, std::string_view payload) {
  uint64_t credit = 0;
  for (uint64_t at = 0; at < payload.size();) {
    if (at == credit) {
      const auto more = ReadCredit(peer, id);
      if (!more || more->bytes <= credit) return false;
      credit = more->bytes;
    }
    const uint64_t size =
        std::min<uint64_t>({stream::kMaxDataBytes, credit - at, payload.size() - at});
    if (!peer.Write(DataFrame(id, 0, at, payload.substr(at, size)))) return false;
    at += size;
  }
  return true;
}

// Reads frames until the answer of request `id`, and decodes it; credits go by. DATA is
// put together, part by part, in `payloads`.
template <typename AnswerBody>
absl::Status ReadAnswer(StreamPeer& peer, uint64_t id, AnswerBody& answer,
                        std::vector<std::string>* payloads = nullptr) {
  while (auto frame = peer.Read()) {
    if (frame->header.id != id || frame->header.type == stream::FrameType::kCredit) continue;
    if (frame->header.type == stream::FrameType::kClose) break;
    absl::Status status;
    if (frame->header.type != stream::FrameType::kData) {
      if (!stream::Decode(AsBytes(frame->body), status, answer)) {
        return absl::InternalError("the answer is malformed");
      }
      return status;
    }
    stream::Data data;
    if (!stream::Decode(AsBytes(frame->body), data) || payloads == nullptr ||
        data.index >= payloads->size() || data.offset != (*payloads)[data.index].size()) {
      return absl::InternalError("payload that was not to come");
    }
    (*payloads)[data.index] += frame->payload;
  }
  return absl::UnavailableError("the stream has ended");
}

// A server with streams over TCP.
class BulkStreamTest : public StreamTest {
 protected:
  explicit BulkStreamTest(const IdentityOptions& identity = {}, const GateOptions& gate = {})
      : StreamTest(identity, gate, {.tcp_address = "127.0.0.1:0"}) {
    OpenSpace("opaque");
  }

  StreamPeer Unknown() { return StreamPeer::Tcp(server_->tcp_address()); }
  StreamPeer Known() {
    StreamPeer peer = Unknown();
    EXPECT_OK(peer.Hello().status());
    return peer;
  }
  uint64_t BeginPut(StreamPeer& peer, std::string_view key, uint64_t size,
                    uint32_t timeout_ms = 0) {
    return peer.Send(stream::FrameType::kPut, Encode(PutOf(stream::kInStream, 0, key, size)), -1,
                     timeout_ms);
  }
  uint64_t BeginGet(StreamPeer& peer, std::string_view key, uint64_t room) {
    return peer.Send(stream::FrameType::kGet, Encode(GetOf(stream::kInStream, 0, key, room)));
  }
  absl::StatusOr<stream::PutAnswer::Part> Put(StreamPeer& peer, std::string_view key,
                                              std::string_view payload) {
    const uint64_t id = BeginPut(peer, key, payload.size());
    if (!SendAll(peer, id, payload)) return absl::UnavailableError("the payload was not taken");
    stream::PutAnswer answer;
    if (absl::Status status = ReadAnswer(peer, id, answer); !status.ok()) return status;
    return answer.parts.at(0);
  }
  absl::StatusOr<std::string> Get(StreamPeer& peer, std::string_view key, uint64_t room) {
    const uint64_t id = BeginGet(peer, key, room);
    std::vector<std::string> payloads(1);
    stream::GetAnswer answer;
    if (absl::Status status = ReadAnswer(peer, id, answer, &payloads); !status.ok()) return status;
    if (!answer.parts.at(0).status.ok()) return answer.parts[0].status;
    EXPECT_EQ(answer.parts[0].bytes, payloads[0].size());
    EXPECT_EQ(answer.parts[0].digest, DigestOf(payloads[0]));
    return payloads[0];
  }
  static Digest128 DigestOf(std::string_view text) {
    StreamingDigest128 digest;
    digest.Update(AsBytes(text));
    return digest.Digest();
  }
  bool Holds(std::string_view key) {
    CallContext call;
    const auto found =
        blocks_->Describe(call, {.space = std::string("opaque"), .keys = {.keys = {key}}});
    return found.ok() && !found->empty();
  }
  // For longer than a stream may stand still.
  void PassTime() {
    clock_.Advance(GateOptions{}.stall_limit + std::chrono::seconds(1));
    gate_->watchdog().Scan();
  }
  // Until so many have been cut for it: one may have begun to stand still only now.
  void PassUntilStalled(uint64_t count) {
    while (streams_.closed(stream::CloseReason::kStalled) < count) {
      PassTime();
      std::this_thread::yield();
    }
  }
};

}  // namespace mnemo

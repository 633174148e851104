// The frames of the stream protocol, without sockets: docs/formats/stream-protocol.md.
//
// Both ends use it. Nothing in a frame is believed before it was checked: a header
// before its length, a length before memory is taken, a body before it is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "storage/base/bytes.h"

namespace mnemo::stream {

// On the wire: never renumber. An answer has the number of its request, plus 128.
enum class FrameType : uint8_t {
  kHello = 1,
  kRegister = 2,
  kUnregister = 3,
  kMatch = 4,
  kOffer = 5,
  kGet = 6,
  kPut = 7,
  kTouch = 8,
  kPrefetch = 9,
  kCancel = 16,  // has no answer of its own
  kClose = 17,   // of either end; has no answer
  kCredit = 18,  // of the server alone, as if it were an answer
  kData = 19,    // payload: of a PUT from the client, of a GET as if it were an answer
};
inline constexpr uint8_t kAnswerBit = 0x80;

// Why a stream ends. On the wire: never renumber.
enum class CloseReason : uint8_t {
  kNone = 0,       // it goes on
  kDone = 1,       // whoever says so has no more to ask
  kShutdown = 2,   // the daemon stops
  kMagic = 3,      // not the bytes that begin a frame
  kVersion = 4,    // a version that this end does not speak
  kType = 5,       // a type that does not exist, or not in this direction
  kLength = 6,     // a body longer than its type may have
  kChecksum = 7,   // header or body are damaged
  kBody = 8,       // a body that is not what its type says
  kOrder = 9,      // a frame that may not come now
  kTicket = 10,    // neither uid nor ticket leads to anybody, or no longer
  kStalled = 11,   // no progress for too long
  kOverload = 12,  // more at once than was agreed, or than there is memory for
  kLost = 13,      // never sent: the peer went away
  kTls = 14,       // never sent: no TLS came about, as with a certificate of another CA
};
inline constexpr size_t kCloseReasonCount = 15;
// "done", "shutdown", ...: the label of metrics.
std::string_view CloseReasonLabel(CloseReason reason);

inline constexpr size_t kHeaderBytes = 32;
inline constexpr uint8_t kVersion = 1;
// Longest body of any type.
inline constexpr uint32_t kMaxBodyBytes = 8u << 20;
// A DATA frame's body: what its payload is, and the payload itself, which is not in the
// body's checksum; the digest of its part covers it.
inline constexpr uint32_t kDataHeadBytes = 12;
inline constexpr uint32_t kMaxDataBytes = 1u << 20;

struct Header {
  FrameType type = FrameType::kHello;
  bool answer = false;
  uint32_t body_bytes = 0;
  // Of a request: how long its sender waits, in milliseconds; 0: as long as the
  // server lets it.
  uint32_t timeout_ms = 0;
  // Of a request: chosen by the client, and not of one that is under way. Of an
  // answer: that of its request.
  uint64_t id = 0;
  uint32_t body_checksum = 0;
  friend bool operator==(const Header&, const Header&) = default;
};

// Which end reads: requests come to the server, answers to the client.
enum class End : uint8_t { kServer, kClient };

// Longest body of a type; 0 for none.
uint32_t MaxBodyBytes(FrameType type, bool answer);

// Reads kHeaderBytes bytes. kNone: `header` is what was sent; kMagic, kVersion,
// kChecksum, kType, kLength: the first of these that is wrong.
CloseReason ParseHeader(const uint8_t* bytes, End end, Header& header);

// A whole frame. The checksums are made here. `body` is within MaxBodyBytes.
struct FrameHead {
  FrameType type = FrameType::kHello;
  bool answer = false;
  uint32_t timeout_ms = 0;
  uint64_t id = 0;
};
std::string MakeFrame(const FrameHead& head, std::string_view body);
// The beginning of a DATA frame, behind which `payload_bytes` bytes follow: 1 to
// kMaxDataBytes. `data` is kDataHeadBytes long.
std::string MakeDataFrame(const FrameHead& head, std::string_view data, uint32_t payload_bytes);

// CRC-32 of IEEE 802.3, that of zlib: Python's standard library has it too.
uint32_t Checksum32(ByteView bytes);

// A whole frame that was received; of DATA, what stands before the payload. A view.
struct Frame {
  Header header;
  ByteView body;
};

// Puts frames together from bytes that come in pieces. Not thread-safe.
// The payload of a DATA frame is its reader's to take from where the bytes come from;
// only what came along with its head is here.
// Memory: at most twice what has come of the frame under way, and 16 KiB; none after
// Rest while there is nothing.
class FrameReader {
 public:
  explicit FrameReader(End end) : end_(end) {}

  // Where the next bytes go, at least one. Ends the life of earlier frames.
  MutableByteView Room();
  // So many bytes of Room() have been filled.
  void Filled(size_t bytes);
  // The first whole frame that was not taken yet. None: more is needed, or the
  // stream is broken, as reason() says; nothing more comes of it then.
  std::optional<Frame> Next();

  // Bytes of payload that follow the DATA frame that Next gave last; while there are
  // any, Next gives nothing.
  uint32_t payload_left() const { return payload_left_; }
  // Those of them that are here. Ends with Room.
  ByteView payload() const;
  // So many were taken: of payload(), or where that is empty, of those that follow.
  void TookPayload(size_t bytes);

  // Nothing comes for a while: gives back what is not needed. Ends the life of
  // earlier frames.
  void Rest();

  CloseReason reason() const { return reason_; }
  // Bytes that are here of a frame that is not whole.
  size_t partial() const { return filled_ - begin_; }
  // Of the frame under way, if its header is here: how long its body will be.
  uint32_t announced() const { return announced_; }

 private:
  const End end_;
  CloseReason reason_ = CloseReason::kNone;
  std::unique_ptr<uint8_t[]> bytes_;
  size_t capacity_ = 0;
  size_t begin_ = 0;   // of what was not taken
  size_t filled_ = 0;  // its end
  uint32_t announced_ = 0;
  uint32_t payload_left_ = 0;
};

}  // namespace mnemo::stream

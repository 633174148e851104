#include "proto/stream/frame.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo::stream {
namespace {

constexpr uint8_t kMagic[4] = {'M', 'N', 'S', 'P'};
// Where the fields of a header lie.
constexpr size_t kVersionAt = 4;
constexpr size_t kTypeAt = 5;
constexpr size_t kFlagsAt = 6;
constexpr size_t kBodyBytesAt = 8;
constexpr size_t kTimeoutAt = 12;
constexpr size_t kIdAt = 16;
constexpr size_t kBodyChecksumAt = 24;
constexpr size_t kHeaderChecksumAt = 28;

constexpr size_t kLeastRoom = 16384;

bool IsKnown(FrameType type) {
  switch (type) {
    case FrameType::kHello:
    case FrameType::kRegister:
    case FrameType::kUnregister:
    case FrameType::kMatch:
    case FrameType::kOffer:
    case FrameType::kGet:
    case FrameType::kPut:
    case FrameType::kTouch:
    case FrameType::kPrefetch:
    case FrameType::kCancel:
    case FrameType::kClose:
    case FrameType::kCredit:
    case FrameType::kData:
      return true;
  }
  return false;
}

bool HasAnswer(FrameType type) { return type != FrameType::kCancel && type != FrameType::kClose; }

// Requests go to the server and answers to the client; a close goes both ways.
bool ComesTo(End end, FrameType type, bool answer) {
  if (!IsKnown(type) || (answer && !HasAnswer(type))) return false;
  if (type == FrameType::kCredit && !answer) return false;
  return type == FrameType::kClose || answer == (end == End::kClient);
}

}  // namespace

std::string_view CloseReasonLabel(CloseReason reason) {
  switch (reason) {
    case CloseReason::kNone:
      return "none";
    case CloseReason::kDone:
      return "done";
    case CloseReason::kShutdown:
      return "shutdown";
    case CloseReason::kMagic:
      return "magic";
    case CloseReason::kVersion:
      return "version";
    case CloseReason::kType:
      return "type";
    case CloseReason::kLength:
      return "length";
    case CloseReason::kChecksum:
      return "checksum";
    case CloseReason::kBody:
      return "body";
    case CloseReason::kOrder:
      return "order";
    case CloseReason::kTicket:
      return "ticket";
    case CloseReason::kStalled:
      return "stalled";
    case CloseReason::kOverload:
      return "overload";
    case CloseReason::kLost:
      return "lost";
    case CloseReason::kTls:
      return "tls";
  }
  return "unknown";
}

uint32_t MaxBodyBytes(FrameType type, bool answer) {
  switch (type) {
    case FrameType::kHello:
    case FrameType::kRegister:
    case FrameType::kUnregister:
    case FrameType::kClose:
      return 1024;
    case FrameType::kCancel:
      return 0;
    case FrameType::kTouch:
    case FrameType::kPrefetch:
      return answer ? 1024 : kMaxBodyBytes;
    case FrameType::kCredit:
      return 32768;
    case FrameType::kData:
      return kDataHeadBytes + kMaxDataBytes;
    default:
      return kMaxBodyBytes;
  }
}

uint32_t Checksum32(ByteView bytes) {
  return static_cast<uint32_t>(crc32_z(crc32_z(0, nullptr, 0), bytes.data(), bytes.size()));
}

CloseReason ParseHeader(const uint8_t* bytes, End end, Header& header) {
  if (!std::equal(std::begin(kMagic), std::end(kMagic), bytes)) return CloseReason::kMagic;
  // Before the checksum: another version may have its checksum elsewhere.
  if (bytes[kVersionAt] != kVersion) return CloseReason::kVersion;
  if (LoadLittle<uint32_t>(bytes + kHeaderChecksumAt) != Checksum32({bytes, kHeaderChecksumAt})) {
    return CloseReason::kChecksum;
  }
  header.type = static_cast<FrameType>(bytes[kTypeAt] & ~kAnswerBit);
  header.answer = (bytes[kTypeAt] & kAnswerBit) != 0;
  header.body_bytes = LoadLittle<uint32_t>(bytes + kBodyBytesAt);
  header.timeout_ms = LoadLittle<uint32_t>(bytes + kTimeoutAt);
  header.id = LoadLittle<uint64_t>(bytes + kIdAt);
  header.body_checksum = LoadLittle<uint32_t>(bytes + kBodyChecksumAt);
  // A flag that this version does not know may change what the frame means.
  if (LoadLittle<uint16_t>(bytes + kFlagsAt) != 0) return CloseReason::kVersion;
  if (!ComesTo(end, header.type, header.answer)) return CloseReason::kType;
  if (header.body_bytes > MaxBodyBytes(header.type, header.answer)) return CloseReason::kLength;
  // Payload of nothing would be a frame that costs its sender nothing.
  if (header.type == FrameType::kData && header.body_bytes <= kDataHeadBytes) {
    return CloseReason::kLength;
  }
  return CloseReason::kNone;
}

namespace {

// A frame with `body`, behind which `following` bytes of its body come.
std::string Make(const FrameHead& head, std::string_view body, uint32_t following) {
  MNEMO_CHECK(body.size() + following <= MaxBodyBytes(head.type, head.answer));
  std::string frame(kHeaderBytes, '\0');
  frame.reserve(kHeaderBytes + body.size());
  auto* const bytes = reinterpret_cast<uint8_t*>(frame.data());
  std::copy(std::begin(kMagic), std::end(kMagic), bytes);
  bytes[kVersionAt] = kVersion;
  bytes[kTypeAt] =
      static_cast<uint8_t>(static_cast<uint8_t>(head.type) | (head.answer ? kAnswerBit : 0));
  StoreLittle(bytes + kBodyBytesAt, static_cast<uint32_t>(body.size()) + following);
  StoreLittle(bytes + kTimeoutAt, head.timeout_ms);
  StoreLittle(bytes + kIdAt, head.id);
  StoreLittle(bytes + kBodyChecksumAt, Checksum32(AsBytes(body)));
  StoreLittle(bytes + kHeaderChecksumAt, Checksum32({bytes, kHeaderChecksumAt}));
  frame.append(body);
  return frame;
}

}  // namespace

std::string MakeFrame(const FrameHead& head, std::string_view body) { return Make(head, body, 0); }

std::string MakeDataFrame(const FrameHead& head, std::string_view data, uint32_t payload_bytes) {
  MNEMO_CHECK(data.size() == kDataHeadBytes && payload_bytes > 0);
  return Make(head, data, payload_bytes);
}

MutableByteView FrameReader::Room() {
  if (begin_ == filled_) begin_ = filled_ = 0;
  if (begin_ > 0 || filled_ == capacity_) {
    const size_t kept = filled_ - begin_;
    const size_t wanted = std::max(kLeastRoom, 2 * kept);
    if (wanted > capacity_) {
      std::unique_ptr<uint8_t[]> larger(new uint8_t[wanted]);
      CopyInto({bytes_.get() + begin_, kept}, larger.get());
      bytes_ = std::move(larger);
      capacity_ = wanted;
    } else if (begin_ > 0) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, kept);
    }
    begin_ = 0;
    filled_ = kept;
  }
  return {bytes_.get() + filled_, capacity_ - filled_};
}

void FrameReader::Rest() {
  if (begin_ < filled_) return;
  bytes_.reset();
  begin_ = filled_ = capacity_ = 0;
}

void FrameReader::Filled(size_t bytes) {
  MNEMO_CHECK(bytes <= capacity_ - filled_);
  filled_ += bytes;
}

ByteView FrameReader::payload() const {
  return {bytes_.get() + begin_, std::min<size_t>(filled_ - begin_, payload_left_)};
}

void FrameReader::TookPayload(size_t bytes) {
  MNEMO_CHECK(bytes <= payload_left_);
  const size_t here = payload().size();
  MNEMO_CHECK(here == 0 || bytes <= here);
  if (here > 0) begin_ += bytes;
  payload_left_ -= static_cast<uint32_t>(bytes);
}

std::optional<Frame> FrameReader::Next() {
  announced_ = 0;
  if (payload_left_ > 0) return std::nullopt;
  if (reason_ != CloseReason::kNone || partial() < kHeaderBytes) return std::nullopt;
  Frame frame;
  reason_ = ParseHeader(bytes_.get() + begin_, end_, frame.header);
  if (reason_ != CloseReason::kNone) return std::nullopt;
  const bool data = frame.header.type == FrameType::kData;
  const uint32_t body_bytes = data ? kDataHeadBytes : frame.header.body_bytes;
  const size_t whole = kHeaderBytes + body_bytes;
  if (partial() < whole) {
    announced_ = body_bytes;
    return std::nullopt;
  }
  frame.body = {bytes_.get() + begin_ + kHeaderBytes, body_bytes};
  if (Checksum32(frame.body) != frame.header.body_checksum) {
    reason_ = CloseReason::kChecksum;
    return std::nullopt;
  }
  begin_ += whole;
  payload_left_ = frame.header.body_bytes - body_bytes;
  return frame;
}

}  // namespace mnemo::stream

// Both ends of the stream protocol against whatever bytes. The first byte says which
// end reads and in which pieces the bytes come; the second makes of the rest the body
// of one good frame, so that the bodies' readers are reached past the checksums.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "proto/stream/messages.h"
#include "storage/base/status_macros.h"

namespace mnemo::stream {
namespace {

// What was read is written as it was, and read again to the same.
template <typename T>
void CheckRequest(ByteView body) {
  T request;
  if (!Decode(body, request)) return;
  MNEMO_CHECK(Encode(request) == AsText(body));
}

template <typename T>
void CheckAnswer(ByteView body) {
  T answer;
  absl::Status status;
  if (!Decode(body, status, answer)) return;
  MNEMO_CHECK((status.ok() ? Encode(answer) : EncodeError(status)) == AsText(body));
}

void CheckBody(FrameType type, bool answer, ByteView body) {
  switch (type) {
    case FrameType::kHello:
      return answer ? CheckAnswer<Welcome>(body) : CheckRequest<Hello>(body);
    case FrameType::kRegister:
      return answer ? CheckAnswer<RegisterAnswer>(body) : CheckRequest<RegisterRequest>(body);
    case FrameType::kUnregister:
      return answer ? CheckAnswer<UnregisterAnswer>(body) : CheckRequest<UnregisterRequest>(body);
    case FrameType::kMatch:
      return answer ? CheckAnswer<MatchAnswer>(body) : CheckRequest<MatchRequest>(body);
    case FrameType::kOffer:
      return answer ? CheckAnswer<OfferAnswer>(body) : CheckRequest<OfferRequest>(body);
    case FrameType::kGet:
      return answer ? CheckAnswer<GetAnswer>(body) : CheckRequest<GetRequest>(body);
    case FrameType::kPut:
      return answer ? CheckAnswer<PutAnswer>(body) : CheckRequest<PutRequest>(body);
    case FrameType::kTouch:
      return answer ? CheckAnswer<TouchAnswer>(body) : CheckRequest<TouchRequest>(body);
    case FrameType::kPrefetch:
      return answer ? CheckAnswer<PrefetchAnswer>(body) : CheckRequest<PrefetchRequest>(body);
    case FrameType::kCancel:
      return;
    case FrameType::kClose:
      return CheckRequest<Close>(body);
    case FrameType::kCredit:
      return CheckRequest<Credit>(body);
    case FrameType::kData:
      return CheckRequest<Data>(body);
  }
}

void Read(End end, size_t step, std::string_view bytes) {
  FrameReader reader(end);
  while (!bytes.empty() && reader.reason() == CloseReason::kNone) {
    const MutableByteView room = reader.Room();
    const size_t size = std::min({room.size(), bytes.size(), step});
    MNEMO_CHECK(size > 0);
    std::copy_n(bytes.data(), size, room.data());
    reader.Filled(size);
    bytes.remove_prefix(size);
    for (;;) {
      const auto frame = reader.Next();
      if (frame) CheckBody(frame->header.type, frame->header.answer, frame->body);
      // What is here first, then in pieces what comes past the reader.
      const size_t here = reader.payload().size();
      MNEMO_CHECK(here <= reader.payload_left());
      if (here > 0) {
        reader.TookPayload(std::min(here, step));
      } else if (reader.payload_left() > 0) {
        const size_t past = std::min<size_t>({bytes.size(), reader.payload_left(), step});
        bytes.remove_prefix(past);
        reader.TookPayload(past);
        if (past == 0) break;
      } else if (!frame) {
        break;
      }
    }
  }
}

}  // namespace
}  // namespace mnemo::stream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo::stream;  // NOLINT: of this one function
  if (size < 2) return 0;
  const End end = data[0] % 2 == 0 ? End::kServer : End::kClient;
  const size_t step = 1 + data[0] / 2;
  const std::string_view rest = mnemo::AsText({data + 2, size - 2});
  if (data[1] == 0) {
    Read(end, step, rest);
    return 0;
  }
  const auto type = static_cast<FrameType>(data[1] & ~kAnswerBit);
  const bool answer = (data[1] & kAnswerBit) != 0;
  if (type == FrameType::kData && rest.size() > kDataHeadBytes &&
      rest.size() <= MaxBodyBytes(type, answer)) {
    const std::string frame =
        MakeDataFrame({.type = type, .answer = answer, .id = 1}, rest.substr(0, kDataHeadBytes),
                      static_cast<uint32_t>(rest.size() - kDataHeadBytes));
    Read(end, step, frame + std::string(rest.substr(kDataHeadBytes)));
  } else if (rest.size() <= MaxBodyBytes(type, answer)) {
    Read(end, step, MakeFrame({.type = type, .answer = answer, .id = 1}, rest));
  }
  return 0;
}

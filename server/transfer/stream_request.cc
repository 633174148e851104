#include "server/transfer/stream_request.h"

#include <utility>

#include "proto/stream/messages.h"
#include "server/transfer/block_requests.h"
#include "server/transfer/bulk_requests.h"
#include "server/transfer/region_requests.h"

namespace mnemo {
namespace {

std::unique_ptr<StreamRequest> Make(const RequestRooms& rooms, const stream::Header& header,
                                    ByteView body) {
  switch (header.type) {
    case stream::FrameType::kRegister:
      return std::make_unique<RegisterStreamRequest>(rooms, header, body);
    case stream::FrameType::kUnregister:
      return std::make_unique<UnregisterStreamRequest>(rooms, header, body);
    case stream::FrameType::kMatch:
      return std::make_unique<MatchStreamRequest>(rooms, header, body);
    case stream::FrameType::kOffer:
      return std::make_unique<OfferStreamRequest>(rooms, header, body);
    case stream::FrameType::kGet:
      if (rooms.payload != nullptr) return std::make_unique<BulkGetRequest>(rooms, header, body);
      return std::make_unique<GetStreamRequest>(rooms, header, body);
    case stream::FrameType::kPut:
      if (rooms.payload != nullptr) return std::make_unique<BulkPutRequest>(rooms, header, body);
      return std::make_unique<PutStreamRequest>(rooms, header, body);
    case stream::FrameType::kTouch:
      return std::make_unique<TouchStreamRequest>(rooms, header, body);
    case stream::FrameType::kPrefetch:
      return std::make_unique<PrefetchStreamRequest>(rooms, header, body);
    default:
      return nullptr;
  }
}

}  // namespace

std::unique_ptr<StreamRequest> StreamRequest::Create(const RequestRooms& rooms,
                                                     const stream::Header& header, ByteView body) {
  std::unique_ptr<StreamRequest> request = Make(rooms, header, body);
  if (request == nullptr || !request->Parse()) return nullptr;
  return request;
}

ByteBudget::Claim::Outcome StreamRequest::Claim(uint64_t bytes) {
  claim_.Release();
  // Its own bytes in the same claim: who waits for all of the budget must hold none.
  held_.Release();
  return claim_.Acquire(bytes + sizeof(*this) + body_.size(), resume_);
}

void StreamRequest::Unclaim() {
  claim_.Release();
  // Where others were quicker, it goes on uncounted: it is about to end.
  static_cast<void>(Hold());
}

std::string StreamRequest::TakeAnswer() {
  const stream::FrameHead head{.type = header_.type, .answer = true, .id = header_.id};
  std::string body = status_.ok() ? Answer() : stream::EncodeError(status_);
  if (body.size() > stream::MaxBodyBytes(head.type, head.answer)) {
    body = stream::EncodeError(
        absl::ResourceExhaustedError("the answer is longer than a frame; ask for less"));
  }
  return stream::MakeFrame(head, body);
}

}  // namespace mnemo

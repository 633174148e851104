// Payload that travels in a stream: DATA frames out, and in.
#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "server/transfer/stream_connection.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;

// Taken from the socket at once, and checked while it is in the processor's cache.
constexpr uint64_t kTakeBytes = 256 * kKiB;

// Fills `to` with what it has room for, and answers how much that was.
uint64_t CopyFront(ByteView from, std::span<const MutableByteView> to) {
  uint64_t copied = 0;
  for (const MutableByteView piece : to) {
    const uint64_t size = std::min<uint64_t>(piece.size(), from.size() - copied);
    CopyInto(from.subspan(copied, size), piece.data());
    copied += size;
  }
  return copied;
}

}  // namespace

void StreamConnection::SendPayload(uint64_t id, uint32_t index, uint64_t offset,
                                   const PinnedBytes& bytes) {
  for (uint64_t at = 0; at < bytes.size(); at += stream::kMaxDataBytes) {
    const uint64_t size = std::min<uint64_t>(stream::kMaxDataBytes, bytes.size() - at);
    std::string head =
        stream::MakeDataFrame({.type = FrameType::kData, .answer = true, .id = id},
                              stream::Encode(stream::Data{.index = index, .offset = offset + at}),
                              static_cast<uint32_t>(size));
    Enqueue({.bytes = std::move(head), .payload = bytes.Slice(at, size), .id = id});
  }
}

bool StreamConnection::AwaitSent(StreamRequest& request) {
  MutexLock lock(mutex_);
  for (auto entry = outgoing_.rbegin(); entry != outgoing_.rend(); ++entry) {
    if (entry->payload.size() == 0 || entry->id != request.header().id) continue;
    entry->then = &request;
    return true;
  }
  return false;
}

void StreamConnection::PayloadLeft(const std::vector<StreamRequest*>& done) {
  for (StreamRequest* const request : done) {
    if (request->AllSent()) {
      Finish(*request);
    } else {
      Submit(*request);
    }
  }
}

void StreamConnection::SetPaused(bool paused) {
  MutexLock lock(mutex_);
  if (std::exchange(paused_, paused) != paused) ChangeInterestLocked();
}

void StreamConnection::SubmitPut(StreamRequest& request) {
  if (putting_) return waiting_puts_.push_back(&request);
  putting_ = request.header().id;
  request.TakeTurn();
  Submit(request);
}

void StreamConnection::PutEnded() {
  putting_.reset();
  if (!waiting_puts_.empty()) {
    StreamRequest& next = *waiting_puts_.front();
    waiting_puts_.pop_front();
    putting_ = next.header().id;
    next.TakeTurn();
    Submit(next);
  }
  if (reader_.payload_left() > 0) JudgeData();
}

void StreamConnection::TakeWaitingPuts(std::vector<StreamRequest*>& waiting) {
  if (receiver_ != nullptr) waiting.push_back(std::exchange(receiver_, nullptr));
  waiting.insert(waiting.end(), waiting_puts_.begin(), waiting_puts_.end());
  waiting_puts_.clear();
}

void StreamConnection::HandleData(const stream::Frame& frame) {
  if (!stream::Decode(frame.body, data_)) return Close(CloseReason::kBody, "DATA is malformed");
  data_id_ = frame.header.id;
  JudgeData();
}

void StreamConnection::JudgeData() {
  if (receiver_ != nullptr && receiver_->header().id == data_id_) {
    const CloseReason wrong = receiver_->taker()->Judge(data_, reader_.payload_left());
    if (wrong == CloseReason::kNone) return SetPaused(false);
    return Close(wrong, wrong == CloseReason::kOverload
                            ? "more payload than was credited"
                            : "payload of another part or offset than comes next");
  }
  if (putting_ == data_id_) return SetPaused(true);
  Close(CloseReason::kOrder, "payload that belongs to nothing");
}

void StreamConnection::BeginReceiving(StreamRequest& request) {
  bool closed = false;
  {
    MutexLock lock(mutex_);
    closed = closed_;
  }
  if (closed || request.call().cancelled) {
    request.Fail(absl::CancelledError("the request was cancelled"));
    return Finish(request);
  }
  MNEMO_CHECK(receiver_ == nullptr);
  receiver_ = &request;
  if (auto credit = request.taker()->TakeCredit()) {
    Send(stream::MakeFrame({.type = FrameType::kCredit, .answer = true, .id = request.header().id},
                           stream::Encode(*credit)));
  }
  UpdateWait();
  if (reader_.payload_left() == 0) return;
  JudgeData();
  ReadSome();
}

bool StreamConnection::ReadPayload() {
  bool ended = false;
  bool from_socket = false;
  const auto bring = [&](std::span<const MutableByteView> to) -> absl::StatusOr<uint64_t> {
    uint64_t bytes = CopyFront(reader_.payload(), to);
    if (bytes == 0) {
      from_socket = true;
      std::vector<iovec> pieces;
      for (const MutableByteView piece : to) pieces.push_back({piece.data(), piece.size()});
      std::vector<Descriptor> came;
      const Received received = socket_->Receive(pieces, came);
      ended = received.state == Received::State::kEnd || !came.empty();
      if (ended) return absl::UnavailableError("the stream has ended");
      bytes = received.bytes;
      received_ += bytes;
    }
    reader_.TookPayload(bytes);
    return bytes;
  };
  const uint64_t most = std::min<uint64_t>(kTakeBytes, reader_.payload_left());
  const absl::StatusOr<uint64_t> taken = receiver_->taker()->Take(most, bring);
  if (!taken.ok()) {
    if (ended) {
      Lost();
    } else {
      Close(CloseReason::kOverload,
            {taken.status().message().data(), taken.status().message().size()});
    }
    return false;
  }
  GoOnReceiving();
  if (reader_.payload_left() == 0) HandleFrames();
  UpdateWait();
  return !from_socket || *taken > 0;
}

void StreamConnection::StopOverdue() {
  if (receiver_ == nullptr || !receiver_->status().ok()) return;
  const absl::Status status = CheckGoesOn(receiver_->call(), rooms_.gate.clock());
  if (status.ok()) return;
  receiver_->Fail(status);
  if (receiver_->Stop() != StreamRequest::Progress::kReceives) {
    Finish(*std::exchange(receiver_, nullptr));
  }
  UpdateWait();
}

void StreamConnection::GoOnReceiving() {
  if (auto credit = receiver_->taker()->TakeCredit()) {
    Send(stream::MakeFrame(
        {.type = FrameType::kCredit, .answer = true, .id = receiver_->header().id},
        stream::Encode(*credit)));
  }
  const StreamRequest::Progress progress = receiver_->AfterPayload();
  if (progress == StreamRequest::Progress::kReceives) return;
  StreamRequest& request = *std::exchange(receiver_, nullptr);
  if (progress == StreamRequest::Progress::kElsewhere) {
    Submit(request);
  } else {
    Finish(request);
  }
}

}  // namespace mnemo

// GET and PUT whose payload travels in their stream.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/stream/messages.h"
#include "server/transfer/stream_request.h"

namespace mnemo {

// Sends from pinned extents, each piece once it was checked, a part at a time: the bytes of
// one are claimed when those of the one before have left, so a peer that does not read
// holds up its own request alone.
class BulkGetRequest final : public StreamRequest, private ReadSink {
 public:
  BulkGetRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  using StreamRequest::Begin;
  Progress Run() override;
  bool AllSent() override { return ended_; }

 private:
  bool Parse() override;
  std::string Answer() const override;
  absl::Status Open();
  // The answer stands once what was sent has left.
  Progress End(const absl::Status& status);
  absl::Status Begin(const ReadStep& header) override;
  absl::Status Take(uint32_t index, uint64_t position, const PinnedBytes& bytes) override;
  void End(uint32_t index, const absl::Status& status) override;

  stream::GetRequest request_;
  stream::GetAnswer answer_;
  // What was sent of a part that comes anew from another copy is not sent again.
  Digest128 begun_;
  std::vector<absl::StatusOr<uint64_t>> room_;  // that the client has for each part
  std::unique_ptr<GetSession> session_;
  bool granted_ = false;  // when it goes on, the next part's bytes are claimed
  bool unsent_ = false;   // something was sent since it was awaited last
  bool ended_ = false;
};

// Receives into reserved extents of L1, part after part, as far as a window of the byte
// budget goes. It is answered when all has come that the client was told it may send, or
// when the client has cancelled it: then none of its payload comes any more.
class BulkPutRequest final : public StreamRequest, private PayloadTaker {
 public:
  BulkPutRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Run() override;
  Progress Stop() override;
  PayloadTaker* taker() override { return this; }
  Progress AfterPayload() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  absl::Status Open();
  std::optional<stream::Credit> TakeCredit() override;
  stream::CloseReason Judge(const stream::Data& data, uint32_t bytes) const override;
  absl::StatusOr<uint64_t> Take(uint64_t most, const PartWriter::Bring& bring) override;
  absl::StatusOr<uint64_t> Drop(uint64_t most, const PartWriter::Bring& bring);
  // Moves the grant on, once half of the window is used up.
  void GrantMore();

  stream::PutRequest request_;
  stream::PutAnswer answer_;
  std::unique_ptr<PutSession> session_;
  uint64_t window_ = 0;
  bool claimed_ = false;  // when it goes on, the window is
  // Bytes of payload from the beginning on.
  uint64_t wanted_ = 0;
  uint64_t granted_ = 0;
  uint64_t seen_ = 0;
  std::optional<stream::Credit> credit_;  // to be sent
  std::optional<uint32_t> part_;          // that comes now
  uint64_t part_seen_ = 0;                // bytes of it
  bool stopped_ = false;                  // what comes is dropped
  std::vector<uint8_t> dropped_;
};

}  // namespace mnemo

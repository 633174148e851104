// The messages that carry payload, read and written as bytes.
//
// A PutRequest with data, a GetResponse with data and a ReadContextResponse with
// tokens are encoded by hand, field by field as the contract says, so that the
// payload is neither copied into a message nor out of one. Everything else goes through protobuf.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mnemo/v1/block.pb.h"
#include "mnemo/v1/context.pb.h"
#include "storage/base/bytes.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// The slices of a received message. gRPC charges them to its resource quota,
// and giving the last reference back may wake the quota's reclaimer, which
// needs an execution context of gRPC's: without one, on a thread of ours, 1.51
// crashes. A ByteBuffer brings that context when it is destroyed, a Slice does
// not; so the buffer holds the last reference, whatever is destroyed when.
// Not thread-safe.
class ReceivedSlices {
 public:
  ReceivedSlices() = default;
  ~ReceivedSlices() { Clear(); }
  ReceivedSlices(ReceivedSlices&& other) noexcept { Swap(other); }
  ReceivedSlices& operator=(ReceivedSlices&& other) noexcept {
    Swap(other);
    return *this;
  }

  // False if the message cannot be read.
  bool Hold(const grpc::ByteBuffer& message) {
    Clear();
    message_ = message;
    return message_.Dump(&slices_).ok();
  }
  // Bytes of our own.
  void Hold(grpc::Slice slice) {
    Clear();
    slices_.push_back(std::move(slice));
  }
  void Clear() {
    slices_.clear();
    message_.Clear();
  }
  const std::vector<grpc::Slice>& slices() const { return slices_; }

 private:
  void Swap(ReceivedSlices& other) noexcept {
    message_.Swap(&other.message_);
    slices_.swap(other.slices_);
  }
  grpc::ByteBuffer message_;
  std::vector<grpc::Slice> slices_;
};

// A PutRequest as it came: either a PutStart, or data whose pieces point into
// `received`.
struct ParsedPut {
  enum class Kind : uint8_t { kStart, kData };
  Kind kind = Kind::kStart;
  v1::PutStart start;
  uint32_t index = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  std::vector<ByteView> pieces;
  ReceivedSlices received;
};

// Reads one message. Never past its end, whatever it says. Errors:
// kInvalidArgument (not a PutRequest; neither start nor data).
absl::StatusOr<ParsedPut> ParsePut(const grpc::ByteBuffer& message);

// The same over pieces of memory, in order; `out.pieces` point into them.
absl::Status ParsePutData(const std::vector<ByteView>& message, ParsedPut& out);

// A GetResponse{data} whose payload slices refer to `bytes` and keep it pinned
// until gRPC has sent them.
grpc::ByteBuffer EncodeGetData(uint32_t index, uint64_t offset, const PinnedBytes& bytes);

// A ReadContextResponse{tokens} of `stored`, whose batch is `batch` with these
// embeddings. Their slice refers to `embeddings` and holds `owner` until gRPC has
// sent it; without an owner they are copied.
grpc::ByteBuffer EncodeStoredTokens(const v1::StoredTokens& stored, const v1::TokenBatch& batch,
                                    ByteView embeddings, std::shared_ptr<const void> owner);

// Any message through protobuf.
grpc::ByteBuffer EncodeMessage(const google::protobuf::MessageLite& message);
bool DecodeMessage(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message);

}  // namespace mnemo

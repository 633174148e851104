#include "server/rpc/wire.h"

#include <fmt/format.h>
#include <grpc/slice.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Wire types of the protobuf encoding.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kLengthDelimited = 2;
constexpr uint32_t kFixed32 = 5;

// protobuf reads no more bytes than these, even if those beyond add nothing.
constexpr int kLongestVarint = 10;
constexpr int kLongestTagOrLength = 5;

// Tags of the fields that are handled by hand; a test holds them against the
// descriptors.
constexpr uint32_t kPutRequestData = 2;
constexpr uint32_t kGetResponseData = 2;
constexpr uint32_t kDataIndex = 1;
constexpr uint32_t kDataOffset = 2;
constexpr uint32_t kDataData = 3;
constexpr uint32_t kReadResponseTokens = 1;
constexpr uint32_t kStoredTokensBatch = 1;
constexpr uint32_t kBatchEmbeddings = 7;

absl::Status Malformed() { return absl::InvalidArgumentError("the message is not a PutRequest"); }

// Reads a message that lies in several pieces.
class PieceReader {
 public:
  explicit PieceReader(const std::vector<ByteView>& pieces) : pieces_(pieces) {
    for (const ByteView piece : pieces) left_ += piece.size();
  }

  uint64_t left() const { return left_; }

  // False at the end, or where a varint does not end within `longest` bytes.
  bool ReadVarint(uint64_t& value, int longest = kLongestVarint) {
    value = 0;
    for (int shift = 0; shift < 7 * longest; shift += 7) {
      uint8_t byte = 0;
      if (!ReadByte(byte)) return false;
      if (shift == 63 && byte > 1) return false;
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }

  // Hands out the next `size` bytes as pieces. False if there are fewer.
  bool Take(uint64_t size, std::vector<ByteView>* out) {
    if (size > left_) return false;
    left_ -= size;
    while (size > 0) {
      const ByteView piece = pieces_[at_].subspan(offset_);
      const size_t taken = std::min<uint64_t>(size, piece.size());
      if (out != nullptr && taken > 0) out->push_back(piece.first(taken));
      Advance(taken);
      size -= taken;
    }
    return true;
  }

  // Skips a field of a wire type. False if it is damaged or a group.
  bool Skip(uint32_t wire_type) {
    uint64_t value = 0;
    switch (wire_type) {
      case kVarint:
        return ReadVarint(value);
      case kFixed64:
        return Take(8, nullptr);
      case kLengthDelimited:
        return ReadVarint(value, kLongestTagOrLength) && Take(value, nullptr);
      case kFixed32:
        return Take(4, nullptr);
      default:
        return false;
    }
  }

 private:
  bool ReadByte(uint8_t& byte) {
    if (left_ == 0) return false;
    while (offset_ == pieces_[at_].size()) Next();
    byte = pieces_[at_][offset_];
    Advance(1);
    --left_;
    return true;
  }
  void Advance(size_t bytes) {
    offset_ += bytes;
    if (offset_ == pieces_[at_].size() && at_ + 1 < pieces_.size()) Next();
  }
  void Next() {
    ++at_;
    offset_ = 0;
  }

  const std::vector<ByteView>& pieces_;
  size_t at_ = 0;
  size_t offset_ = 0;
  uint64_t left_ = 0;
};

// The body of PutData.
absl::Status ParseDataBody(const std::vector<ByteView>& body, ParsedPut& out) {
  PieceReader reader(body);
  while (reader.left() > 0) {
    uint64_t tag = 0;
    uint64_t value = 0;
    if (!reader.ReadVarint(tag, kLongestTagOrLength) || tag > UINT32_MAX) return Malformed();
    const uint64_t field = tag >> 3;
    const uint32_t wire_type = tag & 7;
    if (field == kDataIndex && wire_type == kVarint) {
      if (!reader.ReadVarint(value)) return Malformed();
      out.index = static_cast<uint32_t>(value);
    } else if (field == kDataOffset && wire_type == kVarint) {
      if (!reader.ReadVarint(out.offset)) return Malformed();
    } else if (field == kDataData && wire_type == kLengthDelimited) {
      out.pieces.clear();  // of a field given twice the last counts
      if (!reader.ReadVarint(out.size, kLongestTagOrLength) || !reader.Take(out.size, &out.pieces))
        return Malformed();
    } else if (field == 0 || !reader.Skip(wire_type)) {
      return Malformed();
    }
  }
  return absl::OkStatus();
}

void AppendVarint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void AppendTag(std::string& out, uint32_t field, uint32_t wire_type) {
  AppendVarint(out, (field << 3) | wire_type);
}

}  // namespace

absl::Status ParsePutData(const std::vector<ByteView>& message, ParsedPut& out) {
  PieceReader reader(message);
  bool found = false;
  while (reader.left() > 0) {
    uint64_t tag = 0;
    if (!reader.ReadVarint(tag, kLongestTagOrLength)) return Malformed();
    const uint64_t field = tag >> 3;
    const uint32_t wire_type = tag & 7;
    if (field == kPutRequestData && wire_type == kLengthDelimited && !found) {
      uint64_t size = 0;
      std::vector<ByteView> body;
      if (!reader.ReadVarint(size, kLongestTagOrLength) || !reader.Take(size, &body))
        return Malformed();
      MNEMO_RETURN_IF_ERROR(ParseDataBody(body, out));
      found = true;
    } else {
      // Anything else: a start, a second body to be merged, a field of a later
      // version. Not on the fast path; the caller asks protobuf.
      return Malformed();
    }
  }
  if (!found) return Malformed();
  out.kind = ParsedPut::Kind::kData;
  return absl::OkStatus();
}

absl::StatusOr<ParsedPut> ParsePut(const grpc::ByteBuffer& message) {
  ParsedPut parsed;
  if (!parsed.received.Hold(message)) return Malformed();
  std::vector<ByteView> pieces;
  pieces.reserve(parsed.received.slices().size());
  for (const grpc::Slice& slice : parsed.received.slices()) {
    if (slice.size() > 0) pieces.emplace_back(slice.begin(), slice.size());
  }
  if (ParsePutData(pieces, parsed).ok()) return parsed;
  // Whatever the fast path does not take is decided by protobuf alone.
  v1::PutRequest request;
  if (!DecodeMessage(message, request)) return Malformed();
  if (request.has_start()) {
    parsed.kind = ParsedPut::Kind::kStart;
    parsed.start = std::move(*request.mutable_start());
    return parsed;
  }
  if (!request.has_data()) {
    return absl::InvalidArgumentError("message is absent; it must be start or data");
  }
  const std::string& data = request.data().data();
  parsed.kind = ParsedPut::Kind::kData;
  parsed.index = request.data().index();
  parsed.offset = request.data().offset();
  parsed.size = data.size();
  parsed.received.Hold(grpc::Slice(data));
  parsed.pieces.clear();
  if (!data.empty()) parsed.pieces.emplace_back(parsed.received.slices()[0].begin(), data.size());
  return parsed;
}

grpc::ByteBuffer EncodeGetData(uint32_t index, uint64_t offset, const PinnedBytes& bytes) {
  std::string body;
  AppendTag(body, kDataIndex, kVarint);
  AppendVarint(body, index);
  AppendTag(body, kDataOffset, kVarint);
  AppendVarint(body, offset);
  AppendTag(body, kDataData, kLengthDelimited);
  AppendVarint(body, bytes.size());
  std::string prefix;
  AppendTag(prefix, kGetResponseData, kLengthDelimited);
  AppendVarint(prefix, body.size() + bytes.size());
  prefix += body;

  std::vector<grpc::Slice> slices;
  slices.reserve(bytes.pieces().size() + 1);
  slices.emplace_back(prefix);
  for (const ByteView piece : bytes.pieces()) {
    // Each slice owns a pin: gRPC releases them one by one, on its own threads.
    auto* pin = new PinnedBytes(bytes);
    slices.emplace_back(
        const_cast<uint8_t*>(piece.data()), piece.size(),
        [](void* user) { delete static_cast<PinnedBytes*>(user); }, pin);
  }
  return {slices.data(), slices.size()};
}

grpc::ByteBuffer EncodeStoredTokens(const v1::StoredTokens& stored, const v1::TokenBatch& batch,
                                    ByteView embeddings, std::shared_ptr<const void> owner) {
  // Fields may come in any order: the embeddings are last at every depth, so
  // that all else lies before them in one piece.
  std::string inner = batch.SerializeAsString();
  if (!embeddings.empty()) {
    AppendTag(inner, kBatchEmbeddings, kLengthDelimited);
    AppendVarint(inner, embeddings.size());
  }
  std::string middle = stored.SerializeAsString();
  AppendTag(middle, kStoredTokensBatch, kLengthDelimited);
  AppendVarint(middle, inner.size() + embeddings.size());
  middle += inner;
  std::string prefix;
  AppendTag(prefix, kReadResponseTokens, kLengthDelimited);
  AppendVarint(prefix, middle.size() + embeddings.size());
  prefix += middle;

  std::vector<grpc::Slice> slices{grpc::Slice(prefix)};
  if (!embeddings.empty() && owner == nullptr) {
    slices.emplace_back(embeddings.data(), embeddings.size());
  } else if (!embeddings.empty()) {
    using Owner = std::shared_ptr<const void>;
    slices.emplace_back(
        const_cast<uint8_t*>(embeddings.data()), embeddings.size(),
        [](void* user) { delete static_cast<Owner*>(user); }, new Owner(std::move(owner)));
  }
  return {slices.data(), slices.size()};
}

grpc::ByteBuffer EncodeMessage(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

bool DecodeMessage(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message) {
  grpc::Slice slice;
  if (buffer.TrySingleSlice(&slice).ok() || buffer.DumpToSingleSlice(&slice).ok()) {
    return message.ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
  }
  return false;
}

}  // namespace mnemo

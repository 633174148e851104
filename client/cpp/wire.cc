#include "client/cpp/wire.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace mnemo::client {
namespace {

constexpr uint32_t kVarint = 0;
constexpr uint32_t kLengthDelimited = 2;

// Of the fields below 16, whose tags are one byte.
constexpr uint8_t Tag(uint32_t field, uint32_t wire_type) {
  return static_cast<uint8_t>(field << 3 | wire_type);
}

// GetResponse and PutRequest have their data in field 2; GetData and PutData
// have the same fields.
constexpr uint8_t kDataMessage = Tag(2, kLengthDelimited);
constexpr uint8_t kIndex = Tag(1, kVarint);
constexpr uint8_t kOffset = Tag(2, kVarint);
constexpr uint8_t kPayload = Tag(3, kLengthDelimited);

void AppendVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

// Protobuf refuses lengths from 2 GiB on; ours end at four bytes, 256 MiB.
constexpr int kLongestLength = 4;

// Reads a length and answers the cursor over so many bytes.
bool ReadDelimited(SliceCursor& from, SliceCursor& field) {
  uint64_t size = 0;
  if (!from.ReadVarint(size, kLongestLength) || size > from.remaining()) return false;
  field = from.Take(size);
  return true;
}

bool ParseGetData(SliceCursor message, GetDataView& view) {
  while (message.remaining() > 0) {
    uint8_t tag = 0;
    uint64_t number = 0;
    if (!message.ReadByte(tag)) return false;
    switch (tag) {
      case kIndex:
        if (!message.ReadVarint(number) || number > std::numeric_limits<uint32_t>::max()) {
          return false;
        }
        view.index = static_cast<uint32_t>(number);
        break;
      case kOffset:
        if (!message.ReadVarint(view.offset)) return false;
        break;
      case kPayload:
        if (!ReadDelimited(message, view.data)) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

}  // namespace

SliceCursor::SliceCursor(std::span<const Bytes> slices) : slices_(slices) {
  for (const Bytes& slice : slices) remaining_ += slice.size();
  DropEmpty();
}

void SliceCursor::DropEmpty() {
  while (!slices_.empty() && position_ == slices_.front().size()) {
    slices_ = slices_.subspan(1);
    position_ = 0;
  }
}

bool SliceCursor::ReadByte(uint8_t& value) {
  if (remaining_ == 0) return false;
  value = slices_.front()[position_];
  ++position_;
  --remaining_;
  DropEmpty();
  return true;
}

bool SliceCursor::ReadVarint(uint64_t& value, int longest) {
  value = 0;
  for (int shift = 0; shift < 7 * longest; shift += 7) {
    uint8_t byte = 0;
    if (!ReadByte(byte)) return false;
    // The tenth byte holds the highest bit alone.
    if (shift == 63 && byte > 1) return false;
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool SliceCursor::Skip(size_t size) {
  if (size > remaining_) return false;
  remaining_ -= size;
  while (size > 0) {
    const size_t step = std::min(size, slices_.front().size() - position_);
    position_ += step;
    size -= step;
    DropEmpty();
  }
  return true;
}

bool SliceCursor::CopyTo(uint8_t* to, size_t size) {
  if (size > remaining_) return false;
  remaining_ -= size;
  while (size > 0) {
    const Bytes rest = slices_.front().subspan(position_);
    const size_t step = std::min(size, rest.size());
    std::memcpy(to, rest.data(), step);
    to += step;
    position_ += step;
    size -= step;
    DropEmpty();
  }
  return true;
}

SliceCursor SliceCursor::Take(size_t size) {
  SliceCursor taken = *this;
  taken.remaining_ = size;
  Skip(size);
  return taken;
}

ParsedGetResponse ParseGetResponse(std::span<const Bytes> slices, GetDataView& data) {
  SliceCursor message(slices);
  SliceCursor body(std::span<const Bytes>{});
  uint8_t tag = 0;
  if (!message.ReadByte(tag) || tag != kDataMessage || !ReadDelimited(message, body) ||
      message.remaining() > 0) {
    return ParsedGetResponse::kOther;
  }
  data = {.index = 0, .offset = 0, .data = SliceCursor(std::span<const Bytes>{})};
  return ParseGetData(body, data) ? ParsedGetResponse::kData : ParsedGetResponse::kOther;
}

std::string PutDataPrefix(uint32_t index, uint64_t offset, size_t size) {
  std::string body;
  body.push_back(kIndex);
  AppendVarint(body, index);
  body.push_back(kOffset);
  AppendVarint(body, offset);
  body.push_back(kPayload);
  AppendVarint(body, size);
  std::string prefix;
  prefix.push_back(kDataMessage);
  AppendVarint(prefix, body.size() + size);
  return prefix + body;
}

}  // namespace mnemo::client

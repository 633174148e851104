// The two messages that carry payload, by hand, so that payload is never
// copied into a protobuf string.
//
// Only the usual encoding is read here; whatever else protobuf allows (fields
// of another wire type, groups, numbers out of range) is left to protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "mnemo/types.h"

namespace mnemo::client {

// Reads a message that lies in several slices. Copyable: a copy keeps the
// place. The slices must outlive it.
class SliceCursor {
 public:
  explicit SliceCursor(std::span<const Bytes> slices);

  size_t remaining() const { return remaining_; }
  // False, and the cursor is of no more use, if there are not so many bytes
  // or the number has no end within `longest` bytes (at most ten).
  bool ReadByte(uint8_t& value);
  bool ReadVarint(uint64_t& value, int longest = 10);
  bool Skip(size_t size);
  bool CopyTo(uint8_t* to, size_t size);
  // A cursor over the next `size` bytes alone, which are skipped here.
  // Needs size <= remaining().
  SliceCursor Take(size_t size);

 private:
  void DropEmpty();

  std::span<const Bytes> slices_;  // the first is being read
  size_t position_ = 0;            // in the first slice
  size_t remaining_ = 0;
};

// A GetData whose bytes are still where they were received.
struct GetDataView {
  uint32_t index = 0;
  uint64_t offset = 0;
  SliceCursor data;
};

enum class ParsedGetResponse {
  kData,   // `data` is set
  kOther,  // let protobuf parse it
};

// Looks at a serialised GetResponse. Where it answers kData, protobuf would
// accept the same bytes and find the same values.
ParsedGetResponse ParseGetResponse(std::span<const Bytes> slices, GetDataView& data);

// Everything of a serialised PutRequest{data} before `size` bytes of payload.
std::string PutDataPrefix(uint32_t index, uint64_t offset, size_t size);

}  // namespace mnemo::client

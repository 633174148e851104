// What bodies are made of: little-endian integers, texts, lists.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "proto/stream/messages.h"
#include "storage/base/bytes.h"

namespace mnemo::stream {

// Error messages and names are cut to this.
inline constexpr size_t kMaxText = 512;

inline void AppendByte(std::string& out, uint8_t value) { out.push_back(static_cast<char>(value)); }

inline void AppendDigest(std::string& out, const Digest128& digest) {
  AppendLittle(out, digest.low);
  AppendLittle(out, digest.high);
}
inline Digest128 TakeDigest(ByteReader& in) {
  Digest128 digest;
  digest.low = in.Little<uint64_t>();
  digest.high = in.Little<uint64_t>();
  return digest;
}

inline void AppendError(std::string& out, const absl::Status& error) {
  AppendByte(out, static_cast<uint8_t>(error.code()));
  AppendShort(out,
              std::string_view(error.message().data(), std::min(error.message().size(), kMaxText)));
}
// An error, or OK if its code is 0, which has no text.
inline bool TakeStatus(ByteReader& in, absl::Status& status) {
  const auto code = in.Little<uint8_t>();
  if (code == 0) {
    status = absl::OkStatus();
    return in.ok();
  }
  const std::string_view text = AsText(in.TakeShort());
  if (!in.ok() || code > static_cast<uint8_t>(absl::StatusCode::kUnauthenticated) ||
      text.size() > kMaxText) {
    return false;
  }
  status = absl::Status(static_cast<absl::StatusCode>(code), {text.data(), text.size()});
  return true;
}

// A list: its length as u32, then its items.
template <typename T, typename Append>
void AppendList(std::string& out, const std::vector<T>& items, const Append& append) {
  AppendLittle(out, static_cast<uint32_t>(items.size()));
  for (const T& item : items) append(out, item);
}
// `least`: the bytes of the shortest item, so that no more memory is taken than the
// body has bytes for.
template <typename T, typename Take>
bool TakeList(ByteReader& in, size_t most, size_t least, std::vector<T>& items, const Take& take) {
  const auto count = in.Little<uint32_t>();
  if (!in.ok() || count > most || count > in.remaining() / least) return false;
  items.resize(count);
  for (T& item : items) {
    if (!take(in, item)) return false;
  }
  return in.ok();
}

inline void AppendText(std::string& out, std::string_view text) { AppendShort(out, text); }
inline bool TakeText(ByteReader& in, std::string_view& text) {
  text = AsText(in.TakeShort());
  return in.ok();
}
inline void AppendU32(std::string& out, uint32_t value) { AppendLittle(out, value); }
inline bool TakeU32(ByteReader& in, uint32_t& value) {
  value = in.Little<uint32_t>();
  return in.ok();
}

// 0 or 1.
inline bool TakeFlag(ByteReader& in, bool& flag) {
  const auto byte = in.Little<uint8_t>();
  flag = byte == 1;
  return in.ok() && byte <= 1;
}

// All of the body was read, and nothing beyond it.
inline bool AtEnd(const ByteReader& in) { return in.ok() && in.remaining() == 0; }

void AppendScope(std::string& out, const Scope& scope);
bool TakeScope(ByteReader& in, Scope& scope);
void AppendKeys(std::string& out, const KeyRefs& keys);
bool TakeKeys(ByteReader& in, KeyRefs& keys);
void AppendPart(std::string& out, const PartRef& part);
bool TakePart(ByteReader& in, PartRef& part);
void AppendOffered(std::string& out, const OfferedPart& part);
bool TakeOffered(ByteReader& in, OfferedPart& part);
inline constexpr size_t kLeastOffered = 2 + 5 + 8 + 4 + 2 + 2 + 1;
void AppendPlaces(std::string& out, const std::vector<Place>& places,
                  const std::vector<Slice>& slices);
bool TakePlaces(ByteReader& in, std::vector<Place>& places, std::vector<Slice>& slices);

}  // namespace mnemo::stream

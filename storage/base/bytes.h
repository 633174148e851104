// Views of bytes, and the fixed-width integers of our formats.
//
// Disk formats are little-endian but for the parts of ordered keys, which are
// big-endian so that byte order is numeric order.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace mnemo {

static_assert(std::endian::native == std::endian::little, "mnemo supports little-endian hosts");

using ByteView = std::span<const uint8_t>;
using MutableByteView = std::span<uint8_t>;

inline ByteView AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// `to` has room for `bytes`; null if there are none, which memcpy does not allow.
inline void CopyInto(ByteView bytes, void* to) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

// Unaligned loads and stores. The caller guarantees sizeof(T) bytes at `p`.
template <typename T>
T LoadLittle(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <typename T>
void StoreLittle(void* p, T value) {
  std::memcpy(p, &value, sizeof(T));
}

namespace internal {
inline uint16_t ByteSwap(uint16_t v) { return __builtin_bswap16(v); }
inline uint32_t ByteSwap(uint32_t v) { return __builtin_bswap32(v); }
inline uint64_t ByteSwap(uint64_t v) { return __builtin_bswap64(v); }
}  // namespace internal

template <typename T>
T LoadBig(const void* p) {
  return internal::ByteSwap(LoadLittle<T>(p));
}
template <typename T>
void AppendBig(std::string& out, T value) {
  value = internal::ByteSwap(value);
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}
template <typename T>
void AppendLittle(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Reads fields one after another and never past the end: after the first read
// that does not fit, every read gives zero or an empty view, and ok() is
// false. Callers check ok() once, before they believe any field.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : bytes_(bytes) {}

  template <typename T>
  T Little() {
    const ByteView field = Take(sizeof(T));
    return field.empty() ? T{} : LoadLittle<T>(field.data());
  }
  template <typename T>
  T Big() {
    const ByteView field = Take(sizeof(T));
    return field.empty() ? T{} : LoadBig<T>(field.data());
  }
  ByteView Take(size_t size) {
    if (!ok_ || size > bytes_.size()) {
      ok_ = false;
      return {};
    }
    const ByteView field = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return field;
  }
  // A field of at most 65,535 bytes behind its little-endian u16 length.
  ByteView TakeShort() { return Take(Little<uint16_t>()); }

  bool ok() const { return ok_; }
  size_t remaining() const { return bytes_.size(); }

 private:
  ByteView bytes_;
  bool ok_ = true;
};

// The counterpart of ByteReader::TakeShort. `field` is at most 65,535 bytes.
inline void AppendShort(std::string& out, std::string_view field) {
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(field.size()));
  out.append(field);
}

}  // namespace mnemo

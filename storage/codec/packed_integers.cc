#include "storage/codec/packed_integers.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mnemo::codec {
namespace {

enum class Kind : uint8_t { kRange = 0, kDifferences = 1, kRun = 2 };
// So many values at most share a base and a width.
constexpr size_t kGroup = 128;
// A run this long pays for a header of its own, and ends a group.
constexpr size_t kLeastRun = 64;

absl::Status Damaged() { return absl::DataLossError("packed integers: damaged"); }

template <typename T>
T At(const uint8_t* values, size_t i) {
  return LoadLittle<T>(values + i * sizeof(T));
}

// Differences wrap around, and small ones of both signs become small.
template <typename T>
T Fold(T difference) {
  const T sign = static_cast<T>(difference >> (8 * sizeof(T) - 1)) != 0 ? static_cast<T>(~T{0}) : 0;
  return static_cast<T>(static_cast<T>(difference << 1) ^ sign);
}
template <typename T>
T Unfold(T folded) {
  const T sign = (folded & 1) != 0 ? static_cast<T>(~T{0}) : 0;
  return static_cast<T>(static_cast<T>(folded >> 1) ^ sign);
}

size_t BytesOf(size_t codes, uint32_t width) { return (codes * width + 7) / 8; }

class Writer {
 public:
  explicit Writer(MutableByteView into) : into_(into) {}
  bool ok() const { return ok_; }
  size_t used() const { return used_; }
  void Bytes(const void* from, size_t size) {
    if (!ok_ || size > into_.size() - used_) {
      ok_ = false;
      return;
    }
    if (size != 0) std::memcpy(into_.data() + used_, from, size);
    used_ += size;
  }
  template <typename T>
  void Little(T value) {
    Bytes(&value, sizeof(T));
  }

 private:
  MutableByteView into_;
  size_t used_ = 0;
  bool ok_ = true;
};

template <typename T>
size_t RunAt(const uint8_t* values, size_t i, size_t count) {
  const T first = At<T>(values, i);
  size_t end = i + 1;
  while (end < count && At<T>(values, end) == first) ++end;
  return end - i;
}

// How many values from `i` on make a group: up to where a long run begins.
template <typename T>
size_t GroupAt(const uint8_t* values, size_t i, size_t count) {
  const size_t most = std::min(count - i, kGroup);
  size_t same = 1;
  for (size_t n = 1; n < most; ++n) {
    same = At<T>(values, i + n) == At<T>(values, i + n - 1) ? same + 1 : 1;
    if (same >= kLeastRun) return n + 1 - same;
  }
  return most;
}

template <typename T>
void WriteGroup(const uint8_t* values, size_t n, Writer& out) {
  T least = At<T>(values, 0);
  T largest = least;
  T folded_bits = 0;
  for (size_t i = 0; i < n; ++i) {
    const T value = At<T>(values, i);
    least = std::min(least, value);
    largest = std::max(largest, value);
    if (i > 0) folded_bits |= Fold(static_cast<T>(value - At<T>(values, i - 1)));
  }
  const auto range_width = static_cast<uint32_t>(std::bit_width(static_cast<T>(largest - least)));
  const auto difference_width = static_cast<uint32_t>(std::bit_width(folded_bits));
  const bool differences = BytesOf(n - 1, difference_width) < BytesOf(n, range_width);
  const uint32_t width = differences ? difference_width : range_width;
  const Kind kind = differences ? Kind::kDifferences : Kind::kRange;
  out.Little(static_cast<uint8_t>(static_cast<uint32_t>(kind) << 6 | width));
  out.Little(static_cast<uint8_t>(n - 1));
  out.Little(differences ? At<T>(values, 0) : least);
  uint64_t waiting = 0;
  uint32_t bits = 0;
  for (size_t i = differences ? 1 : 0; i < n; ++i) {
    const T code = differences ? Fold(static_cast<T>(At<T>(values, i) - At<T>(values, i - 1)))
                               : static_cast<T>(At<T>(values, i) - least);
    waiting |= uint64_t{code} << bits;
    for (bits += width; bits >= 8; bits -= 8, waiting >>= 8)
      out.Little(static_cast<uint8_t>(waiting));
  }
  if (bits > 0) out.Little(static_cast<uint8_t>(waiting));
}

template <typename T>
size_t Pack(ByteView exact, MutableByteView into) {
  const size_t count = exact.size() / sizeof(T);
  Writer out(into);
  for (size_t i = 0; i < count && out.ok();) {
    const uint8_t* const here = exact.data() + i * sizeof(T);
    const size_t run = std::min<size_t>(RunAt<T>(exact.data(), i, count), UINT32_MAX);
    if (run >= kLeastRun) {
      out.Little(static_cast<uint8_t>(static_cast<uint32_t>(Kind::kRun) << 6));
      out.Little(static_cast<uint32_t>(run));
      out.Little(At<T>(here, 0));
      i += run;
      continue;
    }
    const size_t n = GroupAt<T>(exact.data(), i, count);
    WriteGroup<T>(here, n, out);
    i += n;
  }
  const ByteView rest = exact.subspan(count * sizeof(T));
  out.Bytes(rest.data(), rest.size());
  return out.ok() ? out.used() : 0;
}

// `n` codes of `width` from the front of `packed`, which has them all.
template <typename T, typename Take>
void ReadCodes(ByteView packed, size_t n, uint32_t width, const Take& take) {
  uint64_t waiting = 0;
  uint32_t bits = 0;
  size_t at = 0;
  const uint64_t mask = (uint64_t{1} << width) - 1;
  for (size_t i = 0; i < n; ++i) {
    while (bits < width) {
      waiting |= uint64_t{packed[at++]} << bits;
      bits += 8;
    }
    take(static_cast<T>(waiting & mask));
    waiting >>= width;
    bits -= width;
  }
}

template <typename T>
absl::Status Unpack(ByteView packed, MutableByteView exact) {
  const size_t count = exact.size() / sizeof(T);
  ByteReader reader(packed);
  for (size_t i = 0; i < count;) {
    const auto head = reader.Little<uint8_t>();
    const auto kind = static_cast<Kind>(head >> 6);
    const uint32_t width = head & 0x3f;
    const size_t n =
        kind == Kind::kRun ? reader.Little<uint32_t>() : size_t{reader.Little<uint8_t>()} + 1;
    T value = reader.Little<T>();
    if (!reader.ok() || n == 0 || n > count - i || width > 8 * sizeof(T)) return Damaged();
    uint8_t* out = exact.data() + i * sizeof(T);
    const auto store = [&out](T each) {
      StoreLittle(out, each);
      out += sizeof(T);
    };
    i += n;
    if (kind == Kind::kRun) {
      if (width != 0) return Damaged();
      for (size_t k = 0; k < n; ++k) store(value);
      continue;
    }
    const bool differences = kind == Kind::kDifferences;
    if (!differences && kind != Kind::kRange) return Damaged();
    const size_t codes = differences ? n - 1 : n;
    const ByteView bytes = reader.Take(BytesOf(codes, width));
    if (!reader.ok()) return Damaged();
    if (!differences) {
      ReadCodes<T>(bytes, codes, width, [&](T code) { store(static_cast<T>(value + code)); });
      continue;
    }
    store(value);
    ReadCodes<T>(bytes, codes, width, [&](T code) {
      value = static_cast<T>(value + Unfold(code));
      store(value);
    });
  }
  const ByteView rest = reader.Take(exact.size() - count * sizeof(T));
  if (!reader.ok() || reader.remaining() != 0) return Damaged();
  CopyInto(rest, exact.data() + count * sizeof(T));
  return absl::OkStatus();
}

}  // namespace

size_t PackIntegers(ByteView exact, uint32_t element_bytes, MutableByteView into) {
  switch (element_bytes) {
    case 1:
      return Pack<uint8_t>(exact, into);
    case 2:
      return Pack<uint16_t>(exact, into);
    default:
      return Pack<uint32_t>(exact, into);
  }
}

absl::Status UnpackIntegers(ByteView packed, uint32_t element_bytes, MutableByteView exact) {
  switch (element_bytes) {
    case 1:
      return Unpack<uint8_t>(packed, exact);
    case 2:
      return Unpack<uint16_t>(packed, exact);
    default:
      return Unpack<uint32_t>(packed, exact);
  }
}

}  // namespace mnemo::codec

// Lossless: values split into byte planes, each plane through zstd; or integers packed.
//
// In bf16 and fp16 the high bytes hold sign and exponent, which repeat, and the
// low bytes hold mantissa, which does not; apart, the first kind compresses,
// and the second is stored as it is and costs nothing to read. Work is done in
// chunks of 256 KiB, so that scratch memory is bounded and stays in cache.
//
// The bytes are in docs/formats/envelope.md.
#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "storage/base/mutex.h"
#include "storage/base/status_macros.h"
#include "storage/codec/codec.h"
#include "storage/codec/packed_integers.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderSize = 8;
constexpr size_t kChunkSize = 256 << 10;
constexpr uint32_t kMaxPlanes = 4;
// Set in a plane's length: it is stored as it is.
constexpr uint32_t kStoredFlag = 0x80000000;
constexpr int kZstdLevel = 1;
// A plane that saves less than a 32nd is not worth its decoding time.
constexpr uint32_t kLeastGain = 32;

// Packing is tried where the first bytes get half as large by it: masks, ids. Tensors
// never do.
constexpr size_t kPackingProbe = 4096;

enum class Mode : uint8_t { kStored = 0, kPlanes = 1, kPacked = 2 };

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("lossless section: {}", what));
}

// Everything that one Encode or Decode needs beyond its arguments.
struct Workspace {
  struct FreeCompressor {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  struct FreeDecompressor {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> compressor;
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> decompressor;
  std::vector<uint8_t> planes;
};

// Bytes of plane `p` when `size` bytes are dealt to `planes` in turn.
size_t PlaneSize(size_t size, uint32_t planes, uint32_t p) {
  return size / planes + (p < size % planes ? 1 : 0);
}

template <uint32_t kPlanes>
void SplitInto(ByteView chunk, const std::array<uint8_t*, kMaxPlanes>& planes) {
  const size_t values = chunk.size() / kPlanes;
  const uint8_t* in = chunk.data();
  for (size_t i = 0; i < values; ++i) {
    for (uint32_t p = 0; p < kPlanes; ++p) planes[p][i] = in[i * kPlanes + p];
  }
  for (size_t rest = values * kPlanes; rest < chunk.size(); ++rest) {
    planes[rest % kPlanes][values] = in[rest];
  }
}

template <uint32_t kPlanes>
void JoinFrom(const std::array<const uint8_t*, kMaxPlanes>& planes, MutableByteView chunk) {
  const size_t values = chunk.size() / kPlanes;
  uint8_t* out = chunk.data();
  for (size_t i = 0; i < values; ++i) {
    for (uint32_t p = 0; p < kPlanes; ++p) out[i * kPlanes + p] = planes[p][i];
  }
  for (size_t rest = values * kPlanes; rest < chunk.size(); ++rest) {
    out[rest] = planes[rest % kPlanes][values];
  }
}

void Split(ByteView chunk, uint32_t count, const std::array<uint8_t*, kMaxPlanes>& planes) {
  switch (count) {
    case 1:
      return SplitInto<1>(chunk, planes);
    case 2:
      return SplitInto<2>(chunk, planes);
    default:
      return SplitInto<4>(chunk, planes);
  }
}

void Join(const std::array<const uint8_t*, kMaxPlanes>& planes, uint32_t count,
          MutableByteView chunk) {
  switch (count) {
    case 1:
      return JoinFrom<1>(planes, chunk);
    case 2:
      return JoinFrom<2>(planes, chunk);
    default:
      return JoinFrom<4>(planes, chunk);
  }
}

class LosslessCodec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kLossless; }
  uint64_t MaxEncodedSize(uint64_t exact_size) const override { return exact_size + kHeaderSize; }

  absl::StatusOr<uint64_t> Encode(ByteView exact, uint32_t element_bytes,
                                  MutableByteView into) const override;
  absl::Status Decode(ByteView encoded, MutableByteView exact) const override;

 private:
  // zstd's contexts cost tens of microseconds to make, so they are kept; at
  // most one for each thread that ever was inside at once.
  std::unique_ptr<Workspace> Borrow() const;
  void GiveBack(std::unique_ptr<Workspace> workspace) const;

  mutable Mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_ ABSL_GUARDED_BY(mutex_);
};

std::unique_ptr<Workspace> LosslessCodec::Borrow() const {
  {
    MutexLock lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(idle_.back());
      idle_.pop_back();
      return workspace;
    }
  }
  auto workspace = std::make_unique<Workspace>();
  workspace->compressor.reset(ZSTD_createCCtx());
  workspace->decompressor.reset(ZSTD_createDCtx());
  workspace->planes.resize(kChunkSize);
  return workspace;
}

void LosslessCodec::GiveBack(std::unique_ptr<Workspace> workspace) const {
  MutexLock lock(mutex_);
  idle_.push_back(std::move(workspace));
}

// Appends one chunk at `into`, or answers 0 if it does not fit.
size_t EncodeChunk(Workspace& workspace, ByteView chunk, uint32_t count, MutableByteView into) {
  std::array<uint8_t*, kMaxPlanes> planes{};
  uint8_t* next = workspace.planes.data();
  for (uint32_t p = 0; p < count; ++p) {
    planes[p] = next;
    next += PlaneSize(chunk.size(), count, p);
  }
  Split(chunk, count, planes);

  size_t used = count * sizeof(uint32_t);
  if (used > into.size()) return 0;
  for (uint32_t p = 0; p < count; ++p) {
    const size_t size = PlaneSize(chunk.size(), count, p);
    const size_t worthwhile = std::min(size - size / kLeastGain, into.size() - used);
    const size_t compressed = ZSTD_compressCCtx(workspace.compressor.get(), into.data() + used,
                                                worthwhile, planes[p], size, kZstdLevel);
    uint32_t length;
    if (!ZSTD_isError(compressed) && compressed < size) {
      length = static_cast<uint32_t>(compressed);
      used += compressed;
    } else {
      if (size > into.size() - used) return 0;
      std::memcpy(into.data() + used, planes[p], size);
      length = static_cast<uint32_t>(size) | kStoredFlag;
      used += size;
    }
    StoreLittle(into.data() + p * sizeof(uint32_t), length);
  }
  return used;
}

// The bytes packed, if they get half as large by it; otherwise empty.
std::vector<uint8_t> Packed(ByteView exact, uint32_t element_bytes) {
  const ByteView front = exact.first(std::min(exact.size(), kPackingProbe));
  std::array<uint8_t, kPackingProbe / 2> probe;
  const auto room = MutableByteView(probe).first(front.size() / 2);
  if (codec::PackIntegers(front, element_bytes, room) == 0) return {};
  std::vector<uint8_t> packed(exact.size() / 2);
  packed.resize(codec::PackIntegers(exact, element_bytes, packed));
  return packed;
}

absl::StatusOr<uint64_t> LosslessCodec::Encode(ByteView exact, uint32_t element_bytes,
                                               MutableByteView into) const {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4) {
    return absl::InvalidArgumentError(
        fmt::format("element_bytes is {}, not 1, 2 or 4", element_bytes));
  }
  if (into.size() < MaxEncodedSize(exact.size())) {
    return absl::InvalidArgumentError(
        fmt::format("room of {} bytes, not {} or more", into.size(), MaxEncodedSize(exact.size())));
  }
  std::memset(into.data(), 0, kHeaderSize);
  into[0] = kVersion;
  into[1] = static_cast<uint8_t>(Mode::kPlanes);
  into[2] = static_cast<uint8_t>(element_bytes);

  // What does not end below the exact size is stored as it is.
  const MutableByteView room = into.first(exact.size() + kHeaderSize);
  std::unique_ptr<Workspace> workspace = Borrow();
  size_t used = kHeaderSize;
  size_t offset = 0;
  while (offset < exact.size()) {
    const ByteView chunk = exact.subspan(offset, std::min(kChunkSize, exact.size() - offset));
    const size_t size = EncodeChunk(*workspace, chunk, element_bytes, room.subspan(used));
    if (size == 0) break;
    used += size;
    offset += chunk.size();
  }
  GiveBack(std::move(workspace));
  const bool in_planes = offset == exact.size() && used < kHeaderSize + exact.size();
  const std::vector<uint8_t> packed = Packed(exact, element_bytes);
  if (!packed.empty() && (!in_planes || kHeaderSize + packed.size() < used)) {
    into[1] = static_cast<uint8_t>(Mode::kPacked);
    CopyInto(packed, into.data() + kHeaderSize);
    return kHeaderSize + packed.size();
  }
  if (in_planes) return used;

  into[1] = static_cast<uint8_t>(Mode::kStored);
  if (!exact.empty()) std::memcpy(into.data() + kHeaderSize, exact.data(), exact.size());
  return kHeaderSize + exact.size();
}

absl::Status DecodeChunk(Workspace& workspace, ByteReader& reader, uint32_t count,
                         MutableByteView chunk) {
  std::array<uint32_t, kMaxPlanes> lengths{};
  for (uint32_t p = 0; p < count; ++p) lengths[p] = reader.Little<uint32_t>();
  std::array<const uint8_t*, kMaxPlanes> planes{};
  uint8_t* next = workspace.planes.data();
  for (uint32_t p = 0; p < count; ++p) {
    const size_t size = PlaneSize(chunk.size(), count, p);
    const ByteView stored = reader.Take(lengths[p] & ~kStoredFlag);
    if (!reader.ok()) return Damaged("cut short");
    if ((lengths[p] & kStoredFlag) != 0) {
      if (stored.size() != size) return Damaged("a stored plane of another size");
      planes[p] = stored.data();
      continue;
    }
    const size_t got =
        ZSTD_decompressDCtx(workspace.decompressor.get(), next, size, stored.data(), stored.size());
    if (ZSTD_isError(got) || got != size) return Damaged("a plane that does not decompress");
    planes[p] = next;
    next += size;
  }
  Join(planes, count, chunk);
  return absl::OkStatus();
}

absl::Status LosslessCodec::Decode(ByteView encoded, MutableByteView exact) const {
  ByteReader reader(encoded);
  const auto version = reader.Little<uint8_t>();
  const auto mode = reader.Little<uint8_t>();
  const auto count = reader.Little<uint8_t>();
  const ByteView reserved = reader.Take(kHeaderSize - 3);
  if (!reader.ok()) return Damaged("shorter than its header");
  if (version != kVersion) return Damaged(fmt::format("version {}", version));
  for (const uint8_t byte : reserved) {
    if (byte != 0) return Damaged("reserved bytes are not zero");
  }
  if (count != 1 && count != 2 && count != 4) return Damaged(fmt::format("{} planes", count));
  if (mode == static_cast<uint8_t>(Mode::kStored)) {
    const ByteView stored = reader.Take(reader.remaining());
    if (stored.size() != exact.size()) return Damaged("stored bytes of another size");
    std::copy(stored.begin(), stored.end(), exact.begin());
    return absl::OkStatus();
  }
  if (mode == static_cast<uint8_t>(Mode::kPacked)) {
    return codec::UnpackIntegers(reader.Take(reader.remaining()), count, exact);
  }
  if (mode != static_cast<uint8_t>(Mode::kPlanes)) return Damaged(fmt::format("mode {}", mode));

  std::unique_ptr<Workspace> workspace = Borrow();
  absl::Status status;
  for (size_t offset = 0; offset < exact.size() && status.ok(); offset += kChunkSize) {
    const size_t size = std::min(kChunkSize, exact.size() - offset);
    status = DecodeChunk(*workspace, reader, count, exact.subspan(offset, size));
  }
  GiveBack(std::move(workspace));
  if (status.ok() && reader.remaining() != 0) return Damaged("bytes behind the last plane");
  return status;
}

}  // namespace

std::unique_ptr<Codec> MakeLosslessCodec() { return std::make_unique<LosslessCodec>(); }

}  // namespace mnemo

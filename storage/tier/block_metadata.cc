// docs/formats/block-metadata.md.
#include <fmt/format.h>

#include "storage/base/checksum.h"
#include "storage/tier/block_level.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kPinnedFlag = 1;
constexpr uint64_t kChecksumSeed = 0x6d6e656d6f626d31;  // "mnemobm1"
// Everything but `parent`.
constexpr size_t kFixedSize = 64;
constexpr size_t kMaxParent = 64;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("block metadata: {}", what));
}

// 32 bits suffice beside the table checksums below; the fixed part stays at 64.
uint32_t ChecksumOf(std::string_view before, std::string_view after) {
  StreamingChecksum64 sum(kChecksumSeed);
  sum.Update(AsBytes(before));
  sum.Update(AsBytes(after));
  return static_cast<uint32_t>(sum.Digest());
}

}  // namespace

std::string EncodeMetadata(const BlockMetadata& metadata) {
  std::string out;
  out.reserve(kFixedSize + 1 + metadata.parent.size());
  AppendLittle<uint8_t>(out, kVersion);
  AppendLittle<uint8_t>(out, metadata.pinned ? kPinnedFlag : 0);
  AppendLittle<uint8_t>(out, metadata.codec);
  AppendLittle<uint8_t>(out, static_cast<uint8_t>(metadata.durability));
  AppendLittle<uint64_t>(out, metadata.digest.low);
  AppendLittle<uint64_t>(out, metadata.digest.high);
  AppendLittle<uint64_t>(out, metadata.payload_bytes);
  AppendLittle<uint64_t>(out, metadata.stored_bytes);
  AppendLittle<uint32_t>(out, metadata.depth);
  AppendLittle<uint16_t>(out, metadata.tokens);
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(metadata.parent.size()));
  AppendLittle<int64_t>(out, metadata.created.nanos);
  AppendLittle<int64_t>(out, metadata.expires.nanos);
  const uint32_t checksum = ChecksumOf(out, metadata.parent);
  AppendLittle<uint32_t>(out, checksum);
  out.append(metadata.parent);
  return out;
}

absl::StatusOr<BlockMetadata> DecodeMetadata(ByteView bytes) {
  ByteReader reader(bytes);
  BlockMetadata metadata;
  const auto version = reader.Little<uint8_t>();
  const auto flags = reader.Little<uint8_t>();
  metadata.codec = reader.Little<uint8_t>();
  const auto durability = reader.Little<uint8_t>();
  metadata.digest.low = reader.Little<uint64_t>();
  metadata.digest.high = reader.Little<uint64_t>();
  metadata.payload_bytes = reader.Little<uint64_t>();
  metadata.stored_bytes = reader.Little<uint64_t>();
  metadata.depth = reader.Little<uint32_t>();
  metadata.tokens = reader.Little<uint16_t>();
  const auto parent_size = reader.Little<uint16_t>();
  metadata.created.nanos = reader.Little<int64_t>();
  metadata.expires.nanos = reader.Little<int64_t>();
  const auto checksum = reader.Little<uint32_t>();
  if (!reader.ok()) return Damaged(fmt::format("{} bytes are too few", bytes.size()));
  if (version != kVersion) return Damaged(fmt::format("unknown version {}", version));
  if (parent_size > kMaxParent || reader.remaining() != parent_size) {
    return Damaged(fmt::format("parent of {} bytes, {} left (0 to {})", parent_size,
                               reader.remaining(), kMaxParent));
  }
  metadata.parent = std::string(AsText(reader.Take(parent_size)));
  const std::string_view fixed = AsText(bytes.first(kFixedSize - sizeof(checksum)));
  if (ChecksumOf(fixed, metadata.parent) != checksum) return Damaged("checksum mismatch");
  if (durability < 1 || durability > 3) return Damaged("unknown durability");
  if ((flags & ~kPinnedFlag) != 0) return Damaged("unknown flags");
  metadata.durability = static_cast<Durability>(durability);
  metadata.pinned = (flags & kPinnedFlag) != 0;
  return metadata;
}

}  // namespace mnemo

#include "storage/block/block_key.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kMaxSalt = 128;

absl::Status NotABlock(std::string_view what) {
  return absl::DataLossError(fmt::format("stored key of a block part: {}", what));
}

}  // namespace

absl::StatusOr<BlockKey> BlockKey::From(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > kMaxSize) {
    return absl::InvalidArgumentError(
        fmt::format("key has {} bytes, not 1 to {}", bytes.size(), kMaxSize));
  }
  BlockKey key;
  key.size_ = static_cast<uint8_t>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), key.bytes_.begin());
  return key;
}

uint64_t BlockKey::Hash(uint64_t seed) const { return Checksum64(AsBytes(view()), seed); }

absl::StatusOr<SaltDigest> DigestOfSalt(std::string_view salt) {
  if (salt.size() > kMaxSalt) {
    return absl::InvalidArgumentError(
        fmt::format("salt has {} bytes, not 0 to {}", salt.size(), kMaxSalt));
  }
  return salt.empty() ? SaltDigest{} : SecureDigest16(salt);
}

ShardPlacer::ShardPlacer(KeyScope scope, const SaltDigest& salt) {
  std::array<uint8_t, 32> where;
  StoreLittle(where.data(), scope.tenant);
  StoreLittle(where.data() + 8, scope.space);
  std::copy(salt.begin(), salt.end(), where.begin() + 16);
  seed_ = Checksum64(where);
}

uint16_t ShardPlacer::Of(std::string_view key_or_stretch) const {
  return static_cast<uint16_t>(Checksum64(AsBytes(key_or_stretch), seed_) % kShardCount);
}

uint16_t ShardOf(KeyScope scope, const SaltDigest& salt, std::string_view key_or_stretch) {
  return ShardPlacer(scope, salt).Of(key_or_stretch);
}

StoredKey PartKey::Stored() const {
  MNEMO_CHECK(!key.empty() && shard < kShardCount);
  std::string suffix;
  suffix.reserve(salt.size() + 1 + key.size() + 5);
  suffix.append(reinterpret_cast<const char*>(salt.data()), salt.size());
  suffix.push_back(static_cast<char>(key.size()));
  suffix.append(key.view());
  suffix.push_back(static_cast<char>(part.group));
  AppendBig<uint16_t>(suffix, part.tp_rank);
  AppendBig<uint16_t>(suffix, part.pp_rank);
  return StoredKey(shard, KeyKind::kBlock, scope, suffix);
}

absl::StatusOr<PartKey> PartKey::FromStored(const StoredKey& stored) {
  if (!stored.valid()) return NotABlock("not a stored key");
  if (stored.kind() != KeyKind::kBlock) return NotABlock("of another kind");
  ByteReader reader(AsBytes(stored.suffix()));
  PartKey parsed;
  parsed.scope = stored.scope();
  parsed.shard = stored.shard();
  const ByteView salt = reader.Take(parsed.salt.size());
  const ByteView key = reader.Take(reader.Little<uint8_t>());
  parsed.part.group = reader.Little<uint8_t>();
  parsed.part.tp_rank = reader.Big<uint16_t>();
  parsed.part.pp_rank = reader.Big<uint16_t>();
  if (!reader.ok()) return NotABlock("cut short");
  if (reader.remaining() != 0) {
    return NotABlock(fmt::format("{} bytes too many", reader.remaining()));
  }
  const absl::StatusOr<BlockKey> block_key = BlockKey::From(AsText(key));
  if (!block_key.ok()) return NotABlock(fmt::format("key of {} bytes", key.size()));
  std::copy(salt.begin(), salt.end(), parsed.salt.begin());
  parsed.key = *block_key;
  return parsed;
}

std::string BlockPrefix(uint16_t shard, KeyScope scope) {
  return StoredKey(shard, KeyKind::kBlock, scope, {}).bytes();
}

std::string BlockPrefix(uint16_t shard, KeyScope scope, const SaltDigest& salt) {
  return StoredKey(shard, KeyKind::kBlock, scope,
                   {reinterpret_cast<const char*>(salt.data()), salt.size()})
      .bytes();
}

}  // namespace mnemo
